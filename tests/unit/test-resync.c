/*
 * The independent full read, and the source that keeps watch and resync together.
 */
#include "consul-fixture.h"
#include "test.h"

/* Lets the next resync come; the watch's polls are answered as if nothing had changed. */
static struct http_request *expect_resync(const char *index)
{
	uint64_t begin = loop_now();
	struct http_request *request;

	while (fake_http_n_pending(RESYNCS) == 0) {
		struct http_request *poll = fake_http_expect(POLLS, "&index=");

		assert_true(loop_now() - begin < FIXTURE_RESYNC * 11 / 10 + FIXTURE_WAIT);
		fake_loop_advance(FIXTURE_WAIT + USEC_PER_SEC);
		consul_fixture_answer(poll, index, "a=1", NULL);
	}
	assert_true(loop_now() - begin > FIXTURE_RESYNC * 9 / 10);
	request = fake_http_expect(RESYNCS, "/v1/kv/config/a/?recurse");
	assert_null(strstr(request->url, "index="));
	assert_null(strstr(request->url, "consistent"));
	return request;
}

/* A body with another hash: it is asked for again, to be read. */
static struct http_request *after_skimming(struct http_request *skim)
{
	consul_fixture_answer(skim, "11", "another=body", NULL);
	return fake_http_expect(RESYNCS, "/v1/kv/config/a/?recurse");
}

static struct http_request *expect_second_read(void)
{
	return fake_http_expect(RESYNCS, "?recurse&consistent");
}

/* A resync whose two reads say that there are no keys; the watch had its second. */
static void read_absence_twice(const char *index)
{
	fake_http_answer(after_skimming(expect_resync("10")), 404, index, "");
	fake_http_answer(expect_second_read(), 404, index, "");
	fake_loop_advance(USEC_PER_SEC);
}

static void the_same_contents_confirm(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	for (unsigned i = 0; i < 3; i++) {
		/* Compared by content: the index may be any. */
		consul_fixture_answer(expect_resync("10"), i == 1 ? "3" : "99", "a=1", NULL);
		assert_int_equal(f->tree->confirmed_at, loop_now());
		fake_http_expect_none(RESYNCS);
	}
	assert_int_equal(f->n_changes, 1);
	assert_int_equal(f->source->n_repairs(f->source), 0);
	fake_http_expect(POLLS, "&index=10&");
}

static void another_body_with_the_same_contents_confirms_too(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	for (unsigned i = 0; i < 2; i++) {
		/* As when a lock was taken: the second time it is the body that is known. */
		fake_http_answer(expect_resync("10"), 200, "10",
			"[ {\"Key\": \"config/a/a\", \"Value\": \"MQ==\"} ]");
		if (i == 0)
			fake_http_answer(fake_http_expect(RESYNCS, "?recurse"), 200, "10",
				"[ {\"Key\": \"config/a/a\", \"Value\": \"MQ==\"} ]");
		fake_http_expect_none(RESYNCS);
		assert_int_equal(f->tree->confirmed_at, loop_now());
	}
	assert_int_equal(f->n_changes, 1);
	assert_int_equal(f->source->n_repairs(f->source), 0);
}

static void resyncs_of_a_fleet_spread(void **state)
{
	struct consul_fixture *f = *state;
	uint64_t earliest = UINT64_MAX, latest = 0, begin;

	consul_fixture_load(f);
	for (unsigned i = 0; i < 40; i++) {
		begin = loop_now();
		while (fake_http_n_pending(RESYNCS) == 0)
			fake_loop_advance(USEC_PER_SEC);
		earliest = MIN(earliest, loop_now() - begin);
		latest = MAX(latest, loop_now() - begin);
		consul_fixture_answer(fake_http_expect(RESYNCS, ""), "10", "a=1", NULL);
	}
	assert_true(earliest >= FIXTURE_RESYNC * 9 / 10);
	assert_true(latest <= FIXTURE_RESYNC * 11 / 10 + USEC_PER_SEC);
	assert_true(latest - earliest > FIXTURE_RESYNC / 20);
}

