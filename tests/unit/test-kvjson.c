#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "daemon/base64.h"
#include "daemon/kvjson.h"
#include "test.h"

#define PREFIX "config/a/"
#define MAX_VALUE 100000
#define MAX_SET (1u << 20)

struct parsed {
	struct kvset *set;
	int r;
	char message[80];
};

/* Feeds in chunks of the given size, each on the heap so that a read beyond its end is found. */
static struct parsed parse_limited(
	const void *data, size_t size, size_t chunk, uint64_t max_value, size_t max_set)
{
	struct parsed parsed = { 0 };
	struct kvjson *kvjson;

	assert_int_equal(kvset_new(max_set, NULL, &parsed.set), 0);
	assert_int_equal(kvjson_new(PREFIX, max_value, parsed.set, &kvjson), 0);
	for (size_t off = 0; off < size && parsed.r == 0; off += chunk) {
		size_t n = MIN(chunk, size - off);
		void *copy = test_copy((const char *)data + off, n);

		parsed.r = kvjson_feed(kvjson, copy, n);
		free(copy);
	}
	if (parsed.r == 0)
		parsed.r = kvjson_finish(kvjson);
	else
		assert_int_equal(kvjson_finish(kvjson), parsed.r);
	snprintf(parsed.message, sizeof(parsed.message), "%s", kvjson_error(kvjson) ?: "");
	kvjson_free(kvjson);
	assert_int_equal(kvset_finish(parsed.set), 0);
	return parsed;
}

static struct parsed parse(const char *text)
{
	return parse_limited(text, strlen(text), 7, MAX_VALUE, MAX_SET);
}

static struct record record_at(const struct kvset *set, size_t i)
{
	struct record record = { 0 };
	size_t off = 0;

	assert_true(i < set->records.n);
	for (size_t n = 0; n <= i; n++) {
		off = record_decode(set->records.data, set->records.size, off, &record);
		assert_true(off > 0);
	}
	return record;
}

static void assert_entry(const struct kvset *set, size_t i, const char *key, const char *value)
{
	struct record record = record_at(set, i);

	assert_string_equal(record.key, key);
	assert_int_equal(record.value_len, strlen(value));
	assert_memory_equal(record.value, value, record.value_len);
}

static void an_answer_becomes_entries_relative_to_the_prefix(void **state)
{
	struct parsed p = parse("[{\"LockIndex\":0,\"Key\":\"config/a/db/url\",\"Flags\":42,"
				"\"Value\":\"cG9zdGdyZXM=\",\"CreateIndex\":5,\"ModifyIndex\":77},"
				"{\"Key\":\"config/a/ttl\",\"Value\":null}]");

	(void)state;
	assert_int_equal(p.r, 0);
	assert_int_equal(p.set->records.n, 2);
	assert_entry(p.set, 0, "db/url", "postgres");
	assert_int_equal(record_at(p.set, 0).flags, 42);
	assert_int_equal(record_at(p.set, 0).modify_index, 77);
	assert_entry(p.set, 1, "ttl", "");
	assert_int_equal(record_at(p.set, 1).flags, 0);
	kvset_unref(p.set);
}

static void folders_and_the_prefix_itself_are_no_entries(void **state)
{
	struct parsed p = parse("[{\"Key\":\"config/a/\",\"Value\":null},"
				"{\"Key\":\"config/a/db/\",\"Value\":null},"
				"{\"Key\":\"config/a/full/\",\"Value\":\"eA==\"}]");

	(void)state;
	assert_int_equal(p.r, 0);
	assert_int_equal(p.set->records.n, 1);
	assert_entry(p.set, 0, "full/", "x");
	assert_int_equal(p.set->n_skipped, 0);
	kvset_unref(p.set);
}

