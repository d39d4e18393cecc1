#include "test.h"

#include "daemon/buffer.h"

static void append(struct buffer *buffer, const void *data, size_t len)
{
	assert_int_equal(buffer_append(buffer, data, len), 0);
}

static void expect_bytes(const struct buffer *buffer, const char *expected)
{
	assert_int_equal(buffer->len, strlen(expected));
	assert_memory_equal(buffer_bytes(buffer), expected, buffer->len);
}

static void expect_nothing_held(const struct buffer *buffer)
{
	assert_null(buffer_bytes(buffer));
	assert_int_equal(buffer->off, 0);
	assert_int_equal(buffer->len, 0);
	assert_int_equal(buffer->allocated, 0);
}

static void zeroed_memory_is_an_empty_buffer(void **state)
{
	struct buffer buffer = { 0 };

	(void)state;
	expect_nothing_held(&buffer);
	append(&buffer, "", 0);
	append(&buffer, NULL, 0);
	expect_nothing_held(&buffer);
	buffer_done(&buffer);
	buffer_done(&buffer);
	expect_nothing_held(&buffer);
}

static void bytes_come_out_in_the_order_they_went_in(void **state)
{
	struct buffer buffer = { 0 };

	(void)state;
	append(&buffer, "abc", 3);
	append(&buffer, "", 0);
	append(&buffer, "de", 2);
	expect_bytes(&buffer, "abcde");
	buffer_consume(&buffer, 0);
	expect_bytes(&buffer, "abcde");
	buffer_consume(&buffer, 2);
	expect_bytes(&buffer, "cde");
	append(&buffer, "fg", 2);
	expect_bytes(&buffer, "cdefg");
	buffer_consume(&buffer, 4);
	expect_bytes(&buffer, "g");
	buffer_done(&buffer);
}

static void the_last_byte_gives_the_memory_back(void **state)
{
	struct buffer buffer = { 0 };

	(void)state;
	append(&buffer, "abc", 3);
	buffer_consume(&buffer, 1);
	buffer_consume(&buffer, 2);
	expect_nothing_held(&buffer);
	append(&buffer, "again", 5);
	expect_bytes(&buffer, "again");
	buffer_done(&buffer);
	expect_nothing_held(&buffer);
}

static void consumed_room_is_used_again_before_more_is_taken(void **state)
{
	struct buffer buffer = { 0 };
	char fill[4096];
	size_t allocated;

	(void)state;
	memset(fill, '.', sizeof(fill));
	append(&buffer, "x", 1);
	allocated = buffer.allocated;
	assert_in_range(allocated, 8, sizeof(fill));
	append(&buffer, fill, allocated - 5);
	append(&buffer, "last", 4);
	assert_int_equal(buffer.allocated, allocated);
	buffer_consume(&buffer, allocated - 4);
	append(&buffer, fill, allocated - 4);
	assert_int_equal(buffer.allocated, allocated);
	assert_int_equal(buffer.len, allocated);
	assert_memory_equal(buffer_bytes(&buffer), "last.", 5);
	append(&buffer, "y", 1);
	assert_true(buffer.allocated > allocated);
	assert_memory_equal(buffer_bytes(&buffer), "last.", 5);
	assert_int_equal(buffer_bytes(&buffer)[allocated], 'y');
	buffer_done(&buffer);
}

static void a_piece_larger_than_the_growth_fits(void **state)
{
	struct buffer buffer = { 0 };
	size_t size = 1 << 20;
	uint8_t *data = malloc(size);

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(i % 251);
	append(&buffer, "abc", 3);
	append(&buffer, data, size);
	assert_int_equal(buffer.len, size + 3);
	buffer_consume(&buffer, 3);
	assert_memory_equal(buffer_bytes(&buffer), data, size);
	buffer_done(&buffer);
	free(data);
}

static void a_long_stream_passes_through_little_memory(void **state)
{
	struct buffer buffer = { 0 };
	uint32_t in = 0, out = 0;

	(void)state;
	/* Between one and 40 numbers are on their way at any time. */
	while (out < 100000) {
		for (unsigned i = 0; i < 1 + in % 7 || buffer.len < sizeof(in); i++, in++)
			append(&buffer, &in, sizeof(in));
		while (buffer.len > (in % 5 == 0 ? 1 : 33) * sizeof(out)) {
			assert_memory_equal(buffer_bytes(&buffer), &out, sizeof(out));
			buffer_consume(&buffer, sizeof(out));
			out++;
		}
		assert_int_equal(buffer.len, (in - out) * sizeof(in));
		assert_in_range(buffer.allocated, buffer.len, 1024);
	}
	buffer_done(&buffer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeroed_memory_is_an_empty_buffer),
		cmocka_unit_test(bytes_come_out_in_the_order_they_went_in),
		cmocka_unit_test(the_last_byte_gives_the_memory_back),
		cmocka_unit_test(consumed_room_is_used_again_before_more_is_taken),
		cmocka_unit_test(a_piece_larger_than_the_growth_fits),
		cmocka_unit_test(a_long_stream_passes_through_little_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