static void what_the_watch_missed_is_repaired(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	consul_fixture_answer(after_skimming(expect_resync("10")), "10", "a=2", NULL);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_answer(expect_second_read(), "10", "a=2", NULL);
	assert_int_equal(f->n_changes, 1); /* the watch still has a second */
	fake_http_expect(POLLS, "&index=10&");
	fake_loop_advance(USEC_PER_SEC);
	consul_fixture_assert_content(f, "a=2", NULL);
	assert_int_equal(f->source->n_repairs(f->source), 1);
	/* The watch asks afresh, its poll runs out unheard. */
	assert_int_equal(fake_http_n_abandoned(POLLS), 1);
	consul_fixture_answer(fake_http_expect(READS, "?recurse"), "11", "a=2", NULL);
	fake_http_expect(POLLS, "&index=11&");
	fake_http_expect_none(RESYNCS);
}

/* Nothing that the watch asks is ever answered. */
static void a_watch_that_is_stuck_for_ever_leaves_the_resync_at_work(void **state)
{
	static const char *const values[] = { "a=2", "a=3", "b=1" };
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		while (fake_http_n_pending(RESYNCS) == 0)
			fake_loop_advance(USEC_PER_SEC);
		consul_fixture_answer(after_skimming(fake_http_expect(RESYNCS, "?recurse")), "20",
			values[i], NULL);
		consul_fixture_answer(expect_second_read(), "20", values[i], NULL);
		fake_loop_advance(USEC_PER_SEC);
		consul_fixture_assert_content(f, values[i], NULL);
	}
	assert_int_equal(f->source->n_repairs(f->source), ARRAY_SIZE(values));
}

/* Nothing that the resync asks is ever answered. */
static void a_resync_that_is_stuck_for_ever_leaves_the_watch_at_work(void **state)
{
	struct consul_fixture *f = *state;
	char index[16], pair[16];

	consul_fixture_load(f);
	for (unsigned i = 11; i < 200; i++) {
		fake_loop_advance(FIXTURE_WAIT / 2);
		snprintf(index, sizeof(index), "%u", i);
		snprintf(pair, sizeof(pair), "a=%u", i);
		consul_fixture_answer(fake_http_expect(POLLS, "&index="), index, pair, NULL);
		consul_fixture_assert_content(f, pair, NULL);
	}
	fake_http_expect(RESYNCS, "?recurse");
	assert_int_equal(f->tree->state, WIRE_LIVE);
}

static void a_difference_that_is_not_confirmed_is_none(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_answer(after_skimming(expect_resync("10")), 404, "1", "");
	consul_fixture_answer(expect_second_read(), "10", "a=1", NULL);
	fake_loop_advance(5 * USEC_PER_SEC);
	assert_int_equal(f->n_changes, 1);
	assert_int_equal(f->source->n_repairs(f->source), 0);
	fake_http_expect_none(RESYNCS);
}

static void a_watch_that_is_a_little_behind_is_well(void **state)
{
	struct consul_fixture *f = *state;
	struct http_request *poll;

	consul_fixture_load(f);
	consul_fixture_answer(after_skimming(expect_resync("10")), "11", "a=2", NULL);
	consul_fixture_answer(expect_second_read(), "11", "a=2", NULL);
	poll = fake_http_expect(POLLS, "&index=10&");
	fake_loop_advance(500 * USEC_PER_MSEC);
	consul_fixture_answer(poll, "12", "a=3", NULL); /* the next change already */
	fake_loop_advance(5 * USEC_PER_SEC);
	consul_fixture_assert_content(f, "a=3", NULL);
	assert_int_equal(f->source->n_repairs(f->source), 0);
	assert_int_equal(fake_http_n_abandoned(POLLS), 0);
}

static void two_reads_that_disagree_are_tried_again(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_answer(after_skimming(expect_resync("10")), 404, "20", "");
	consul_fixture_answer(expect_second_read(), "20", "b=1", NULL);
	fake_loop_advance(USEC_PER_SEC);
	consul_fixture_assert_content(f, "a=1", NULL);
	fake_loop_advance(USEC_PER_SEC);
	consul_fixture_answer(
		after_skimming(fake_http_expect(RESYNCS, "?recurse")), "20", "b=1", NULL);
	consul_fixture_answer(expect_second_read(), "20", "b=1", NULL);
	fake_loop_advance(USEC_PER_SEC);
	consul_fixture_assert_content(f, "b=1", NULL);
	assert_int_equal(f->source->n_repairs(f->source), 1);
}

