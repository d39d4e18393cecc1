/*
 * The rules of when an answer of Consul may be believed, one by one.
 */
#include "consul-fixture.h"
#include "test.h"

/* Answers a poll after its wait. */
static void time_out(struct http_request *poll, const char *index)
{
	fake_loop_advance(FIXTURE_WAIT + 1000);
	consul_fixture_answer(poll, index, "a=1", NULL);
}

static void the_first_read_is_consistent(void **state)
{
	struct consul_fixture *f = *state;
	struct http_request *request = consul_fixture_expect_read(true);

	assert_string_equal(
		request->url, "http://127.0.0.1:8500/v1/kv/config/a/?recurse&consistent");
	assert_int_equal(f->tree->state, WIRE_LOADING);
	consul_fixture_answer(request, "10", "a=1", "b=2", NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_assert_content(f, "a=1", "b=2", NULL);
	request = consul_fixture_expect_poll("?recurse&index=10&wait=30000ms");
	assert_null(strstr(request->url, "consistent"));
	assert_int_equal(request->get.answer_usec, 44875 * USEC_PER_MSEC);
}

static void an_absent_prefix_is_no_keys(void **state)
{
	struct consul_fixture *f = *state;

	fake_http_answer(consul_fixture_expect_read(true), 404, "5", "");
	assert_int_equal(f->tree->state, WIRE_LIVE);
	consul_fixture_assert_content(f, NULL);
	consul_fixture_expect_poll("&index=5&");
}

static void a_change_is_applied_at_once(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	consul_fixture_answer(consul_fixture_expect_poll("&index=10&"), "12", "a=2", NULL);
	consul_fixture_assert_content(f, "a=2", NULL);
	assert_int_equal(f->n_changes, 2);
	consul_fixture_expect_poll("&index=12&");
}

static void a_poll_that_times_out_confirms(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	time_out(consul_fixture_expect_poll("&index=10&"), "10");
	assert_int_equal(f->tree->confirmed_at, loop_now());
	assert_int_equal(f->n_changes, 1);
	consul_fixture_expect_poll("&index=10&wait=30000ms");
}

static void the_wait_of_large_trees_grows(void **state)
{
	static const char *const waits[] = { "wait=30000ms", "wait=60000ms", "wait=120000ms",
		"wait=240000ms", "wait=300000ms", "wait=300000ms" };
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(consul_fixture_expect_read(true), "10", 200, "v");
	for (size_t i = 0; i < ARRAY_SIZE(waits); i++) {
		struct http_request *poll = consul_fixture_expect_poll(waits[i]);

		fake_loop_advance(301 * USEC_PER_SEC);
		consul_fixture_answer_keys(poll, "10", 200, "v");
	}
	fake_http_fail(consul_fixture_expect_poll("index=10"), -ECONNRESET, "the connection broke");
	consul_fixture_answer_keys(consul_fixture_expect_retry(f), "10", 200, "v");
	consul_fixture_expect_poll("wait=30000ms");
}

static void an_index_that_went_backwards_is_asked_for_afresh(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	time_out(consul_fixture_expect_poll("&index=10&"), "7");
	consul_fixture_answer(consul_fixture_expect_read(false), "7", "a=1", NULL);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_expect_poll("&index=7&");
}

static void contents_of_an_earlier_index_need_a_consistent_read(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	consul_fixture_answer(consul_fixture_expect_poll("&index=10&"), "7", "a=0", NULL);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_answer(consul_fixture_expect_read(true), "7", "a=0", NULL);
	consul_fixture_assert_content(f, "a=0", NULL);
	consul_fixture_expect_poll("&index=7&");
}

static void an_early_answer_at_the_same_index_is_read_afresh_once(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_loop_advance(USEC_PER_SEC);
	consul_fixture_answer(consul_fixture_expect_poll("&index=10&"), "10", "a=1", NULL);
	/* A restored snapshot: the poll answered from the old store. */
	consul_fixture_answer(consul_fixture_expect_read(false), "8", "a=0", NULL);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_answer(consul_fixture_expect_read(true), "8", "a=0", NULL);
	consul_fixture_assert_content(f, "a=0", NULL);
	consul_fixture_expect_poll("&index=8&");
}

static void wake_ups_without_change_are_paced(void **state)
{
	static const unsigned seconds[] = { 0, 0, 1, 2, 4, 8, 15, 15 };
	struct consul_fixture *f = *state;
	char index[16];

	fake_http_answer(consul_fixture_expect_read(true), 404, "100", "");
	for (unsigned i = 0; i < ARRAY_SIZE(seconds); i++) {
		struct http_request *poll = consul_fixture_expect_poll("&index=1");

		snprintf(index, sizeof(index), "%u", 101 + i);
		fake_http_answer(poll, 404, index, "");
		if (seconds[i] == 0)
			continue;
		fake_http_expect_none(POLLS);
		fake_loop_advance(seconds[i] * USEC_PER_SEC - 10 * USEC_PER_MSEC);
		fake_http_expect_none(POLLS);
		fake_loop_advance(10 * USEC_PER_MSEC);
	}
	/* A change is still taken at once, and all is forgiven. */
	consul_fixture_answer(consul_fixture_expect_poll("&index=108&"), "200", "a=1", NULL);
	consul_fixture_assert_content(f, "a=1", NULL);
	consul_fixture_answer(consul_fixture_expect_poll("&index=200&"), "201", "a=1", NULL);
	consul_fixture_expect_poll("&index=201&");
}

static void a_poll_that_sleeps_ends_the_churn(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	for (unsigned i = 0; i < 5; i++) {
		char early[16], last[16];

		snprintf(early, sizeof(early), "%u", 11 + 2 * i);
		snprintf(last, sizeof(last), "%u", 12 + 2 * i);
		consul_fixture_answer(consul_fixture_expect_poll("&index="), early, "a=1", NULL);
		consul_fixture_answer(consul_fixture_expect_poll("&index="), last, "a=1", NULL);
		time_out(consul_fixture_expect_poll("&index="), last);
	}
	consul_fixture_expect_poll("&index=20&");
}

static void a_storm_of_changes_is_asked_for_no_faster_than_it_is_published(void **state)
{
	struct consul_fixture *f = *state;
	unsigned before;
	char index[16], pair[16];

	consul_fixture_load(f);
	before = fake_http_n_made();
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(index, sizeof(index), "%u", 11 + i);
		snprintf(pair, sizeof(pair), "a=%u", 11 + i);
		fake_loop_advance(USEC_PER_MSEC);
		if (fake_http_n_pending(POLLS) > 0)
			consul_fixture_answer(
				consul_fixture_expect_poll("&index="), index, pair, NULL);
	}
	/* 8 at once, pauses of 20, 40, 60 and 80 ms, then one in 100. */
	assert_in_range(fake_http_n_made() - before, 18, 22);
	fake_loop_advance(LIMIT_STORM_USEC);
	consul_fixture_answer(consul_fixture_expect_poll("&index="), "2000", "a=last", NULL);
	consul_fixture_assert_content(f, "a=last", NULL);
	/* A change alone is asked for at once again. */
	fake_loop_advance(LIMIT_COALESCE_USEC);
	fake_loop_advance(USEC_PER_SEC);
	consul_fixture_answer(consul_fixture_expect_poll("&index=2000&"), "2001", "a=1", NULL);
	consul_fixture_expect_poll("&index=2001&");
}