static void the_last_of_duplicate_members_counts(void **state)
{
	struct parsed p = parse(
		"[{\"Key\":\"config/a/w\",\"Value\":\"eQ==\",\"Flags\":1,\"Key\":\"config/a/x\","
		"\"Value\":null,\"Flags\":2},"
		"{\"Key\":\"config/a/y/\",\"Value\":null,\"Value\":\"eg==\"}]");

	(void)state;
	assert_int_equal(p.r, 0);
	assert_int_equal(p.set->records.n, 2);
	assert_entry(p.set, 0, "x", "");
	assert_int_equal(record_at(p.set, 0).flags, 2);
	assert_entry(p.set, 1, "y/", "z");
	kvset_unref(p.set);
}

static void keys_that_are_none_are_counted(void **state)
{
	struct parsed p = parse("[{\"Key\":\"config/a/a\\u0000b\",\"Value\":\"eA==\"},"
				"{\"Key\":\"config/a/ok\",\"Value\":\"eA==\"}]");

	(void)state;
	assert_int_equal(p.r, 0);
	assert_int_equal(p.set->records.n, 1);
	assert_int_equal(p.set->n_skipped, 1);
	kvset_unref(p.set);
}

static void limits_are_exact(void **state)
{
	static const char answer[] = "[{\"Key\":\"config/a/x\",\"Value\":\"MDEyMzQ1Njc4OQ==\"}]";
	size_t size = record_size(1, 10, false);
	struct parsed p;

	(void)state;
	for (size_t chunk = 1; chunk < sizeof(answer); chunk += 13) {
		p = parse_limited(answer, sizeof(answer) - 1, chunk, 10, size);
		assert_int_equal(p.r, 0);
		kvset_unref(p.set);
		p = parse_limited(answer, sizeof(answer) - 1, chunk, 9, size);
		assert_int_equal(p.r, -EFBIG);
		assert_string_equal(p.message, "a value larger than max_value");
		kvset_unref(p.set);
		p = parse_limited(answer, sizeof(answer) - 1, chunk, 10, size - 1);
		assert_int_equal(p.r, -EFBIG);
		assert_string_equal(p.message, "larger than max_service");
		kvset_unref(p.set);
	}
}

static void a_string_without_end_is_given_up(void **state)
{
	static char chunk[1 << 16];
	struct kvset *set;
	struct kvjson *kvjson;
	size_t n = 0;
	int r;

	(void)state;
	memset(chunk, 'A', sizeof(chunk));
	assert_int_equal(kvset_new(MAX_SET, NULL, &set), 0);
	assert_int_equal(kvjson_new(PREFIX, MAX_VALUE, set, &kvjson), 0);
	assert_int_equal(kvjson_feed(kvjson, "[{\"Key\":\"", 9), 0);
	do {
		r = kvjson_feed(kvjson, chunk, sizeof(chunk));
		n += sizeof(chunk);
	} while (r == 0 && n < 64 << 20);
	assert_int_equal(r, -EFBIG);
	assert_true(n < 8 << 20);
	kvjson_free(kvjson);
	kvset_unref(set);
}

static void a_long_key_is_skipped_and_not_refused(void **state)
{
	enum { LEN = 300000 };
	char *answer = malloc(LEN * 6 + 100), *p = answer;
	struct parsed parsed;

	(void)state;
	p = stpcpy(p, "[{\"Key\":\"config/a/");
	for (unsigned i = 0; i < LEN; i++)
		p = stpcpy(p, "\\u003c");
	p = stpcpy(p, "\",\"Value\":\"eA==\"}]");
	parsed = parse_limited(answer, (size_t)(p - answer), 16384, MAX_VALUE, MAX_SET);
	assert_int_equal(parsed.r, 0);
	assert_int_equal(parsed.set->n_skipped, 1);
	kvset_unref(parsed.set);
	free(answer);
}

static void *read_file(const char *folder, const char *name, size_t *ret_size)
{
	struct stat st;
	char *path;
	void *data;
	int fd;

	assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	free(path);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	data = malloc((size_t)st.st_size + 1);
	assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
	close(fd);
	*ret_size = (size_t)st.st_size;
	return data;
}

