/*
 * Answers that look like loss: what was deleted is applied, what is hidden is held.
 */
#include "consul-fixture.h"
#include "test.h"

#define ACCESS_LOST "the token may not read all keys any more"
#define DATA_LOST "Consul has no keys, at an index that is not newer: has it lost its data?"
#define UNCLEAR "keys are gone, and reading them one by one does not tell whether they were deleted"
#define DISAGREE "keys are gone, but Consul's answers disagree"

/* A poll and the read that confirms it say that there are no keys. */
static void vanish(const char *index)
{
	fake_http_answer(consul_fixture_expect_poll("&index="), 404, index, "");
	fake_http_answer(consul_fixture_expect_read(true), 404, index, "");
}

/* The same, and so it is with the one key, a. */
static void lose_data(const char *index)
{
	vanish(index);
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 404, index, "");
}

/* The same, and the key is hidden from the token. */
static void lose_access(struct consul_fixture *f)
{
	vanish("12");
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 403, NULL, "Permission denied");
	consul_fixture_assert_held(f, TREE_ACCESS_LOST, 0, ACCESS_LOST);
	consul_fixture_assert_content(f, "a=1", NULL);
}

static void access_that_is_lost_is_held_until_the_keys_come_back(void **state)
{
	struct consul_fixture *f = *state;
	uint64_t confirmed_at, since;
	unsigned n_states;

	consul_fixture_load(f);
	confirmed_at = f->tree->confirmed_at;
	fake_loop_advance(USEC_PER_SEC);
	lose_access(f);
	since = f->tree->held.since;
	n_states = f->n_states;
	/* One read tells that nothing is new, for as long as it takes. */
	for (unsigned i = 0; i < 200; i++) {
		fake_http_answer(consul_fixture_expect_look(f), 404, "12", "");
		consul_fixture_assert_held(f, TREE_ACCESS_LOST, 0, ACCESS_LOST);
	}
	assert_int_equal(f->n_states, n_states);
	assert_int_equal(f->tree->held.since, since);
	assert_int_equal(f->tree->confirmed_at, confirmed_at);
	consul_fixture_answer(consul_fixture_expect_look(f), "10", "a=1", NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	assert_null(f->tree->held.set);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_expect_poll("&index=10&");
}

/* So it is measured: the index of what is hidden is that of the hidden keys. */
static void access_that_is_lost_at_the_same_index_is_no_lost_data(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	vanish("10");
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 403, NULL, "");
	consul_fixture_assert_held(f, TREE_ACCESS_LOST, 0, ACCESS_LOST);
}

/* What a backup has of a key, written at index 5. */
static struct kvset *known(const char *key)
{
	struct kvset *set;

	assert_int_equal(kvset_new(1 << 10, NULL, &set), 0);
	assert_int_equal(kvset_add(set, key, 1, "1", 1, 0, 5), 0);
	assert_int_equal(kvset_finish(set), 0);
	set->index = 5;
	return set;
}

/* The first answer has no keys, and none was known. */
static void load_nothing_and_doubt_it(struct consul_fixture *f)
{
	fake_http_answer(consul_fixture_expect_read(true), 404, "10", "");
	consul_fixture_expect_poll("&index=10&");
	tree_doubt(f->tree, known("a"));
	fake_http_answer(consul_fixture_expect_read(false), 404, "10", "");
	fake_http_answer(consul_fixture_expect_read(true), 404, "10", "");
}

static void access_that_only_a_later_backup_knows_of_is_held(void **state)
{
	struct consul_fixture *f = *state;

	load_nothing_and_doubt_it(f);
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 403, NULL, "");
	consul_fixture_assert_held(f, TREE_ACCESS_LOST, 0, ACCESS_LOST);
	consul_fixture_assert_content(f, "a=1", NULL);
	assert_int_equal(f->n_changes, 1);
	consul_fixture_answer(consul_fixture_expect_look(f), "10", "a=1", NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	assert_int_equal(f->n_changes, 2);
}

/* That there are no keys was said at the index of the last deletion. */
static void keys_that_only_a_later_backup_knows_of_may_be_deleted(void **state)
{
	struct consul_fixture *f = *state;

	load_nothing_and_doubt_it(f);
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 404, "10", "");
	assert_int_equal(f->tree->state, WIRE_LIVE);
	consul_fixture_assert_content(f, NULL);
	assert_int_equal(f->n_changes, 1);
}