static void an_absence_at_an_old_index_is_never_a_deletion(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	read_absence_twice("10");
	fake_http_answer(fake_http_expect(RESYNCS, "/config/a/a?consistent"), 404, "10", "");
	consul_fixture_assert_content(f, "a=1", NULL);
	assert_int_equal(f->tree->held.doubt, TREE_DATA_LOST);
	assert_int_equal(f->tree->state, WIRE_HELD);
}

static void a_deletion_that_the_watch_missed_is_examined(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	read_absence_twice("11");
	consul_fixture_assert_content(f, "a=1", NULL);
	fake_http_answer(fake_http_expect(RESYNCS, "/config/a/a?consistent"), 404, "11", "");
	consul_fixture_assert_content(f, NULL);
	assert_int_equal(f->source->n_repairs(f->source), 1);
	assert_int_equal(f->tree->state, WIRE_LIVE);
}

static void access_that_is_lost_is_held_though_the_watch_is_stuck(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	read_absence_twice("11");
	fake_http_answer(fake_http_expect(RESYNCS, "/config/a/a?consistent"), 403, NULL, "");
	consul_fixture_assert_content(f, "a=1", NULL);
	assert_int_equal(f->tree->held.doubt, TREE_ACCESS_LOST);
	fake_http_expect_none(RESYNCS);
	/* The poll began when the token could still read: what it says is not heard. */
	assert_int_equal(fake_http_n_abandoned(POLLS), 1);
	/* A watch that is stuck: what is held is compared by one read now and then. */
	fake_http_expect(READS, "?recurse");
	while (fake_http_n_pending(RESYNCS) == 0)
		fake_loop_advance(USEC_PER_SEC);
	fake_http_answer(after_skimming(fake_http_expect(RESYNCS, "?recurse")), 404, "11", "");
	fake_http_expect_none(RESYNCS);
	assert_int_equal(f->tree->state, WIRE_HELD);
	/* The keys come back, and only the resync sees it. */
	while (fake_http_n_pending(RESYNCS) == 0)
		fake_loop_advance(USEC_PER_SEC);
	consul_fixture_answer(fake_http_expect(RESYNCS, "?recurse"), "10", "a=1", NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	assert_null(f->tree->held.set);
	assert_int_equal(f->n_changes, 1);
	fake_http_expect(READS, "?recurse");
}

static void a_hold_of_a_time_ends_though_the_watch_is_stuck(void **state)
{
	struct consul_fixture *f = *state;
	uint64_t begin;

	f->observer.hold_usec = 60 * USEC_PER_SEC;
	consul_fixture_load(f);
	read_absence_twice("11");
	fake_http_answer(fake_http_expect(RESYNCS, "/config/a/a?consistent"), 403, NULL, "");
	begin = loop_now();
	while (fake_http_n_pending(RESYNCS) == 0)
		fake_loop_advance(USEC_PER_SEC);
	assert_in_range(loop_now() - begin, 59 * USEC_PER_SEC, 61 * USEC_PER_SEC);
	fake_http_answer(after_skimming(fake_http_expect(RESYNCS, "?recurse")), 404, "11", "");
	fake_http_answer(expect_second_read(), 404, "11", "");
	fake_loop_advance(USEC_PER_SEC);
	fake_http_answer(fake_http_expect(RESYNCS, "/config/a/a?consistent"), 403, NULL, "");
	consul_fixture_assert_content(f, NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
}

static void what_single_reads_do_not_tell_is_read_again(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	read_absence_twice("11");
	consul_fixture_answer(
		fake_http_expect(RESYNCS, "/config/a/a?consistent"), "11", "a=1", NULL);
	assert_int_equal(f->tree->held.doubt, TREE_UNCLEAR);
	fake_loop_advance(USEC_PER_SEC);
	consul_fixture_answer(fake_http_expect(RESYNCS, "?recurse"), "10", "a=1", NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
}

static void a_resync_that_fails_is_tried_again_and_no_error_of_the_tree(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	fake_http_fail(expect_resync("10"), -ECONNREFUSED, "connection refused");
	assert_false(f->tree->error.is_set);
	fake_http_expect_none(RESYNCS);
	fake_loop_advance(100 * USEC_PER_MSEC);
	fake_http_answer(fake_http_expect(RESYNCS, "?recurse"), 500, NULL, "");
	fake_loop_advance(USEC_PER_SEC);
	consul_fixture_answer(fake_http_expect(RESYNCS, "?recurse"), "10", "a=1", NULL);
	assert_false(f->tree->error.is_set);
	expect_resync("10");
}

static void a_resync_can_be_had_at_once(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	tree_resync(f->tree);
	fake_loop_advance(0);
	consul_fixture_answer(
		after_skimming(fake_http_expect(RESYNCS, "?recurse")), "10", "a=2", NULL);
	tree_resync(f->tree); /* under way */
	fake_loop_advance(0);
	consul_fixture_answer(expect_second_read(), "10", "a=2", NULL);
	fake_loop_advance(USEC_PER_SEC);
	consul_fixture_assert_content(f, "a=2", NULL);
}

static void a_host_that_slept_for_hours_resyncs_once(void **state)
{
	struct consul_fixture *f = *state;
	unsigned before;

	consul_fixture_load(f);
	before = fake_http_n_made();
	fake_loop_stall(6 * 3600 * USEC_PER_SEC);
	fake_loop_advance(0);
	consul_fixture_answer(fake_http_expect(RESYNCS, "?recurse"), "10", "a=1", NULL);
	/* The poll broke while the host slept. */
	fake_http_fail(fake_http_expect(POLLS, "&index=10&"), -ECONNRESET, "the connection broke");
	consul_fixture_answer(consul_fixture_expect_retry(f), "10", "a=1", NULL);
	fake_loop_advance(FIXTURE_WAIT / 2);
	assert_int_equal(fake_http_n_made() - before, 3); /* the last one: the poll that waits */
	assert_int_equal(f->tree->state, WIRE_LIVE);
}

static void nothing_to_compare_is_no_resync(void **state)
{
	struct consul_fixture *f = *state;

	fake_loop_advance(2 * FIXTURE_RESYNC);
	fake_http_expect_none(RESYNCS);
	consul_fixture_load(f);
}

static void connections_are_shared_out(void **state)
{
	struct consul_fixture *f = *state;

	assert_int_equal(fake_http_max_connections(POLLS), 14);
	assert_int_equal(fake_http_max_connections(READS), 1);
	assert_int_equal(fake_http_max_connections(RESYNCS), 1);
	assert_int_equal(f->source->n_connections(f->source), 1);
}

static void first_reads_use_what_polls_do_not(void **state)
{
	struct consul_fixture *f = *state;
	struct tree *other, *third;

	assert_int_equal(trees_get(f->trees, "config/b/", &other), 0);
	fake_http_expect(READS, "config/a/");
	fake_http_expect(POLLS, "config/b/?recurse&consistent");
	f->config.max_connections = 3; /* below what is allowed: never less than two for polls */
	assert_int_equal(consul_source_reconfigure(f->source, &f->config), 0);
	assert_int_equal(fake_http_max_connections(POLLS), 2);
	assert_int_equal(trees_get(f->trees, "config/c/", &third), 0);
	assert_int_equal(fake_http_n_pending(POLLS), 2);
	tree_unref(other);
	tree_unref(third);
}

static void a_reload_ends_no_poll(void **state)
{
	struct consul_fixture *f = *state;
	struct config config = f->config;

	consul_fixture_load(f);
	config.wait_usec = 10 * USEC_PER_SEC;
	config.resync_usec = 60 * USEC_PER_SEC;
	config.max_connections = 8;
	assert_int_equal(consul_source_reconfigure(f->source, &config), 0);
	assert_int_equal(fake_http_max_connections(POLLS), 6);
	fake_loop_advance(70 * USEC_PER_SEC);
	fake_http_expect(RESYNCS, "?recurse");
	consul_fixture_answer(fake_http_expect(POLLS, "&index=10&wait=30000ms"), "10", "a=1", NULL);
	fake_http_expect(POLLS, "&index=10&");
	assert_int_equal(consul_source_reconfigure(f->source, &f->config), 0);
}

static void a_reload_that_moves_asks_there(void **state)
{
	struct consul_fixture *f = *state;
	struct config config = f->config;
	static char token[] = "a-token", dc[] = "dc 2", ns[] = "team/a", partition[] = "p&q";

	consul_fixture_load(f);
	config.token = token;
	config.datacenter = dc;
	config.namespace = ns;
	config.partition = partition;
	assert_int_equal(consul_source_reconfigure(f->source, &config), 0);
	fake_http_expect_none(POLLS);
	assert_int_equal(fake_http_n_abandoned(POLLS), 0);
	consul_fixture_assert_content(f, "a=1", NULL); /* until the new place says otherwise */
	assert_string_equal(fake_http_expect(READS, "")->url,
		"http://127.0.0.1:8500/v1/kv/config/a/?recurse&dc=dc%202&ns=team%2Fa"
		"&partition=p%26q");
	assert_string_equal(fake_http_expect(READS, "")->token, "a-token");
	assert_int_equal(consul_source_reconfigure(f->source, &f->config), 0);
	assert_null(fake_http_expect(READS, "?recurse")->token);
}

/* The connections there are trust the old ones. */
static void a_reload_after_certificates_changed_asks_anew(void **state)
{
	struct consul_fixture *f = *state;
	struct config config = f->config;
	char path[] = "/tmp/test-resync.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	config.ca_file = path;
	consul_fixture_load(f);
	assert_int_equal(consul_source_reconfigure(f->source, &config), 0);
	consul_fixture_answer(fake_http_expect(READS, "?recurse"), "10", "a=1", NULL);
	fake_http_expect(POLLS, "&index=10&");
	assert_int_equal(consul_source_reconfigure(f->source, &config), 0);
	fake_http_expect(POLLS, "&index=10&");
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(consul_source_reconfigure(f->source, &config), 0);
	fake_http_expect_none(POLLS);
	fake_http_expect(READS, "?recurse");
	close(fd);
	unlink(path);
	assert_int_equal(consul_source_reconfigure(f->source, &f->config), 0);
}

static void a_feed_may_end_at_any_time(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	consul_fixture_answer(after_skimming(expect_resync("10")), "11", "a=2", NULL);
	consul_fixture_answer(expect_second_read(), "11", "a=2", NULL);
	tree_unobserve(&f->observer);
	f->tree = tree_unref(f->tree);
	fake_loop_advance(60 * USEC_PER_SEC);
	fake_http_expect_none(RESYNCS);
	fake_http_expect_none(READS);
	assert_true(consul_source_is_on_time(f->source));
}

#define CASE(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, consul_fixture_set_up, consul_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(the_same_contents_confirm),
		CASE(another_body_with_the_same_contents_confirms_too),
		CASE(resyncs_of_a_fleet_spread),
		CASE(what_the_watch_missed_is_repaired),
		CASE(a_watch_that_is_stuck_for_ever_leaves_the_resync_at_work),
		CASE(a_resync_that_is_stuck_for_ever_leaves_the_watch_at_work),
		CASE(a_difference_that_is_not_confirmed_is_none),
		CASE(a_watch_that_is_a_little_behind_is_well),
		CASE(two_reads_that_disagree_are_tried_again),
		CASE(an_absence_at_an_old_index_is_never_a_deletion),
		CASE(a_deletion_that_the_watch_missed_is_examined),
		CASE(access_that_is_lost_is_held_though_the_watch_is_stuck),
		CASE(a_hold_of_a_time_ends_though_the_watch_is_stuck),
		CASE(what_single_reads_do_not_tell_is_read_again),
		CASE(a_resync_that_fails_is_tried_again_and_no_error_of_the_tree),
		CASE(a_resync_can_be_had_at_once),
		CASE(a_host_that_slept_for_hours_resyncs_once),
		CASE(nothing_to_compare_is_no_resync),
		CASE(connections_are_shared_out),
		CASE(first_reads_use_what_polls_do_not),
		CASE(a_reload_ends_no_poll),
		CASE(a_reload_that_moves_asks_there),
		CASE(a_reload_after_certificates_changed_asks_anew),
		CASE(a_feed_may_end_at_any_time),
	};

	return cmocka_run_group_tests_name("resync", tests, NULL, NULL);
}
