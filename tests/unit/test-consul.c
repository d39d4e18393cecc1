#include "daemon/consul.h"
#include "daemon/loss.h"
#include "test.h"

static void addresses_are_taken_apart(void **state)
{
	static const struct {
		const char *text, *server_name;
		const char *base, *unix_path, *connect_to;
		bool is_local;
	} cases[] = {
		{ "http://127.0.0.1:8500", NULL, "http://127.0.0.1:8500", NULL, NULL, true },
		{ "http://localhost:8500", NULL, "http://localhost:8500", NULL, NULL, true },
		{ "http://localhost", NULL, "http://localhost", NULL, NULL, true },
		{ "http://[::1]:8500", NULL, "http://[::1]:8500", NULL, NULL, true },
		{ "http://consul.example:8500/base", NULL, "http://consul.example:8500/base", NULL,
			NULL, false },
		{ "http://consul.example:8500", "server.dc1.consul", "http://consul.example:8500",
			NULL, NULL, false },
		{ "unix:///run/consul.sock", "name", "http://localhost", "/run/consul.sock", NULL,
			true },
		{ "https://10.0.0.1:8501", "server.dc1.consul", "https://server.dc1.consul:8501",
			NULL, "server.dc1.consul:8501:10.0.0.1:8501", false },
		{ "https://10.0.0.1/base/x", "name", "https://name:443/base/x", NULL,
			"name:443:10.0.0.1:443", false },
		{ "https://[::1]:8501", "name", "https://name:8501", NULL, "name:8501:[::1]:8501",
			true },
		{ "https://[fe80::1]/base", "name", "https://name:443/base", NULL,
			"name:443:[fe80::1]:443", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct consul_address a;

		assert_int_equal(consul_address_init(&a, cases[i].text, cases[i].server_name), 0);
		assert_string_equal(a.name, cases[i].text);
		assert_string_equal(a.base, cases[i].base);
		assert_string_equal(a.unix_path ?: "none", cases[i].unix_path ?: "none");
		assert_string_equal(a.connect_to ?: "none", cases[i].connect_to ?: "none");
		assert_int_equal(a.is_local, cases[i].is_local);
		consul_address_done(&a);
	}
}

static void urls_say_what_is_asked(void **state)
{
	static const struct {
		struct consul_query query;
		const char *rest;
	} cases[] = {
		{ { .prefix = "config/billing/" }, "config/billing/?recurse" },
		{ { .prefix = "a b/c?d=e&f#g/%2f/\xc3\xa9/" },
			"a%20b/c%3Fd%3De%26f%23g/%252f/%C3%A9/?recurse" },
		{ { .prefix = "A-Z.a_z~09/" }, "A-Z.a_z~09/?recurse" },
		{ { .prefix = "x/", .index = 7, .wait_usec = 30000000 },
			"x/?recurse&index=7&wait=30000ms" },
		{ { .prefix = "x/", .index = UINT64_MAX, .wait_usec = 5 },
			"x/?recurse&index=18446744073709551615&wait=1ms" },
		{ { .prefix = "x/", .wait_usec = 30000000, .consistent = true },
			"x/?recurse&consistent" },
		{ { .prefix = "x/", .key = "db/u r?l" }, "x/db/u%20r%3Fl?consistent" },
		{ { .prefix = "x/", .datacenter = "dc1", .namespace = "n/s", .partition = "p q" },
			"x/?recurse&dc=dc1&ns=n%2Fs&partition=p%20q" },
	};
	struct consul_address address;

	(void)state;
	assert_int_equal(consul_address_init(&address, "http://h:8500/base", NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char expected[256], *url;

		snprintf(expected, sizeof(expected), "http://h:8500/base/v1/kv/%s", cases[i].rest);
		assert_int_equal(consul_url(&address, &cases[i].query, &url), 0);
		assert_string_equal(url, expected);
		free(url);
	}
	consul_address_done(&address);
}

static void errors_fall_into_kinds(void **state)
{
	static const struct {
		int error, status;
		const char *body;
		enum tree_error_kind kind;
		const char *message;
	} cases[] = {
		{ -ECONNREFUSED, 0, "", TREE_UNREACHABLE, "cannot reach Consul at ADDR: WORDS" },
		{ -EPROTO, 0, "", TREE_UNREACHABLE, "cannot reach Consul at ADDR: WORDS" },
		{ -EIO, 200, "", TREE_UNREACHABLE, "cannot reach Consul at ADDR: WORDS" },
		{ -ETIMEDOUT, 0, "", TREE_TIMEOUT, "Consul at ADDR: WORDS" },
		{ -EFBIG, 200, "", TREE_LIMIT, "the answer of Consul at ADDR: WORDS" },
		{ -ENOMEM, 0, "", TREE_LIMIT, "the answer of Consul at ADDR: WORDS" },
		{ -EBADMSG, 200, "", TREE_INVALID, "no valid answer from Consul at ADDR: WORDS" },
		{ 0, 401, "", TREE_DENIED, "Consul at ADDR answers 401" },
		{ 0, 403, "rpc error: Permission denied", TREE_DENIED,
			"Consul at ADDR answers 403: the token may not read this prefix" },
		{ 0, 429, "", TREE_UNREACHABLE, "Consul at ADDR answers 429" },
		{ 0, 503, "", TREE_UNREACHABLE, "Consul at ADDR answers 503" },
		{ 0, 500, "No path to datacenter", TREE_UNREACHABLE,
			"Consul at ADDR answers 500: it knows no such datacenter" },
		{ 0, 500, "rpc error making call: EOF", TREE_UNREACHABLE,
			"Consul at ADDR answers 500: it cannot reach its servers" },
		{ 0, 500, "a token: s3cret", TREE_UNREACHABLE, "Consul at ADDR answers 500" },
		{ 0, 302, "", TREE_INVALID,
			"Consul at ADDR answers 302: a redirect, which is not followed; check "
			"address and prefix" },
		{ 0, 418, "", TREE_INVALID, "Consul at ADDR answers 418" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct http_result result = {
			.error = cases[i].error,
			.message = "WORDS",
			.status = cases[i].status,
			.error_body = cases[i].body,
			.error_body_len = strlen(cases[i].body),
		};
		struct consul_error error;

		assert_int_equal(consul_judge(&result, "ADDR", NULL, &error), CONSUL_ERROR);
		assert_string_equal(error.message, cases[i].message);
		assert_int_equal(error.kind, cases[i].kind);
	}
}

static void an_answer_needs_its_index(void **state)
{
	static const struct {
		int status;
		bool has_index, is_valid;
		enum consul_verdict verdict;
	} cases[] = {
		{ 200, true, true, CONSUL_CONTENT },
		{ 200, true, false, CONSUL_ERROR },
		{ 200, false, false, CONSUL_ERROR },
		{ 404, true, true, CONSUL_ABSENT },
		{ 404, true, false, CONSUL_ERROR },
		{ 404, false, false, CONSUL_ERROR },
		{ 204, true, true, CONSUL_ERROR },
		{ 206, true, true, CONSUL_ERROR },
		{ 304, true, true, CONSUL_ERROR },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct http_result result = {
			.message = "",
			.status = cases[i].status,
			.has_index = cases[i].has_index,
			.is_index_valid = cases[i].is_valid,
		};
		struct consul_error error;

		assert_int_equal(consul_judge(&result, "ADDR", NULL, &error), cases[i].verdict);
	}
}

static void indexes_only_go_up_or_start_over(void **state)
{
	(void)state;
	assert_int_equal(consul_next_index(0, 5), 5);
	assert_int_equal(consul_next_index(5, 5), 5);
	assert_int_equal(consul_next_index(5, 6), 6);
	assert_int_equal(consul_next_index(5, 4), 0);
	assert_int_equal(consul_next_index(5, 0), 0);
	assert_int_equal(consul_next_index(0, 0), 0);
	assert_int_equal(consul_next_index(0, UINT64_MAX), 0);
	assert_int_equal(consul_next_index(0, INT64_MAX), INT64_MAX);
}

static void deadlines_leave_room_for_jitter_and_elections(void **state)
{
	(void)state;
	assert_int_equal(consul_deadline(30 * USEC_PER_SEC), 44875 * USEC_PER_MSEC);
	assert_int_equal(consul_deadline(0), 13 * USEC_PER_SEC);
	assert_true(consul_is_early(USEC_PER_SEC, 900000));
	assert_false(consul_is_early(USEC_PER_SEC, 990000));
	assert_false(consul_is_early(USEC_PER_SEC, 1000000));
}

static void waits_grow_for_large_trees_only(void **state)
{
	(void)state;
	assert_int_equal(consul_next_wait(30, 30, 300, LIMIT_SMALL_TREE), 30);
	assert_int_equal(consul_next_wait(30, 30, 300, LIMIT_SMALL_TREE + 1), 60);
	assert_int_equal(consul_next_wait(240, 30, 300, 1 << 20), 300);
	assert_int_equal(consul_next_wait(300, 30, 300, 100), 30);
	assert_int_equal(consul_next_wait(30, 30, 10, 1 << 20), 30);
}

static void backing_off_is_jittered_and_capped(void **state)
{
	struct consul_backoff backoff = { 0 };
	uint64_t now = 5, delay;

	(void)state;
	assert_int_equal(consul_backoff_next(&backoff, now, UINT32_MAX), 100000);
	assert_int_equal(consul_backoff_next(&backoff, now, 0), 100000);
	assert_int_equal(consul_backoff_next(&backoff, now, UINT32_MAX), 400000);
	for (unsigned i = 0; i < 5; i++)
		delay = consul_backoff_next(&backoff, now, UINT32_MAX);
	assert_int_equal(delay, USEC_PER_SEC);
	now += 60 * USEC_PER_SEC;
	assert_int_equal(consul_backoff_next(&backoff, now, UINT32_MAX), 2 * USEC_PER_SEC);
	for (unsigned i = 0; i < 5; i++)
		delay = consul_backoff_next(&backoff, now, UINT32_MAX);
	assert_int_equal(delay, 30 * USEC_PER_SEC);
	assert_int_equal(consul_backoff_next(&backoff, now, 0), 15 * USEC_PER_SEC);
	consul_backoff_reset(&backoff);
	assert_int_equal(consul_backoff_next(&backoff, now, UINT32_MAX), 100000);
}

static void pace_allows_two_then_less_and_less(void **state)
{
	static const unsigned seconds[] = { 0, 0, 1, 2, 4, 8, 15, 15 };
	struct consul_pace pace = { 0 };
	uint64_t now = 50;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(seconds); i++) {
		uint64_t delay = consul_pace_take(&pace, now);

		assert_int_equal(delay, seconds[i] * USEC_PER_SEC);
		now += delay;
	}
	/* What comes late waits less. */
	assert_int_equal(consul_pace_take(&pace, now + 10 * USEC_PER_SEC), 5 * USEC_PER_SEC);
	consul_pace_reset(&pace);
	assert_int_equal(consul_pace_take(&pace, now), 0);
}

static void jitter_is_ten_percent(void **state)
{
	(void)state;
	assert_int_equal(consul_jitter(1000, 0), 900);
	assert_int_equal(consul_jitter(1000, UINT32_MAX), 1100);
	assert_true(consul_jitter(UINT64_C(30) * 86400 * USEC_PER_SEC, UINT32_MAX) >
		    UINT64_C(30) * 86400 * USEC_PER_SEC);
}

static struct kvset *make_set(const char *const *keys)
{
	struct kvset *set;

	assert_int_equal(kvset_new(1 << 20, NULL, &set), 0);
	for (; *keys; keys++)
		assert_int_equal(kvset_add(set, *keys, strlen(*keys), "v", 1, 0, 1), 0);
	assert_int_equal(kvset_finish(set), 0);
	return set;
}

static void lost_keys_are_counted(void **state)
{
	static const struct {
		const char *held[16], *fresh[16];
		size_t n_gone;
		bool is_suspicious;
	} cases[] = {
		{ { "a", "b" }, { "a", "b" }, 0, false },
		{ { "a", "b" }, { "0", "a", "aa", "b", "c" }, 0, false },
		{ { "a", "b" }, { "b" }, 1, false },
		{ { "a", "b" }, { "c" }, 2, false },
		{ { "a", "b" }, { NULL }, 2, true },
		{ { NULL }, { "a" }, 0, false },
		{ { NULL }, { NULL }, 0, false },
		{ { "a", "b", "c", "d", "e", "f", "g", "h", "i" }, { "i" }, 8, false },
		{ { "a", "b", "c", "d", "e", "f", "g", "h", "i", "j" }, { "a", "b", "c", "d", "e" },
			5, false },
		{ { "a", "b", "c", "d", "e", "f", "g", "h", "i", "j" },
			{ "g", "h", "i", "j", "k", "l", "m" }, 6, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct kvset *held = make_set(cases[i].held), *fresh = make_set(cases[i].fresh);

		for (size_t step = 1; step < 20; step += 6) {
			struct loss loss;
			unsigned n = 0;

			loss_init(&loss, held, fresh, NULL);
			while (loss_step(&loss, step) > 0)
				assert_true(n++ < 40);
			assert_int_equal(loss.n_gone, cases[i].n_gone);
			assert_int_equal(loss_is_suspicious(&loss), cases[i].is_suspicious);
		}
		kvset_unref(held);
		kvset_unref(fresh);
	}
}

static void paths_that_consul_redirects_are_not_asked_for(void **state)
{
	static const char *const good[] = { "a", "a/", "a/b", "a/b/", "..a", "a../b", "a/...",
		".a/b." };
	static const char *const bad[] = { "/", "/a", "a//", "a//b", ".", "..", "./a", "../a",
		"a/.", "a/..", "a/../b", "a/./b" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(consul_is_askable(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(consul_is_askable(bad[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_taken_apart),
		cmocka_unit_test(urls_say_what_is_asked),
		cmocka_unit_test(paths_that_consul_redirects_are_not_asked_for),
		cmocka_unit_test(errors_fall_into_kinds),
		cmocka_unit_test(an_answer_needs_its_index),
		cmocka_unit_test(indexes_only_go_up_or_start_over),
		cmocka_unit_test(deadlines_leave_room_for_jitter_and_elections),
		cmocka_unit_test(waits_grow_for_large_trees_only),
		cmocka_unit_test(backing_off_is_jittered_and_capped),
		cmocka_unit_test(pace_allows_two_then_less_and_less),
		cmocka_unit_test(jitter_is_ten_percent),
		cmocka_unit_test(lost_keys_are_counted),
	};

	return cmocka_run_group_tests_name("consul", tests, NULL, NULL);
}