static void readers_have_a_change_before_the_agent_has_the_next_poll(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	consul_fixture_answer(consul_fixture_expect_poll("&index=10&"), "11", "a=2", NULL);
	consul_fixture_assert_content(f, "a=2", NULL);
	fake_loop_advance(LIMIT_READERS_USEC - 1);
	fake_http_expect_none(POLLS);
	fake_loop_advance(1);
	fake_http_expect(POLLS, "&index=11&");
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

	consul_fixture_answer_keys(consul_fixture_expect_read(true), "10", 11, "v");
	consul_fixture_answer_keys(
		consul_fixture_expect_poll("&index=10&"), "12", 6, "v"); /* 5 gone: fine */
	assert_int_equal(f->tree->content->records.n, 6);
	consul_fixture_answer_keys(
		consul_fixture_expect_poll("&index=12&"), "13", 1, "v"); /* of 6: fine */
	assert_int_equal(f->tree->content->records.n, 1);
	consul_fixture_answer_keys(consul_fixture_expect_poll("&index=13&"), "14", 10, "v");
	consul_fixture_answer_keys(
		consul_fixture_expect_poll("&index=14&"), "15", 4, "v"); /* 6 of 10 */
	assert_int_equal(f->tree->content->records.n, 10);
	assert_false(f->tree->error.is_set);
	consul_fixture_answer_keys(consul_fixture_expect_read(true), "15", 4, "v");
	assert_int_equal(f->tree->content->records.n, 10);
	consul_fixture_answer_deleted(READS, 6);
	assert_int_equal(f->tree->content->records.n, 4);
	consul_fixture_expect_poll("&index=15&");
}

