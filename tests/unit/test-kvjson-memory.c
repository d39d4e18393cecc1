/*
 * kvjson with an allocator that fails: every call once, and every call from one on. yajl itself
 * would write through NULL.
 */
#include <stdlib.h>

static long fail_at; /* this call, counted from 1 */
static int fail_for_good;
static long n_calls;

static int is_failing(void)
{
	n_calls++;
	return fail_at > 0 && (fail_for_good ? n_calls >= fail_at : n_calls == fail_at);
}

static void *failing_malloc(size_t size)
{
	return is_failing() ? NULL : malloc(size);
}

static void *failing_realloc(void *ptr, size_t size)
{
	return is_failing() ? NULL : realloc(ptr, size);
}

static void *failing_calloc(size_t n, size_t size)
{
	return is_failing() ? NULL : calloc(n, size);
}

#include "proto/std.h"

#include <assert.h>
#include <malloc.h>

#include "daemon/kvset.h"

#define malloc failing_malloc
#define realloc failing_realloc
#define calloc failing_calloc
#include "daemon/kvjson.c"
#undef malloc
#undef realloc
#undef calloc

#include "test.h"

/* Long strings with escapes, in chunks: makes both of yajl's buffers grow. */
static char *make_answer(size_t *ret_len)
{
	char *answer = malloc(1 << 20), *p = answer;

	assert_non_null(answer);
	p = stpcpy(p, "[");
	for (unsigned i = 0; i < 6; i++) {
		p = stpcpy(p, i > 0 ? ",{\"Key\":\"config/a/" : "{\"Key\":\"config/a/");
		for (unsigned n = 0; n < 100u << (2 * i) && n < 5000; n++)
			p = stpcpy(p, "k\\u003c");
		p = stpcpy(p, "\",\"X\":[1,null],\"Value\":\"");
		for (unsigned n = 0; n < 100u << (2 * i) && n < 5000; n++)
			p = stpcpy(p, "QUJ\\u0044");
		p = stpcpy(p, "\",\"Flags\":7}");
	}
	p = stpcpy(p, "]");
	*ret_len = (size_t)(p - answer);
	return answer;
}

static int parse(const char *answer, size_t len, size_t chunk)
{
	struct kvjson *kvjson;
	struct kvset *set;
	int r;

	assert_int_equal(kvset_new(1 << 20, NULL, &set), 0);
	r = kvjson_new("config/a/", 1 << 20, set, &kvjson);
	if (r == 0) {
		for (size_t off = 0; off < len && r == 0; off += chunk)
			r = kvjson_feed(kvjson, answer + off, MIN(chunk, len - off));
		if (r == 0)
			r = kvjson_finish(kvjson);
		kvjson_free(kvjson);
	}
	kvset_unref(set);
	return r;
}

static void every_allocation_may_fail(void **state)
{
	static const size_t chunks[] = { 100, 4096, 1 << 20 };
	size_t len;
	char *answer = make_answer(&len);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(chunks); i++) {
		long n;

		fail_at = n_calls = 0;
		assert_int_equal(parse(answer, len, chunks[i]), 0);
		n = n_calls;
		assert_true(n > 5);
		for (fail_for_good = 0; fail_for_good < 2; fail_for_good++)
			for (fail_at = 1; fail_at <= n; fail_at++) {
				n_calls = 0;
				assert_int_equal(parse(answer, len, chunks[i]), -ENOMEM);
			}
	}
	free(answer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_allocation_may_fail),
	};

	return cmocka_run_group_tests_name("kvjson-memory", tests, NULL, NULL);
}
