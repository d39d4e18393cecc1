/*
 * Failures of Consul: the contents stay, the words say what is wrong, the next try comes in time.
 */
#include "consul-fixture.h"
#include "test.h"

static void after_an_outage_the_first_read_is_plain(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_fail(
		consul_fixture_expect_poll("&index=10&"), -ECONNREFUSED, "connection refused");
	consul_fixture_assert_failed(f, TREE_UNREACHABLE,
		"cannot reach Consul at http://127.0.0.1:8500: connection refused");
	assert_int_equal(f->tree->state, WIRE_STALE);
	consul_fixture_answer(consul_fixture_expect_retry(f), "10", "a=1", NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_expect_poll("&index=10&");
}

static void after_an_outage_a_change_is_confirmed(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_fail(
		consul_fixture_expect_poll("&index=10&"), -ECONNRESET, "the connection broke");
	/* A log that is not replayed yet answers with less, as if it were all there is. */
	consul_fixture_answer(consul_fixture_expect_retry(f), "12", "b=1", NULL);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_answer(consul_fixture_expect_read(true), "12", "a=1", "b=1", NULL);
	consul_fixture_assert_content(f, "a=1", "b=1", NULL);
	consul_fixture_expect_poll("&index=12&");
}

static void every_failure_keeps_the_contents(void **state)
{
	static const struct {
		int status;
		const char *index, *body;
		enum tree_error_kind kind;
		const char *message;
	} cases[] = {
		{ 200, NULL, "[]", TREE_INVALID,
			"no valid answer from Consul at http://127.0.0.1:8500: no X-Consul-Index" },
		{ 200, "9x", "[]", TREE_INVALID,
			"no valid answer from Consul at http://127.0.0.1:8500: a bad X-Consul-Index" },
		{ 200, "12", "", TREE_INVALID,
			"no valid answer from Consul at http://127.0.0.1:8500: not JSON, or cut off" },
		{ 200, "12", "[{\"Key\":\"config/a/x\",\"Value\":\"", TREE_INVALID,
			"no valid answer from Consul at http://127.0.0.1:8500: not JSON, or cut off" },
		{ 200, "12", "<html>", TREE_INVALID,
			"no valid answer from Consul at http://127.0.0.1:8500: not JSON, or cut off" },
		{ 200, "12", "[{\"Key\":\"config/b/x\",\"Value\":null}]", TREE_INVALID,
			"no valid answer from Consul at http://127.0.0.1:8500: a key outside the "
			"prefix that was asked for" },
		{ 404, NULL, "", TREE_INVALID,
			"Consul at http://127.0.0.1:8500 answers 404 without an index: this is no KV "
			"store of Consul; check the address" },
		{ 404, "x", "", TREE_INVALID,
			"Consul at http://127.0.0.1:8500 answers 404 without an index: this is no KV "
			"store of Consul; check the address" },
		{ 301, "12", "", TREE_INVALID,
			"Consul at http://127.0.0.1:8500 answers 301: a redirect, which is not "
			"followed; check address and prefix" },
		{ 204, "12", "", TREE_INVALID, "Consul at http://127.0.0.1:8500 answers 204" },
		{ 400, NULL, "Invalid index", TREE_INVALID,
			"Consul at http://127.0.0.1:8500 answers 400" },
		{ 403, NULL, "ACL not found", TREE_DENIED,
			"Consul at http://127.0.0.1:8500 answers 403: it does not know this token" },
		{ 403, NULL, "Permission denied", TREE_DENIED,
			"Consul at http://127.0.0.1:8500 answers 403: the token may not read this "
			"prefix" },
	};
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fake_http_answer(consul_fixture_expect_poll("&index=10&"), cases[i].status,
			cases[i].index, cases[i].body);
		consul_fixture_assert_failed(f, cases[i].kind, cases[i].message);
		consul_fixture_assert_content(f, "a=1", NULL);
		assert_int_equal(f->tree->state, WIRE_STALE);
		consul_fixture_answer(consul_fixture_expect_retry(f), "10", "a=1", NULL);
		assert_int_equal(f->tree->state, WIRE_LIVE);
	}
	assert_int_equal(f->n_changes, 1);
}