static void what_is_known_while_keys_are_asked_for_is_asked_for_too(void **state)
{
	struct consul_fixture *f = *state;

	tree_restore(f->tree, known("a"), 1);
	fake_http_answer(consul_fixture_expect_read(true), 404, "10", "");
	fake_http_answer(consul_fixture_expect_read(true), 404, "10", "");
	consul_fixture_expect_probe(READS, "a");
	tree_restore(f->tree, known("b"), 1);
	fake_http_answer(consul_fixture_expect_read(false), 404, "10", "");
	fake_http_answer(consul_fixture_expect_read(true), 404, "10", "");
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 404, "10", "");
	fake_http_answer(consul_fixture_expect_probe(READS, "b"), 403, NULL, "");
	consul_fixture_assert_held(f, TREE_ACCESS_LOST, 0, ACCESS_LOST);
	consul_fixture_assert_content(f, "a=1", "b=1", NULL);
}

static void what_is_held_is_looked_at_more_and_more_slowly(void **state)
{
	struct consul_fixture *f = *state;
	unsigned n_minute = 0, n_hour = 0;
	uint64_t begin;

	consul_fixture_load(f);
	lose_access(f);
	begin = loop_now();
	while (loop_now() - begin < 3600 * USEC_PER_SEC) {
		fake_http_answer(consul_fixture_expect_look(f), 404, "12", "");
		n_minute += loop_now() - begin < 60 * USEC_PER_SEC;
		n_hour++;
	}
	assert_in_range(n_minute, 6, 20);
	assert_in_range(n_hour, 120, 270);
}

static void what_is_held_is_examined_again_when_its_index_moves(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	lose_access(f);
	/* Somebody else deleted it meanwhile. */
	fake_http_answer(consul_fixture_expect_look(f), 404, "13", "");
	fake_http_answer(consul_fixture_expect_read(true), 404, "13", "");
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 404, "13", "");
	consul_fixture_assert_content(f, NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	consul_fixture_expect_poll("&index=13&");
}

static void what_is_held_can_be_accepted(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	assert_false(tree_accept(f->tree));
	lose_access(f);
	assert_true(tree_accept(f->tree));
	consul_fixture_assert_content(f, NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	assert_int_equal(f->n_changes, 2);
	/* At once, not when the next look was due. */
	fake_http_answer(consul_fixture_expect_read(false), 404, "12", "");
	consul_fixture_expect_poll("&index=12&");
	assert_false(tree_accept(f->tree));
}

static void a_hold_of_a_time_ends_with_it(void **state)
{
	struct consul_fixture *f = *state;
	uint64_t begin = loop_now();

	f->observer.hold_usec = 10 * USEC_PER_SEC;
	consul_fixture_load(f);
	lose_access(f);
	for (;;) {
		struct http_request *look = consul_fixture_expect_look(f);

		consul_fixture_assert_content(f, "a=1", NULL);
		fake_http_answer(look, 404, "12", "");
		if (fake_http_n_pending(READS) > 0)
			break;
	}
	assert_in_range(loop_now() - begin, 10 * USEC_PER_SEC, 10100 * USEC_PER_MSEC);
	/* It is not taken on old evidence. */
	fake_http_answer(consul_fixture_expect_read(true), 404, "12", "");
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 403, NULL, "Permission denied");
	consul_fixture_assert_content(f, NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	consul_fixture_expect_poll("&index=12&");
}

/* What was held for days before, for another reason, was not lost access. */
static void a_hold_of_a_time_counts_from_when_access_was_lost(void **state)
{
	struct consul_fixture *f = *state;
	uint64_t since;

	f->observer.hold_usec = 10 * USEC_PER_SEC;
	consul_fixture_load(f);
	lose_data("3");
	since = f->tree->held.since;
	fake_loop_stall(3600 * USEC_PER_SEC);
	fake_http_answer(consul_fixture_expect_look(f), 404, "13", "");
	fake_http_answer(consul_fixture_expect_read(true), 404, "13", "");
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 403, NULL, "Permission denied");
	consul_fixture_assert_held(f, TREE_ACCESS_LOST, 0, ACCESS_LOST);
	consul_fixture_assert_content(f, "a=1", NULL);
	assert_int_equal(tree_hold_left_usec(f->tree), 10 * USEC_PER_SEC);
	assert_int_equal(f->tree->held.since, since);
}

