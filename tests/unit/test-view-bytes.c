/*
 * Images with wrong bytes, by the thousand, through the fuzzer's own function
 * (tests/fuzz/fuzz-view.c) and the corpus: nothing is read outside of them.
 */
#include "test.h"

#include <dirent.h>

#include "proto/image-builder.h"

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

static void the_corpus_is_survived(void **state)
{
	static uint8_t data[1 << 16];
	char folder[512], path[1024];
	struct dirent *entry;
	unsigned n = 0;
	DIR *dir;

	(void)state;
	snprintf(folder, sizeof(folder), "%s/image", getenv("CORPUS") ?: "tests/corpus");
	dir = opendir(folder);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		FILE *file;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		file = fopen(path, "re");
		assert_non_null(file);
		LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof(data), file));
		fclose(file);
		n++;
	}
	closedir(dir);
	assert_true(n >= 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_bytes_are_survived),
		cmocka_unit_test(images_cut_anywhere_are_survived),
		cmocka_unit_test(the_corpus_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