static void limits_are_told_as_such(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	f->config.max_value = 3;
	consul_fixture_answer(consul_fixture_expect_poll("&index=10&"), "11", "a=1234", NULL);
	consul_fixture_assert_failed(f, TREE_LIMIT,
		"the answer of Consul at http://127.0.0.1:8500: a value larger than max_value");
	f->config.max_value = 100;
	f->config.max_service = 40;
	consul_fixture_answer(consul_fixture_expect_retry(f), "11", "a=1", "b=2", NULL);
	consul_fixture_assert_failed(f, TREE_LIMIT,
		"the answer of Consul at http://127.0.0.1:8500: larger than max_service");
	consul_fixture_assert_content(f, "a=1", NULL);
}

static void retries_are_soon_at_first_and_never_far_apart(void **state)
{
	struct consul_fixture *f = *state;
	uint64_t begin = loop_now(), last = 0, longest = 0;
	unsigned n_first_minute = 0;

	fake_http_fail(consul_fixture_expect_read(true), -ECONNREFUSED, "connection refused");
	while (loop_now() - begin < 600 * USEC_PER_SEC) {
		uint64_t delay = f->tree->error.retry_at - loop_now();
		bool is_early = loop_now() - begin < 60 * USEC_PER_SEC;

		assert_true(delay > 0);
		assert_true(delay <= (is_early ? 1 : 30) * USEC_PER_SEC);
		n_first_minute += is_early;
		longest = MAX(longest, delay);
		last = delay;
		fake_loop_advance(delay);
		fake_http_fail(
			consul_fixture_expect_read(true), -ECONNREFUSED, "connection refused");
	}
	assert_true(n_first_minute >= 60);
	assert_true(longest > 15 * USEC_PER_SEC);
	assert_true(last >= 15 * USEC_PER_SEC);
	assert_int_equal(f->tree->state, WIRE_LOADING);
	fake_loop_advance(f->tree->error.retry_at - loop_now());
	consul_fixture_load(f);
	fake_http_fail(consul_fixture_expect_poll("index"), -ECONNRESET, "the connection broke");
	assert_true(f->tree->error.retry_at - loop_now() <= 100 * USEC_PER_MSEC);
}

/* Asked as nobody, an agent with ACLs says that there are no keys. */
static void a_token_file_without_a_token_asks_nobody(void **state)
{
	struct consul_fixture *f = *state;
	struct config config = f->config;
	char path[] = "/tmp/test-watch-failures.XXXXXX", message[96];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	consul_fixture_load(f);
	config.token_file = path;
	assert_int_equal(consul_source_reconfigure(f->source, &config), 0);
	fake_loop_advance(0);
	snprintf(message, sizeof(message), "token_file %s: it is empty", path);
	consul_fixture_assert_failed(f, TREE_DENIED, message);
	fake_http_expect_none(READS);
	consul_fixture_assert_content(f, "a=1", NULL);
	assert_true(consul_source_is_on_time(f->source));
	assert_int_equal(write(fd, "a-token\n", 8), 8);
	assert_string_equal(consul_fixture_expect_retry(f)->token, "a-token");
	close(fd);
	unlink(path);
	assert_int_equal(consul_source_reconfigure(f->source, &f->config), 0);
}

static void another_address_is_tried_when_one_does_not_answer(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_fail(consul_fixture_expect_poll("http://127.0.0.1:8500/"), -ETIMEDOUT,
		"no answer in time");
	consul_fixture_assert_failed(
		f, TREE_TIMEOUT, "Consul at http://127.0.0.1:8500: no answer in time");
	fake_http_answer(consul_fixture_expect_retry(f), 403, NULL, ""); /* it answers: it stays */
	consul_fixture_assert_failed(f, TREE_DENIED, "Consul at https://other:8501 answers 403");
	fake_http_answer(consul_fixture_expect_retry(f), 500, NULL, "No cluster leader");
	consul_fixture_assert_failed(
		f, TREE_UNREACHABLE, "Consul at https://other:8501 answers 500: no cluster leader");
	fake_loop_advance(USEC_PER_SEC);
	assert_non_null(strstr(consul_fixture_expect_read(false)->url, "http://127.0.0.1:8500/"));
}

#define CASE(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, consul_fixture_set_up, consul_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(after_an_outage_the_first_read_is_plain),
		CASE(after_an_outage_a_change_is_confirmed),
		CASE(every_failure_keeps_the_contents),
		CASE(limits_are_told_as_such),
		CASE(retries_are_soon_at_first_and_never_far_apart),
		CASE(a_token_file_without_a_token_asks_nobody),
		CASE(another_address_is_tried_when_one_does_not_answer),
	};

	return cmocka_run_group_tests_name("watch-failures", tests, NULL, NULL);
}
