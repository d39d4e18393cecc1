/*
 * Images with wrong bytes, by the thousand, through the fuzzer's own function
 * (tests/fuzz/fuzz-view.c) and the corpus: nothing is read outside of them.
 */
#include "test.h"

#include "proto/image-builder.h"
#include "tests/unit/corpus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROUNDS 30000

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void *an_image(size_t *ret_size)
{
	struct records records = { 0 };
	char key[32], value[32];
	void *data;

	for (unsigned i = 0; i < 40; i++) {
		const struct record record = {
			.key = key,
			.key_len = (uint32_t)snprintf(key, sizeof(key), "db/%02u", i),
			.value = value,
			.value_len = (uint32_t)snprintf(value, sizeof(value), "value %u", i * i),
		};

		assert_int_equal(records_append(&records, &record), 0);
	}
	assert_int_equal(image_build(&records, 7, &data, ret_size), 0);
	records_done(&records);
	return data;
}

/* Numbers that are offsets and lengths somewhere, next to plain noise. */
static void spoil(uint8_t *data, size_t size)
{
	static const uint32_t edges[] = { 0, 1, 7, 8, 127, 128, 0x7fffffff, 0x80000000, 0xfffffff8,
		0xffffffff };
	size_t at = next_random() % size;
	uint32_t edge;

	switch (next_random() % 4) {
	case 0:
		data[at] ^= (uint8_t)(1u << next_random() % 8);
		break;
	case 1:
		data[at] = (uint8_t)next_random();
		break;
	case 2:
		edge = edges[next_random() % ARRAY_SIZE(edges)];
		at -= at % sizeof(edge);
		memcpy(data + at, &edge, MIN(sizeof(edge), size - at));
		break;
	case 3:
		edge = (uint32_t)(size + next_random() % 64 - 32);
		at -= at % sizeof(edge);
		memcpy(data + at, &edge, MIN(sizeof(edge), size - at));
		break;
	}
}

static void wrong_bytes_are_survived(void **state)
{
	size_t size;
	AUTO_FREE uint8_t *good = an_image(&size);
	AUTO_FREE uint8_t *bad = malloc(size);

	(void)state;
	assert_non_null(bad);
	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned n = 1 + (unsigned)(next_random() % 4);

		memcpy(bad, good, size);
		/* Every other time in the header. */
		while (n-- > 0)
			spoil(bad, i % 2 ? size : 128);
		assert_int_equal(LLVMFuzzerTestOneInput(bad, size), 0);
	}
}

static void images_cut_anywhere_are_survived(void **state)
{
	size_t size;
	AUTO_FREE uint8_t *good = an_image(&size);

	(void)state;
	for (size_t len = 0; len <= size; len++)
		assert_int_equal(LLVMFuzzerTestOneInput(good, len), 0);
}

/* Same content, same bytes, whoever wrote them. */
static void assert_writer_agrees(const char *name, const struct image *image)
{
	struct records records = { 0 };
	struct record record;
	size_t cursor = 0, size;
	void *data;

	while (image_next(image, "", 0, &cursor, &record))
		assert_int_equal(records_append(&records, &record), 0);
	assert_int_equal(image_build(&records, image->digest, &data, &size), 0);
	if (size != image->size || memcmp(data, image->data, size) != 0)
		fail_msg("%s is not what the writer makes of its entries", name);
	records_done(&records);
	free(data);
}

static void judge(const char *name, const uint8_t *data, size_t size, bool is_good, void *userdata)
{
	struct image image;
	bool is_taken = image_open(data, size, &image) == 0 && image_verify(&image) == 0;

	(void)userdata;
	if (is_taken != is_good)
		fail_msg("%s was %s", name, is_taken ? "taken" : "refused");
	if (is_good && !strstr(name, "later-minor"))
		assert_writer_agrees(name, &image);
	assert_int_equal(LLVMFuzzerTestOneInput(data, size), 0);
}

static void the_corpus_is_judged_by_its_names(void **state)
{
	(void)state;
	corpus_each("image", 7, 35, judge, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_bytes_are_survived),
		cmocka_unit_test(images_cut_anywhere_are_survived),
		cmocka_unit_test(the_corpus_is_judged_by_its_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
