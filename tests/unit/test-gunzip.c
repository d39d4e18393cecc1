#include "test.h"

#include <zlib.h>

#include "daemon/gunzip.h"

#define SIZE ((size_t)20000)

struct bytes {
	uint8_t *data;
	size_t size;
};

static struct bytes plain, packed;

/* window_bits: 15 + 16 is gzip, 15 zlib, -15 neither's header. */
static struct bytes compress_as(struct bytes from, int window_bits)
{
	struct bytes to = { .data = malloc(from.size + 1024) };
	z_stream stream = { .next_in = from.data,
		.avail_in = (uInt)from.size,
		.next_out = to.data,
		.avail_out = (uInt)from.size + 1024 };

	assert_non_null(to.data);
	assert_int_equal(
		deflateInit2(&stream, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
	to.size = stream.total_out;
	deflateEnd(&stream);
	return to;
}

static int set_up(void **state)
{
	uint32_t random = 1;

	(void)state;
	plain = (struct bytes){ malloc(SIZE), SIZE };
	assert_non_null(plain.data);
	for (size_t i = 0; i < SIZE; i++) {
		random = random * 1664525 + 1013904223;
		plain.data[i] = "0123456789abcdef"[random >> 28];
	}
	packed = compress_as(plain, MAX_WBITS + 16);
	assert_in_range(packed.size, SIZE / 4, SIZE);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(plain.data);
	free(packed.data);
	return 0;
}

static struct gunzip *new_gunzip(void)
{
	struct gunzip *gunzip;

	assert_int_equal(gunzip_new(&gunzip), 0);
	return gunzip;
}

/* All output of one piece of input, in blocks, behind *got. The sum, or the error. */
static ssize_t feed(
	struct gunzip *gunzip, const uint8_t *data, size_t len, size_t block, struct bytes *got)
{
	uint8_t *copy = test_copy(data, len), *out = malloc(block);
	const uint8_t *next = copy;
	ssize_t n, sum = 0;

	assert_non_null(out);
	while ((n = gunzip_step(gunzip, &next, &len, out, block)) > 0) {
		assert_in_range(n, 1, block);
		assert_true(got->size + (size_t)n <= SIZE);
		memcpy(got->data + got->size, out, (size_t)n);
		got->size += (size_t)n;
		sum += n;
	}
	if (n == 0)
		assert_int_equal(len, 0);
	free(copy);
	free(out);
	return n < 0 ? n : sum;
}

static void expect_bad(const uint8_t *data, size_t size)
{
	struct gunzip *gunzip = new_gunzip();
	struct bytes got = { .data = malloc(SIZE) };

	assert_non_null(got.data);
	assert_int_equal(feed(gunzip, data, size, 4096, &got), -EBADMSG);
	free(got.data);
	gunzip_free(gunzip);
}

static void pieces_and_blocks_of_any_size_give_the_same_bytes(void **state)
{
	static const size_t pieces[] = { 1, 2, 7, 18, 1000, SIZE };
	static const size_t blocks[] = { 1, 3, 4096, SIZE, 2 * SIZE };
	struct bytes got = { .data = malloc(SIZE) };

	(void)state;
	assert_non_null(got.data);
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(blocks); j++) {
			struct gunzip *gunzip = new_gunzip();

			got.size = 0;
			for (size_t off = 0; off < packed.size; off += pieces[i]) {
				assert_false(gunzip_is_complete(gunzip));
				assert_true(feed(gunzip, packed.data + off,
						    MIN(pieces[i], packed.size - off), blocks[j],
						    &got) >= 0);
			}
			assert_true(gunzip_is_complete(gunzip));
			assert_int_equal(got.size, SIZE);
			assert_memory_equal(got.data, plain.data, SIZE);
			gunzip_free(gunzip);
		}
	}
	free(got.data);
}

static void nothing_at_all_is_an_answer_that_is_not_complete(void **state)
{
	struct gunzip *gunzip = new_gunzip();
	struct bytes got = { 0 };

	(void)state;
	assert_int_equal(feed(gunzip, packed.data, 0, 64, &got), 0);
	assert_false(gunzip_is_complete(gunzip));
	gunzip_free(gunzip);
	assert_null(gunzip_free(NULL));
}

static void gzip_of_nothing_is_complete(void **state)
{
	struct bytes empty = compress_as((struct bytes){ 0 }, MAX_WBITS + 16), got = { 0 };
	struct gunzip *gunzip = new_gunzip();

	(void)state;
	assert_int_equal(feed(gunzip, empty.data, empty.size, 64, &got), 0);
	assert_true(gunzip_is_complete(gunzip));
	gunzip_free(gunzip);
	/* No output came before the byte behind it. */
	empty.data[empty.size] = 0;
	expect_bad(empty.data, empty.size + 1);
	free(empty.data);
}