static void of_those_who_share_a_tree_the_longest_hold_counts(void **state)
{
	struct consul_fixture *f = *state;
	struct tree_observer other = { .fn = f->observer.fn, .userdata = f };

	f->observer.hold_usec = 5 * USEC_PER_SEC;
	other.hold_usec = 7 * USEC_PER_SEC;
	tree_observe(f->tree, &other);
	consul_fixture_load(f);
	assert_true(tree_hold_left_usec(f->tree) == UINT64_MAX);
	lose_access(f);
	assert_int_equal(tree_hold_left_usec(f->tree), 7 * USEC_PER_SEC);
	other.hold_usec = 0; /* until it is accepted */
	assert_true(tree_hold_left_usec(f->tree) == UINT64_MAX);
	tree_unobserve(&other);
	fake_loop_stall(6 * USEC_PER_SEC);
	assert_int_equal(tree_hold_left_usec(f->tree), 0);
}

static void one_hidden_key_among_deleted_ones_is_lost_access(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(consul_fixture_expect_read(true), "10", 10, "v");
	consul_fixture_answer_keys(consul_fixture_expect_poll("&index=10&"), "11", 2, "v");
	consul_fixture_answer_keys(consul_fixture_expect_read(true), "11", 2, "v");
	consul_fixture_answer_deleted(READS, 4);
	fake_http_answer(consul_fixture_expect_probe(READS, "k0006"), 403, NULL, "");
	consul_fixture_answer_deleted(READS, 3);
	consul_fixture_assert_held(f, TREE_ACCESS_LOST, 2, ACCESS_LOST);
	assert_int_equal(f->tree->content->records.n, 10);
}

static void samples_are_spread_over_all_that_is_gone(void **state)
{
	static const char *const keys[] = { "k0001", "k0129", "k0257", "k0385", "k0513", "k0641",
		"k0769", "k0897" };
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(consul_fixture_expect_read(true), "10", 1000, "v");
	consul_fixture_answer_keys(consul_fixture_expect_poll("&index=10&"), "11", 1, "v");
	consul_fixture_answer_keys(consul_fixture_expect_read(true), "11", 1, "v");
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		fake_http_answer(consul_fixture_expect_probe(READS, keys[i]), 404, "11", "");
	assert_int_equal(f->tree->content->records.n, 1);
	consul_fixture_expect_poll("&index=11&");
}

static void a_key_that_is_there_when_asked_for_makes_it_unclear(void **state)
{
	struct consul_fixture *f = *state;
	uint64_t since;

	consul_fixture_load(f);
	vanish("12");
	consul_fixture_answer(consul_fixture_expect_probe(READS, "a"), "13", "a=1", NULL);
	consul_fixture_assert_held(f, TREE_UNCLEAR, 0, UNCLEAR);
	since = f->tree->held.since;
	/* Asked from the start, though it says what it said. */
	fake_http_answer(consul_fixture_expect_look(f), 404, "12", "");
	fake_http_answer(consul_fixture_expect_read(true), 404, "12", "");
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 403, NULL, "");
	consul_fixture_assert_held(f, TREE_ACCESS_LOST, 0, ACCESS_LOST);
	assert_int_equal(f->tree->held.since, since);
	fake_http_answer(consul_fixture_expect_look(f), 404, "13", "");
	fake_http_answer(consul_fixture_expect_read(true), 404, "13", "");
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 404, "13", "");
	consul_fixture_assert_content(f, NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
}

static void an_answer_about_a_key_that_is_none_makes_it_unclear(void **state)
{
	static const struct {
		int status;
		const char *index;
	} answers[] = { { 500, NULL }, { 404, NULL }, { 301, "12" }, { 200, "12" }, { 401, NULL } };
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		vanish("12");
		fake_http_answer(consul_fixture_expect_probe(READS, "a"), answers[i].status,
			answers[i].index, "");
		consul_fixture_assert_held(f, TREE_UNCLEAR, 0, UNCLEAR);
		consul_fixture_assert_content(f, "a=1", NULL);
		consul_fixture_answer(consul_fixture_expect_look(f), "10", "a=1", NULL);
		assert_int_equal(f->tree->state, WIRE_LIVE);
	}
	assert_int_equal(f->n_changes, 1);
}

