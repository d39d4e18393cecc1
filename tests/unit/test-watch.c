/*
 * The rules of when an answer of Consul may be believed, one by one.
 */
#include "consul-fixture.h"
#include "test.h"

static struct http_request *expect_poll(const char *part)
{
	fake_http_expect_none(READS);
	return fake_http_expect(POLLS, part);
}

/* A read at index 0; consistent or not. */
static struct http_request *expect_read(bool consistent)
{
	struct http_request *request = fake_http_expect(READS, "?recurse");

	fake_http_expect_none(POLLS);
	assert_null(strstr(request->url, "index="));
	assert_int_equal(strstr(request->url, "&consistent") != NULL, consistent);
	return request;
}

/* Answers a poll after its wait. */
static void time_out(struct http_request *poll, const char *index)
{
	fake_loop_advance(FIXTURE_WAIT + 1000);
	consul_fixture_answer(poll, index, "a=1", NULL);
}

static void assert_failed(struct consul_fixture *f, enum tree_error_kind kind, const char *message)
{
	assert_true(f->tree->error.is_set);
	assert_string_equal(f->tree->error.message, message);
	assert_int_equal(f->tree->error.kind, kind);
	assert_true(f->tree->error.retry_at > loop_now());
	assert_true(f->tree->error.retry_at <= loop_now() + USEC_PER_SEC);
	fake_http_expect_none(POLLS);
	fake_http_expect_none(READS);
}

/* Lets the retry come, which is a plain read at index 0 as there are contents. */
static struct http_request *expect_retry(struct consul_fixture *f)
{
	fake_loop_advance(f->tree->error.retry_at - loop_now());
	return expect_read(false);
}