static void one_that_is_cut_anywhere_is_no_error_and_not_complete(void **state)
{
	struct bytes got = { .data = malloc(SIZE) };

	(void)state;
	assert_non_null(got.data);
	for (size_t cut = 1; cut < packed.size; cut += cut < 40 ? 1 : 211) {
		struct gunzip *gunzip = new_gunzip();

		got.size = 0;
		assert_true(feed(gunzip, packed.data, packed.size - cut, 4096, &got) >= 0);
		assert_false(gunzip_is_complete(gunzip));
		assert_memory_equal(got.data, plain.data, got.size);
		gunzip_free(gunzip);
	}
	free(got.data);
}

static void what_is_not_gzip_is_refused(void **state)
{
	static const uint8_t json[] = "[{\"Key\":\"a\",\"Value\":null}]";
	struct bytes zlib = compress_as(plain, MAX_WBITS), raw = compress_as(plain, -MAX_WBITS);

	(void)state;
	expect_bad(json, sizeof(json) - 1);
	expect_bad(plain.data, plain.size);
	expect_bad(zlib.data, zlib.size);
	expect_bad(raw.data, raw.size);
	free(zlib.data);
	free(raw.data);
}

static void a_damaged_header_body_or_checksum_is_refused(void **state)
{
	static const size_t from_the_end[] = { 1, 4, 5, 8 }; /* length, checksum */
	size_t from_the_start[] = { 0, 1, 2 }; /* magic, method */

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(from_the_start); i++) {
		packed.data[from_the_start[i]] ^= 0x10;
		expect_bad(packed.data, packed.size);
		packed.data[from_the_start[i]] ^= 0x10;
	}
	packed.data[packed.size / 2] ^= 0x10;
	expect_bad(packed.data, packed.size);
	packed.data[packed.size / 2] ^= 0x10;
	for (size_t i = 0; i < ARRAY_SIZE(from_the_end); i++) {
		packed.data[packed.size - from_the_end[i]] ^= 0x10;
		expect_bad(packed.data, packed.size);
		packed.data[packed.size - from_the_end[i]] ^= 0x10;
	}
}

/* Consul writes one member; what a second one adds is nobody's. */
static void a_second_member_or_any_byte_behind_the_end_is_refused(void **state)
{
	struct bytes twice = { malloc(packed.size * 2), packed.size * 2 };
	struct bytes got = { .data = malloc(SIZE) };
	struct gunzip *gunzip = new_gunzip();

	(void)state;
	assert_non_null(twice.data);
	assert_non_null(got.data);
	memcpy(twice.data, packed.data, packed.size);
	memcpy(twice.data + packed.size, packed.data, packed.size);
	expect_bad(twice.data, twice.size);
	expect_bad(twice.data, packed.size + 1);
	/* In a piece of its own too. */
	assert_int_equal(feed(gunzip, packed.data, packed.size, 4096, &got), SIZE);
	assert_int_equal(feed(gunzip, packed.data, 0, 4096, &got), 0);
	assert_int_equal(feed(gunzip, packed.data, 1, 4096, &got), -EBADMSG);
	gunzip_free(gunzip);
	free(twice.data);
	free(got.data);
}

static void a_bomb_comes_one_block_at_a_time_and_can_be_left(void **state)
{
	struct bytes zeros = { calloc(1, 16 << 20), 16 << 20 }, bomb;
	struct gunzip *gunzip = new_gunzip();
	const uint8_t *next;
	uint8_t block[4096];
	size_t len;

	(void)state;
	assert_non_null(zeros.data);
	bomb = compress_as(zeros, MAX_WBITS + 16);
	assert_true(bomb.size < zeros.size / 900);
	next = bomb.data;
	len = bomb.size;
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(
			gunzip_step(gunzip, &next, &len, block, sizeof(block)), sizeof(block));
		assert_memory_equal(block, zeros.data, sizeof(block));
	}
	/* What was not asked for yet is still input. */
	assert_true(len > bomb.size / 2);
	assert_ptr_equal(next + len, bomb.data + bomb.size);
	assert_false(gunzip_is_complete(gunzip));
	gunzip_free(gunzip);
	free(zeros.data);
	free(bomb.data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pieces_and_blocks_of_any_size_give_the_same_bytes),
		TEST(nothing_at_all_is_an_answer_that_is_not_complete),
		TEST(gzip_of_nothing_is_complete),
		TEST(one_that_is_cut_anywhere_is_no_error_and_not_complete),
		TEST(what_is_not_gzip_is_refused),
		TEST(a_damaged_header_body_or_checksum_is_refused),
		TEST(a_second_member_or_any_byte_behind_the_end_is_refused),
		TEST(a_bomb_comes_one_block_at_a_time_and_can_be_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