static void replay(const char *folder, const char *name)
{
	static const size_t chunks[] = { 1, 2, 3, 7, 64, 1000, 4096, 1 << 20 };
	size_t size;
	char *data = read_file(folder, name, &size);
	struct kvset *first = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(chunks); i++) {
		struct parsed p = parse_limited(data, size, chunks[i], MAX_VALUE, MAX_SET);
		int expected = strncmp(name, "ok-", 3) == 0 ? 0 : -EBADMSG;

		if (p.r != expected)
			fail_msg("%s in chunks of %zu: %d (%s)", name, chunks[i], p.r, p.message);
		if (first && expected == 0 &&
			(!kvset_same(first, p.set) || first->n_skipped != p.set->n_skipped))
			fail_msg("%s in chunks of %zu: another content", name, chunks[i]);
		if (!first)
			first = kvset_ref(p.set);
		kvset_unref(p.set);
	}
	kvset_unref(first);
	free(data);
}

static void the_corpus_is_taken_and_refused_in_chunks_of_any_size(void **state)
{
	char folder[4096];
	unsigned n_ok = 0, n_bad = 0;
	struct dirent *entry;
	DIR *dir;

	(void)state;
	snprintf(folder, sizeof(folder), "%s/kvjson", getenv("CORPUS") ?: "tests/corpus");
	dir = opendir(folder);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		n_ok += strncmp(entry->d_name, "ok-", 3) == 0;
		n_bad += strncmp(entry->d_name, "bad-", 4) == 0;
		replay(folder, entry->d_name);
	}
	closedir(dir);
	assert_true(n_ok >= 20);
	assert_true(n_bad >= 50);
}

static void base64_has_one_way_to_write_each_value(void **state)
{
	static const struct {
		const char *text;
		const char *bytes; /* NULL: not base64 */
	} cases[] = {
		{ "", "" },
		{ "YQ==", "a" },
		{ "YWI=", "ab" },
		{ "YWJj", "abc" },
		{ "YWJjZA==", "abcd" },
		{ "+/+/", "\xfb\xff\xbf" },
		{ "YR==", NULL },
		{ "YWJ=", NULL },
		{ "YQ", NULL },
		{ "YQ=", NULL },
		{ "Y===", NULL },
		{ "====", NULL },
		{ "=", NULL },
		{ "YQ==YQ==", NULL },
		{ "YW=j", NULL },
		{ "YW-j", NULL },
		{ "YW j", NULL },
		{ "YWJjYW\xffj", NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t len = strlen(cases[i].text), n = base64_decoded_len(cases[i].text, len);
		char *text = test_copy(cases[i].text, len), *buf = malloc(n > 0 ? n : 1);

		if (cases[i].bytes) {
			assert_int_equal(n, strlen(cases[i].bytes));
			assert_int_equal(base64_decode(text, len, buf), 0);
			assert_memory_equal(buf, cases[i].bytes, n);
		} else {
			assert_int_equal(base64_decode(text, len, buf), -EBADMSG);
		}
		free(text);
		free(buf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_becomes_entries_relative_to_the_prefix),
		cmocka_unit_test(folders_and_the_prefix_itself_are_no_entries),
		cmocka_unit_test(the_last_of_duplicate_members_counts),
		cmocka_unit_test(keys_that_are_none_are_counted),
		cmocka_unit_test(limits_are_exact),
		cmocka_unit_test(a_string_without_end_is_given_up),
		cmocka_unit_test(a_long_key_is_skipped_and_not_refused),
		cmocka_unit_test(the_corpus_is_taken_and_refused_in_chunks_of_any_size),
		cmocka_unit_test(base64_has_one_way_to_write_each_value),
	};

	return cmocka_run_group_tests_name("kvjson", tests, NULL, NULL);
}