/* Consul redirects such paths to other keys. */
static void keys_that_cannot_be_asked_for_are_no_samples(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer(consul_fixture_expect_read(true), "10", "../b=1", "c//d=1", "e/./f=1",
		"g/=1", "h/..i=1", NULL);
	vanish("12");
	fake_http_answer(consul_fixture_expect_probe(READS, "g/"), 404, "12", "");
	fake_http_answer(consul_fixture_expect_probe(READS, "h/..i"), 404, "12", "");
	consul_fixture_assert_content(f, NULL);
	consul_fixture_answer(consul_fixture_expect_poll("&index=12&"), "13", "/x=1", NULL);
	vanish("14");
	consul_fixture_assert_held(f, TREE_UNCLEAR, 0, UNCLEAR);
}

static void an_index_that_went_backwards_makes_any_loss_suspicious(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer(consul_fixture_expect_read(true), "10", "a=1", "b=1", NULL);
	consul_fixture_answer(consul_fixture_expect_poll("&index=10&"), "7", "a=2", NULL);
	consul_fixture_answer(consul_fixture_expect_read(true), "7", "a=2", NULL);
	consul_fixture_assert_content(f, "a=1", "b=1", NULL);
	fake_http_answer(consul_fixture_expect_probe(READS, "b"), 404, "7", "");
	consul_fixture_assert_content(f, "a=2", NULL);
	consul_fixture_expect_poll("&index=7&");
}

static void an_absence_at_an_old_index_is_never_a_deletion(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	lose_data("3");
	consul_fixture_assert_held(f, TREE_DATA_LOST, 0, DATA_LOST);
	consul_fixture_assert_content(f, "a=1", NULL);
	/* Others write to the new cluster: indexes of two clusters do not compare. */
	fake_http_answer(consul_fixture_expect_look(f), 404, "3000", "");
	fake_http_answer(consul_fixture_expect_read(true), 404, "3000", "");
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 404, "3000", "");
	consul_fixture_assert_held(f, TREE_DATA_LOST, 0, DATA_LOST);
	/* Filled again: other contents, at a low index. */
	consul_fixture_answer(consul_fixture_expect_look(f), "6", "a=3", NULL);
	consul_fixture_answer(consul_fixture_expect_read(true), "6", "a=3", NULL);
	consul_fixture_assert_content(f, "a=3", NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	consul_fixture_expect_poll("&index=6&");
}

/* 1.8.7 shows an older deletion's index where all was deleted by a part of the prefix. */
static void an_absence_at_an_old_index_in_a_newer_store_is_a_deletion(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer(consul_fixture_expect_read(true), "12", "a=2", "b=1", NULL);
	fake_http_answer(consul_fixture_expect_poll("&index=12&"), 404, "11", "");
	fake_http_answer(consul_fixture_expect_read(true), 404, "11", "");
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 404, "14", "");
	consul_fixture_assert_content(f, "a=2", "b=1", NULL);
	fake_http_answer(consul_fixture_expect_probe(READS, "b"), 404, "13", "");
	consul_fixture_assert_content(f, NULL);
	assert_int_equal(f->tree->state, WIRE_LIVE);
}

static void one_key_at_an_old_index_makes_an_absence_no_deletion(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer(consul_fixture_expect_read(true), "12", "a=2", "b=1", NULL);
	fake_http_answer(consul_fixture_expect_poll("&index=12&"), 404, "11", "");
	fake_http_answer(consul_fixture_expect_read(true), 404, "11", "");
	fake_http_answer(consul_fixture_expect_probe(READS, "a"), 404, "12", "");
	fake_http_answer(consul_fixture_expect_probe(READS, "b"), 404, "13", "");
	consul_fixture_assert_held(f, TREE_DATA_LOST, 0, DATA_LOST);
	consul_fixture_assert_content(f, "a=2", "b=1", NULL);
}

static void a_time_to_hold_does_not_make_lost_data_a_deletion(void **state)
{
	struct consul_fixture *f = *state;

	f->observer.hold_usec = USEC_PER_SEC;
	consul_fixture_load(f);
	lose_data("3");
	for (unsigned i = 0; i < 10; i++)
		fake_http_answer(consul_fixture_expect_look(f), 404, "3", "");
	consul_fixture_assert_held(f, TREE_DATA_LOST, 0, DATA_LOST);
	assert_true(tree_accept(f->tree));
	consul_fixture_assert_content(f, NULL);
}