static void the_first_read_is_consistent(void **state)
{
	struct consul_fixture *f = *state;
	struct http_request *request = expect_read(true);

	assert_string_equal(
		request->url, "http://127.0.0.1:8500/v1/kv/config/a/?recurse&consistent");
	assert_int_equal(f->tree->state, WIRE_LOADING);
	consul_fixture_answer(request, "10", "a=1", "b=2", NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_assert_content(f, "a=1", "b=2", NULL);
	request = expect_poll("?recurse&index=10&wait=30000ms");
	assert_null(strstr(request->url, "consistent"));
	assert_int_equal(request->get.answer_usec, 44875 * USEC_PER_MSEC);
}

static void an_absent_prefix_is_no_keys(void **state)
{
	struct consul_fixture *f = *state;

	fake_http_answer(expect_read(true), 404, "5", "");
	assert_int_equal(f->tree->state, WIRE_LIVE);
	consul_fixture_assert_content(f, NULL);
	expect_poll("&index=5&");
}

static void a_change_is_applied_at_once(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	consul_fixture_answer(expect_poll("&index=10&"), "12", "a=2", NULL);
	consul_fixture_assert_content(f, "a=2", NULL);
	assert_int_equal(f->n_changes, 2);
	expect_poll("&index=12&");
}

static void a_poll_that_times_out_confirms(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	time_out(expect_poll("&index=10&"), "10");
	assert_int_equal(f->tree->confirmed_at, loop_now());
	assert_int_equal(f->n_changes, 1);
	expect_poll("&index=10&wait=30000ms");
}

static void the_wait_of_large_trees_grows(void **state)
{
	static const char *const waits[] = { "wait=30000ms", "wait=60000ms", "wait=120000ms",
		"wait=240000ms", "wait=300000ms", "wait=300000ms" };
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(expect_read(true), "10", 200, "v");
	for (size_t i = 0; i < ARRAY_SIZE(waits); i++) {
		struct http_request *poll = expect_poll(waits[i]);

		fake_loop_advance(301 * USEC_PER_SEC);
		consul_fixture_answer_keys(poll, "10", 200, "v");
	}
	fake_http_fail(expect_poll("index=10"), -ECONNRESET, "the connection broke");
	consul_fixture_answer_keys(expect_retry(f), "10", 200, "v");
	expect_poll("wait=30000ms");
}

static void an_index_that_went_backwards_is_asked_for_afresh(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	time_out(expect_poll("&index=10&"), "7");
	consul_fixture_answer(expect_read(false), "7", "a=1", NULL);
	assert_int_equal(f->n_changes, 1);
	expect_poll("&index=7&");
}

static void contents_of_an_earlier_index_need_a_consistent_read(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	consul_fixture_answer(expect_poll("&index=10&"), "7", "a=0", NULL);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_answer(expect_read(true), "7", "a=0", NULL);
	consul_fixture_assert_content(f, "a=0", NULL);
	expect_poll("&index=7&");
}

static void an_early_answer_at_the_same_index_is_read_afresh_once(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_loop_advance(USEC_PER_SEC);
	consul_fixture_answer(expect_poll("&index=10&"), "10", "a=1", NULL);
	/* A restored snapshot: the poll answered from the old store. */
	consul_fixture_answer(expect_read(false), "8", "a=0", NULL);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_answer(expect_read(true), "8", "a=0", NULL);
	consul_fixture_assert_content(f, "a=0", NULL);
	expect_poll("&index=8&");
}

static void wake_ups_without_change_are_paced(void **state)
{
	static const unsigned seconds[] = { 0, 0, 1, 2, 4, 8, 15, 15 };
	struct consul_fixture *f = *state;
	char index[16];

	fake_http_answer(expect_read(true), 404, "100", "");
	for (unsigned i = 0; i < ARRAY_SIZE(seconds); i++) {
		struct http_request *poll = expect_poll("&index=1");

		snprintf(index, sizeof(index), "%u", 101 + i);
		fake_http_answer(poll, 404, index, "");
		if (seconds[i] == 0)
			continue;
		fake_http_expect_none(POLLS);
		fake_loop_advance(seconds[i] * USEC_PER_SEC - 1);
		fake_http_expect_none(POLLS);
		fake_loop_advance(1);
	}
	/* A change is still taken at once, and all is forgiven. */
	consul_fixture_answer(expect_poll("&index=108&"), "200", "a=1", NULL);
	consul_fixture_assert_content(f, "a=1", NULL);
	consul_fixture_answer(expect_poll("&index=200&"), "201", "a=1", NULL);
	expect_poll("&index=201&");
}

static void a_poll_that_sleeps_ends_the_churn(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	for (unsigned i = 0; i < 5; i++) {
		char early[16], last[16];

		snprintf(early, sizeof(early), "%u", 11 + 2 * i);
		snprintf(last, sizeof(last), "%u", 12 + 2 * i);
		consul_fixture_answer(expect_poll("&index="), early, "a=1", NULL);
		consul_fixture_answer(expect_poll("&index="), last, "a=1", NULL);
		time_out(expect_poll("&index="), last);
	}
	expect_poll("&index=20&");
}

static void an_agent_that_never_blocks_is_not_hammered(void **state)
{
	struct consul_fixture *f = *state;
	unsigned before = fake_http_n_made();

	consul_fixture_load(f);
	for (unsigned i = 0; i < 600; i++) {
		fake_loop_advance(100 * USEC_PER_MSEC);
		/* One of the two is under way, or none while it pauses. */
		for (unsigned pool = POLLS; pool <= READS; pool++)
			if (fake_http_n_pending(pool) > 0)
				consul_fixture_answer(
					fake_http_expect(pool, "recurse"), "10", "a=1", NULL);
	}
	assert_true(fake_http_n_made() - before < 30);
}

static void indexes_that_cannot_be_are_asked_again_slowly(void **state)
{
	static const char *const indexes[] = { "0", "18446744073709551615" };
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	for (unsigned i = 0; i < 6; i++) {
		struct http_request *request;
		char pair[16];

		fake_loop_advance(16 * USEC_PER_SEC);
		request = fake_http_n_pending(POLLS) > 0 ? fake_http_expect(POLLS, "index")
							 : fake_http_expect(READS, "recurse");
		snprintf(pair, sizeof(pair), "a=%u", i / 2 + 2);
		consul_fixture_answer(request, indexes[i % 2], pair, NULL);
	}
	assert_int_equal(f->tree->state, WIRE_LIVE);
	assert_true(f->n_changes >= 2);
}

static void keys_that_vanish_need_a_consistent_read(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(expect_read(true), "10", 11, "v");
	consul_fixture_answer_keys(expect_poll("&index=10&"), "12", 6, "v"); /* 5 gone: fine */
	assert_int_equal(f->tree->content->records.n, 6);
	consul_fixture_answer_keys(expect_poll("&index=12&"), "13", 1, "v"); /* of 6: fine */
	assert_int_equal(f->tree->content->records.n, 1);
	consul_fixture_answer_keys(expect_poll("&index=13&"), "14", 10, "v");
	consul_fixture_answer_keys(expect_poll("&index=14&"), "15", 4, "v"); /* 6 of 10 */
	assert_int_equal(f->tree->content->records.n, 10);
	assert_false(f->tree->error.is_set);
	consul_fixture_answer_keys(expect_read(true), "15", 4, "v");
	assert_int_equal(f->tree->content->records.n, 4);
	expect_poll("&index=15&");
}

static void other_keys_do_not_make_up_for_those_gone(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(expect_read(true), "10", 10, "v");
	consul_fixture_answer(expect_poll("&index=10&"), "11", "k0000=v", "l1=v", "l2=v", "l3=v",
		"l4=v", "l5=v", "l6=v", "l7=v", "l8=v", "l9=v", "m=v", NULL);
	assert_int_equal(f->n_changes, 1);
	expect_read(true);
}

static void a_deletion_of_all_is_believed_when_it_is_confirmed(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_answer(expect_poll("&index=10&"), 404, "12", "");
	consul_fixture_assert_content(f, "a=1", NULL);
	fake_http_answer(expect_read(true), 404, "12", "");
	consul_fixture_assert_content(f, NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	expect_poll("&index=12&");
}

static void an_absence_that_is_not_confirmed_is_none(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_answer(expect_poll("&index=10&"), 404, "12", "");
	consul_fixture_answer(expect_read(true), "11", "a=1", NULL);
	consul_fixture_assert_content(f, "a=1", NULL);
	assert_int_equal(f->n_changes, 1);
	assert_false(f->tree->error.is_set);
	expect_poll("&index=11&");
}

static void false_alarms_are_paced(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	for (unsigned i = 0; i < 3; i++) {
		fake_http_answer(expect_poll("&index=1"), 404, "12", "");
		consul_fixture_answer(expect_read(true), "11", "a=1", NULL);
	}
	fake_http_expect_none(POLLS);
	fake_http_expect_none(READS);
	fake_loop_advance(USEC_PER_SEC);
	expect_poll("&index=11&");
}

static void an_absence_at_an_old_index_is_never_a_deletion(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_answer(expect_poll("&index=10&"), 404, "3", "");
	fake_http_answer(expect_read(true), 404, "3", "");
	consul_fixture_assert_content(f, "a=1", NULL);
	assert_int_equal(f->tree->state, WIRE_STALE);
	assert_failed(f, TREE_INVALID,
		"Consul says that there are no keys, but at an index that is not newer: keeping "
		"those there are");
	/* Filled again: other contents, at a low index. */
	consul_fixture_answer(expect_retry(f), "6", "a=3", NULL);
	consul_fixture_answer(expect_read(true), "6", "a=3", NULL);
	consul_fixture_assert_content(f, "a=3", NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	expect_poll("&index=6&");
}

static void answers_that_disagree_are_asked_for_until_two_agree(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(expect_read(true), "10", 20, "v");
	consul_fixture_answer_keys(expect_poll("&index=10&"), "11", 3, "v");
	consul_fixture_answer_keys(expect_read(true), "12", 2, "v");
	assert_int_equal(f->tree->content->records.n, 20);
	assert_failed(
		f, TREE_INVALID, "keys are gone, but Consul's answers disagree: asking again");
	fake_loop_advance(USEC_PER_SEC);
	consul_fixture_answer_keys(expect_read(true), "12", 2, "v");
	assert_int_equal(f->tree->content->records.n, 2);
	assert_false(f->tree->error.is_set);
	expect_poll("&index=12&");
}

static void a_consistent_answer_that_loses_little_counts(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(expect_read(true), "10", 20, "v");
	consul_fixture_answer_keys(expect_poll("&index=10&"), "11", 3, "v");
	consul_fixture_answer_keys(expect_read(true), "12", 19, "v");
	assert_int_equal(f->tree->content->records.n, 19);
	expect_poll("&index=12&");
}

static void large_losses_are_counted_in_slices(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(expect_read(true), "10", 3 * LIMIT_SLICE_ENTRIES, "v");
	consul_fixture_answer_keys(expect_poll("&index=10&"), "11", 3 * LIMIT_SLICE_ENTRIES, "w");
	assert_int_equal(f->n_changes, 1);
	fake_http_expect_none(POLLS);
	fake_loop_advance(0);
	assert_int_equal(f->n_changes, 2);
	expect_poll("&index=11&");
}

static void after_an_outage_the_first_read_is_plain(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_fail(expect_poll("&index=10&"), -ECONNREFUSED, "connection refused");
	assert_failed(f, TREE_UNREACHABLE,
		"cannot reach Consul at http://127.0.0.1:8500: connection refused");
	assert_int_equal(f->tree->state, WIRE_STALE);
	consul_fixture_answer(expect_retry(f), "10", "a=1", NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	assert_int_equal(f->n_changes, 1);
	expect_poll("&index=10&");
}

static void after_an_outage_a_change_is_confirmed(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_fail(expect_poll("&index=10&"), -ECONNRESET, "the connection broke");
	/* A log that is not replayed yet answers with less, as if it were all there is. */
	consul_fixture_answer(expect_retry(f), "12", "b=1", NULL);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_answer(expect_read(true), "12", "a=1", "b=1", NULL);
	consul_fixture_assert_content(f, "a=1", "b=1", NULL);
	expect_poll("&index=12&");
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
		fake_http_answer(
			expect_poll("&index=10&"), cases[i].status, cases[i].index, cases[i].body);
		assert_failed(f, cases[i].kind, cases[i].message);
		consul_fixture_assert_content(f, "a=1", NULL);
		assert_int_equal(f->tree->state, WIRE_STALE);
		consul_fixture_answer(expect_retry(f), "10", "a=1", NULL);
		assert_int_equal(f->tree->state, WIRE_LIVE);
	}
	assert_int_equal(f->n_changes, 1);
}

static void limits_are_told_as_such(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	f->config.max_value = 3;
	consul_fixture_answer(expect_poll("&index=10&"), "11", "a=1234", NULL);
	assert_failed(f, TREE_LIMIT,
		"the answer of Consul at http://127.0.0.1:8500: a value larger than max_value");
	f->config.max_value = 100;
	f->config.max_service = 40;
	consul_fixture_answer(expect_retry(f), "11", "a=1", "b=2", NULL);
	assert_failed(f, TREE_LIMIT,
		"the answer of Consul at http://127.0.0.1:8500: larger than max_service");
	consul_fixture_assert_content(f, "a=1", NULL);
}

static void retries_are_soon_at_first_and_never_far_apart(void **state)
{
	struct consul_fixture *f = *state;
	uint64_t begin = loop_now(), last = 0, longest = 0;
	unsigned n_first_minute = 0;

	fake_http_fail(expect_read(true), -ECONNREFUSED, "connection refused");
	while (loop_now() - begin < 600 * USEC_PER_SEC) {
		uint64_t delay = f->tree->error.retry_at - loop_now();
		bool is_early = loop_now() - begin < 60 * USEC_PER_SEC;

		assert_true(delay > 0);
		assert_true(delay <= (is_early ? 1 : 30) * USEC_PER_SEC);
		n_first_minute += is_early;
		longest = MAX(longest, delay);
		last = delay;
		fake_loop_advance(delay);
		fake_http_fail(expect_read(true), -ECONNREFUSED, "connection refused");
	}
	assert_true(n_first_minute >= 60);
	assert_true(longest > 15 * USEC_PER_SEC);
	assert_true(last >= 15 * USEC_PER_SEC);
	assert_int_equal(f->tree->state, WIRE_LOADING);
	fake_loop_advance(f->tree->error.retry_at - loop_now());
	consul_fixture_load(f);
	fake_http_fail(expect_poll("index"), -ECONNRESET, "the connection broke");
	assert_true(f->tree->error.retry_at - loop_now() <= 100 * USEC_PER_MSEC);
}

static void another_address_is_tried_when_one_does_not_answer(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_fail(expect_poll("http://127.0.0.1:8500/"), -ETIMEDOUT, "no answer in time");
	assert_failed(f, TREE_TIMEOUT, "Consul at http://127.0.0.1:8500: no answer in time");
	fake_http_answer(expect_retry(f), 403, NULL, ""); /* it answers: it stays */
	assert_failed(f, TREE_DENIED, "Consul at https://other:8501 answers 403");
	fake_http_answer(expect_retry(f), 500, NULL, "No cluster leader");
	assert_failed(
		f, TREE_UNREACHABLE, "Consul at https://other:8501 answers 500: no cluster leader");
	fake_loop_advance(USEC_PER_SEC);
	assert_non_null(strstr(expect_read(false)->url, "http://127.0.0.1:8500/"));
}

static void a_poll_that_is_no_longer_wanted_keeps_its_place(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	tree_unobserve(&f->observer);
	f->tree = tree_unref(f->tree);
	assert_int_equal(fake_http_n_abandoned(POLLS), 1);
	fake_http_expect_none(POLLS);
}

static void a_read_that_is_no_longer_wanted_ends(void **state)
{
	struct consul_fixture *f = *state;

	expect_read(true);
	tree_unobserve(&f->observer);
	f->tree = tree_unref(f->tree);
	assert_int_equal(fake_http_n_abandoned(READS), 0);
	fake_http_expect_none(READS);
}

static void polls_that_crowd_wait_less(void **state)
{
	struct consul_fixture *f = *state;
	struct tree *others[8];
	char prefix[32];

	consul_fixture_load(f);
	f->config.max_connections = 4; /* two polls at a time */
	assert_int_equal(consul_source_reconfigure(f->source, &f->config), 0);
	assert_int_equal(fake_http_max_connections(POLLS), 2);
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
		snprintf(prefix, sizeof(prefix), "config/other%u/", i);
		assert_int_equal(trees_get(f->trees, prefix, &others[i]), 0);
		fake_http_answer(fake_http_expect(READS, prefix), 404, "5", "");
	}
	time_out(fake_http_find("/config/a/"), "10");
	fake_http_find("/config/a/?recurse&index=10&wait=1000ms");
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
		tree_unref(others[i]);
}

static void being_late_is_noticed(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	assert_true(consul_source_is_on_time(f->source));
	fake_loop_stall(FIXTURE_WAIT + 20 * USEC_PER_SEC);
	assert_true(consul_source_is_on_time(f->source));
	fake_loop_stall(60 * USEC_PER_SEC);
	assert_false(consul_source_is_on_time(f->source));
	consul_fixture_answer(expect_poll("index"), "10", "a=1", NULL);
	assert_true(consul_source_is_on_time(f->source));
	fake_http_fail(expect_poll("index"), -ECONNRESET, "the connection broke");
	assert_true(consul_source_is_on_time(f->source));
	fake_loop_stall(60 * USEC_PER_SEC);
	assert_false(consul_source_is_on_time(f->source));
}

#define CASE(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, consul_fixture_set_up, consul_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(the_first_read_is_consistent),
		CASE(an_absent_prefix_is_no_keys),
		CASE(a_change_is_applied_at_once),
		CASE(a_poll_that_times_out_confirms),
		CASE(the_wait_of_large_trees_grows),
		CASE(an_index_that_went_backwards_is_asked_for_afresh),
		CASE(contents_of_an_earlier_index_need_a_consistent_read),
		CASE(an_early_answer_at_the_same_index_is_read_afresh_once),
		CASE(wake_ups_without_change_are_paced),
		CASE(a_poll_that_sleeps_ends_the_churn),
		CASE(an_agent_that_never_blocks_is_not_hammered),
		CASE(indexes_that_cannot_be_are_asked_again_slowly),
		CASE(keys_that_vanish_need_a_consistent_read),
		CASE(other_keys_do_not_make_up_for_those_gone),
		CASE(a_deletion_of_all_is_believed_when_it_is_confirmed),
		CASE(an_absence_that_is_not_confirmed_is_none),
		CASE(false_alarms_are_paced),
		CASE(an_absence_at_an_old_index_is_never_a_deletion),
		CASE(answers_that_disagree_are_asked_for_until_two_agree),
		CASE(a_consistent_answer_that_loses_little_counts),
		CASE(large_losses_are_counted_in_slices),
		CASE(after_an_outage_the_first_read_is_plain),
		CASE(after_an_outage_a_change_is_confirmed),
		CASE(every_failure_keeps_the_contents),
		CASE(limits_are_told_as_such),
		CASE(retries_are_soon_at_first_and_never_far_apart),
		CASE(another_address_is_tried_when_one_does_not_answer),
		CASE(a_poll_that_is_no_longer_wanted_keeps_its_place),
		CASE(a_read_that_is_no_longer_wanted_ends),
		CASE(polls_that_crowd_wait_less),
		CASE(being_late_is_noticed),
	};

	return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