static void other_keys_do_not_make_up_for_those_gone(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(consul_fixture_expect_read(true), "10", 10, "v");
	consul_fixture_answer(consul_fixture_expect_poll("&index=10&"), "11", "k0000=v", "l1=v",
		"l2=v", "l3=v", "l4=v", "l5=v", "l6=v", "l7=v", "l8=v", "l9=v", "m=v", NULL);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_expect_read(true);
}

static void a_deletion_of_all_is_believed_when_it_is_confirmed(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_answer(consul_fixture_expect_poll("&index=10&"), 404, "12", "");
	consul_fixture_assert_content(f, "a=1", NULL);
	fake_http_answer(consul_fixture_expect_read(true), 404, "12", "");
	consul_fixture_assert_content(f, "a=1", NULL);
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 404, "12", "");
	consul_fixture_assert_content(f, NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	consul_fixture_expect_poll("&index=12&");
}

static void an_absence_that_is_not_confirmed_is_none(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_answer(consul_fixture_expect_poll("&index=10&"), 404, "12", "");
	consul_fixture_answer(consul_fixture_expect_read(true), "11", "a=1", NULL);
	consul_fixture_assert_content(f, "a=1", NULL);
	assert_int_equal(f->n_changes, 1);
	assert_false(f->tree->error.is_set);
	consul_fixture_expect_poll("&index=11&");
}

static void false_alarms_are_paced(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	for (unsigned i = 0; i < 3; i++) {
		fake_http_answer(consul_fixture_expect_poll("&index=1"), 404, "12", "");
		consul_fixture_answer(consul_fixture_expect_read(true), "11", "a=1", NULL);
	}
	fake_http_expect_none(POLLS);
	fake_http_expect_none(READS);
	fake_loop_advance(USEC_PER_SEC);
	consul_fixture_expect_poll("&index=11&");
}

static void a_consistent_answer_that_loses_little_counts(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(consul_fixture_expect_read(true), "10", 20, "v");
	consul_fixture_answer_keys(consul_fixture_expect_poll("&index=10&"), "11", 3, "v");
	consul_fixture_answer_keys(consul_fixture_expect_read(true), "12", 19, "v");
	assert_int_equal(f->tree->content->records.n, 19);
	consul_fixture_expect_poll("&index=12&");
}

static void large_losses_are_counted_in_slices(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(
		consul_fixture_expect_read(true), "10", 3 * LIMIT_SLICE_ENTRIES, "v");
	consul_fixture_answer_keys(
		consul_fixture_expect_poll("&index=10&"), "11", 3 * LIMIT_SLICE_ENTRIES, "w");
	assert_int_equal(f->n_changes, 1);
	fake_http_expect_none(POLLS);
	fake_loop_advance(0);
	assert_int_equal(f->n_changes, 2);
	consul_fixture_expect_poll("&index=11&");
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

	consul_fixture_expect_read(true);
	tree_unobserve(&f->observer);
	f->tree = tree_unref(f->tree);
	assert_int_equal(fake_http_n_abandoned(READS), 0);
	fake_http_expect_none(READS);
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
	consul_fixture_answer(consul_fixture_expect_poll("index"), "10", "a=1", NULL);
	assert_true(consul_source_is_on_time(f->source));
	fake_http_fail(consul_fixture_expect_poll("index"), -ECONNRESET, "the connection broke");
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
		CASE(a_storm_of_changes_is_asked_for_no_faster_than_it_is_published),
		CASE(readers_have_a_change_before_the_agent_has_the_next_poll),
		CASE(an_agent_that_never_blocks_is_not_hammered),
		CASE(indexes_that_cannot_be_are_asked_again_slowly),
		CASE(keys_that_vanish_need_a_consistent_read),
		CASE(other_keys_do_not_make_up_for_those_gone),
		CASE(a_deletion_of_all_is_believed_when_it_is_confirmed),
		CASE(an_absence_that_is_not_confirmed_is_none),
		CASE(false_alarms_are_paced),
		CASE(a_consistent_answer_that_loses_little_counts),
		CASE(large_losses_are_counted_in_slices),
		CASE(a_poll_that_is_no_longer_wanted_keeps_its_place),
		CASE(a_read_that_is_no_longer_wanted_ends),
		CASE(being_late_is_noticed),
	};

	return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