static void answers_that_disagree_are_asked_for_until_two_agree(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_answer_keys(consul_fixture_expect_read(true), "10", 20, "v");
	consul_fixture_answer_keys(consul_fixture_expect_poll("&index=10&"), "11", 3, "v");
	consul_fixture_answer_keys(consul_fixture_expect_read(true), "12", 2, "v");
	consul_fixture_assert_held(f, TREE_UNCLEAR, 2, DISAGREE);
	assert_int_equal(f->tree->content->records.n, 20);
	consul_fixture_answer_keys(consul_fixture_expect_look(f), "12", 2, "v");
	consul_fixture_answer_deleted(READS, 5); /* of 18: each fourth */
	assert_int_equal(f->tree->content->records.n, 2);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	consul_fixture_expect_poll("&index=12&");
}

static void an_outage_ends_no_hold(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	lose_access(f);
	fake_http_fail(consul_fixture_expect_look(f), -ECONNREFUSED, "connection refused");
	assert_int_equal(f->tree->state, WIRE_HELD);
	assert_int_equal(f->tree->error.kind, TREE_UNREACHABLE);
	fake_http_answer(consul_fixture_expect_look(f), 404, "12", "");
	consul_fixture_assert_content(f, "a=1", NULL);
	consul_fixture_assert_held(f, TREE_ACCESS_LOST, 0, ACCESS_LOST); /* and there is no error */
}

static void keys_are_not_examined_when_somebody_else_has_decided(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	lose_access(f);
	fake_http_answer(consul_fixture_expect_look(f), 404, "13", "");
	fake_http_answer(consul_fixture_expect_read(true), 404, "13", "");
	consul_fixture_expect_probe(READS, "a");
	assert_true(tree_accept(f->tree));
	fake_http_answer(consul_fixture_expect_read(false), 404, "13", "");
	consul_fixture_assert_content(f, NULL);
	consul_fixture_expect_poll("&index=13&");
}

static void a_tree_may_end_while_keys_are_asked_for(void **state)
{
	struct consul_fixture *f = *state;

	consul_fixture_load(f);
	vanish("12");
	consul_fixture_expect_probe(READS, "a");
	assert_true(consul_source_is_on_time(f->source));
	fake_loop_stall(120 * USEC_PER_SEC);
	assert_false(consul_source_is_on_time(f->source));
	tree_unobserve(&f->observer);
	f->tree = tree_unref(f->tree);
	fake_http_expect_none(READS);
}

#define CASE(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, consul_fixture_set_up, consul_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(access_that_is_lost_is_held_until_the_keys_come_back),
		CASE(access_that_is_lost_at_the_same_index_is_no_lost_data),
		CASE(access_that_only_a_later_backup_knows_of_is_held),
		CASE(keys_that_only_a_later_backup_knows_of_may_be_deleted),
		CASE(what_is_known_while_keys_are_asked_for_is_asked_for_too),
		CASE(what_is_held_is_looked_at_more_and_more_slowly),
		CASE(what_is_held_is_examined_again_when_its_index_moves),
		CASE(what_is_held_can_be_accepted),
		CASE(a_hold_of_a_time_ends_with_it),
		CASE(a_hold_of_a_time_counts_from_when_access_was_lost),
		CASE(of_those_who_share_a_tree_the_longest_hold_counts),
		CASE(one_hidden_key_among_deleted_ones_is_lost_access),
		CASE(samples_are_spread_over_all_that_is_gone),
		CASE(a_key_that_is_there_when_asked_for_makes_it_unclear),
		CASE(an_answer_about_a_key_that_is_none_makes_it_unclear),
		CASE(keys_that_cannot_be_asked_for_are_no_samples),
		CASE(an_index_that_went_backwards_makes_any_loss_suspicious),
		CASE(an_absence_at_an_old_index_is_never_a_deletion),
		CASE(an_absence_at_an_old_index_in_a_newer_store_is_a_deletion),
		CASE(one_key_at_an_old_index_makes_an_absence_no_deletion),
		CASE(a_time_to_hold_does_not_make_lost_data_a_deletion),
		CASE(answers_that_disagree_are_asked_for_until_two_agree),
		CASE(an_outage_ends_no_hold),
		CASE(keys_are_not_examined_when_somebody_else_has_decided),
		CASE(a_tree_may_end_while_keys_are_asked_for),
	};

	return cmocka_run_group_tests_name("hold", tests, NULL, NULL);
}
