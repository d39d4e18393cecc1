/*
 * More trees than polls, on a model of Consul: what changes is seen, soon and by few requests; and
 * whatever happens, in whatever order, nothing is missed.
 */
#include "crowd-fixture.h"
#include "test.h"

static void all_polls_are_doorbells(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	model_run(crowd->model, 2 * FIXTURE_WAIT);
	assert_int_equal(model_n_polls(), POLLS_AT_ONCE);
	assert_int_equal(model_n_answered(crowd->model, "?recurse"), 0);
	assert_true(model_n_answered(crowd->model, "?keys&separator=/&index=") >= POLLS_AT_ONCE);
	for (unsigned i = 0; i < N_TREES; i++)
		assert_true(loop_now() - crowd->trees[i]->confirmed_at <= FIXTURE_WAIT * 9 / 8);
}

static void a_change_is_found_by_few_probes(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	crowd_put(crowd, 17, "a", "2");
	model_run(crowd->model, 20 * USEC_PER_MSEC);
	crowd_assert_right(crowd);
	assert_int_equal(model_n_answered(crowd->model, "?recurse"), 1);
	assert_int_equal(model_n_answered(crowd->model, "config/svc-17/?recurse"), 1);
	assert_true(model_n_answered(crowd->model, "?keys") < 20);
}

static bool is_asked(const char *part)
{
	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++)
		if (fake_http_at(i) && strstr(fake_http_at(i)->url, part))
			return true;
	return false;
}

/* What was written after the answer was settled, and rang while it was on its way. */
static void a_change_during_a_read_is_found(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	crowd_put(crowd, 17, "a", "2");
	while (!is_asked("svc-17/?recurse")) {
		assert_true(model_answer_one(crowd->model, 0));
		fake_loop_advance(0);
	}
	model_hold(crowd->model, "svc-17/?recurse");
	crowd_put(crowd, 17, "a", "3");
	model_run(crowd->model, SOON);
	assert_false(crowd_is_right(crowd, crowd->trees[17]));
	model_release(crowd->model);
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
}

static void writes_beside_the_trees_are_no_change(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	model_put(crowd->model, "config/svc-17x", "1");
	model_put(crowd->model, "config/svc-1", "1");
	model_put(crowd->model, "config/zebra/a", "1");
	model_put(crowd->model, "elsewhere", "1");
	model_run(crowd->model, SOON);
	assert_int_equal(model_n_answered(crowd->model, "?recurse"), 0);
	crowd_assert_right(crowd);
}

static void deletions_are_found(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	model_delete(crowd->model, "config/svc-17/a", false);
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
	model_delete(crowd->model, "config/svc-23/", true);
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
	assert_int_equal(crowd->trees[23]->content->records.n, 0);
	/* One tombstone, at a prefix that is none of a tree's and none of a probe's. The ones
	 * before would hide it: see the model. */
	model_reap(crowd->model);
	model_run(crowd->model, FIXTURE_WAIT * 9 / 8);
	model_delete(crowd->model, "config/svc", true);
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
	assert_int_equal(crowd->trees[0]->content->records.n, 0);
	crowd_put(crowd, 9, "a", "back");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
}

static void trees_within_trees_are_found(void **state)
{
	struct crowd *crowd = *state;

	snprintf(crowd->prefixes[0], sizeof(crowd->prefixes[0]), "config/");
	snprintf(crowd->prefixes[1], sizeof(crowd->prefixes[1]), "config/svc-17/deep/");
	crowd_gather(state);
	crowd_put(crowd, 1, "a", "2");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
	crowd_put(crowd, 17, "c", "2");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
}

static void a_tree_without_keys_gets_them(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	model_delete(crowd->model, "config/svc-30/", true);
	model_run(crowd->model, SOON);
	model_forget_answered(crowd->model);
	/* It is nobody's news that others change. */
	crowd_put(crowd, 31, "a", "2");
	model_run(crowd->model, SOON);
	assert_int_equal(model_n_answered(crowd->model, "config/svc-30/?recurse"), 0);
	crowd_put(crowd, 30, "a", "again");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
}

static void tombstones_that_go_hide_nothing(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	model_delete(crowd->model, "config/svc-17/a", false);
	model_run(crowd->model, SOON);
	model_reap(crowd->model);
	model_run(crowd->model, FIXTURE_WAIT * 9 / 8);
	crowd_put(crowd, 17, "b", "2");
	crowd_put(crowd, 18, "b", "2");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
}

static void a_restored_store_is_read_again(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	model_restore(crowd->model, "old");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
	crowd_put(crowd, 3, "a", "new");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
}

static void an_outage_is_told_and_ends(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	model_set_away(crowd->model, true);
	model_run(crowd->model, 30 * USEC_PER_SEC);
	for (unsigned i = 0; i < N_TREES; i++)
		assert_int_equal(crowd->trees[i]->state, WIRE_STALE);
	/* Doorbells ask, not trees. */
	assert_true(model_n_answered(crowd->model, "") < 30 * 5 * POLLS_AT_ONCE);
	crowd_put(crowd, 5, "a", "meanwhile");
	model_set_away(crowd->model, false);
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
	for (unsigned i = 0; i < N_TREES; i++)
		assert_int_equal(crowd->trees[i]->state, WIRE_LIVE);
}

static void without_leave_to_list_trees_are_read(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	model_set_listing(crowd->model, false);
	crowd_put(crowd, 5, "a", "2");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
	crowd_put(crowd, 6, "a", "2");
	model_run(crowd->model, FIXTURE_WAIT + SOON);
	crowd_assert_right(crowd);
	for (unsigned i = 0; i < N_TREES; i++)
		assert_int_equal(crowd->trees[i]->state, WIRE_LIVE);
	model_set_listing(crowd->model, true);
	model_run(crowd->model, FIXTURE_WAIT + SOON);
	model_forget_answered(crowd->model);
	crowd_put(crowd, 7, "a", "2");
	model_run(crowd->model, 50 * USEC_PER_MSEC);
	crowd_assert_right(crowd);
}

/* The ring before an outage came to nothing: what is read later is not that old. */
static void a_change_is_as_old_as_its_own_ring(void **state)
{
	struct crowd *crowd = crowd_gather(state);
	uint64_t written_at;

	crowd_put(crowd, 5, "a", "2");
	while (!is_asked("svc-05/?recurse")) {
		assert_true(model_answer_one(crowd->model, 0));
		fake_loop_advance(0);
	}
	model_set_away(crowd->model, true);
	model_run(crowd->model, SOON);
	model_set_away(crowd->model, false);
	model_run(crowd->model, FIXTURE_WAIT + SOON);
	crowd_assert_right(crowd);
	model_set_listing(crowd->model, false);
	written_at = loop_now();
	crowd_put(crowd, 5, "a", "3");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
	assert_true(crowd->trees[5]->content->heard_at >= written_at);
}

static void a_storm_is_coalesced(void **state)
{
	struct crowd *crowd = crowd_gather(state);
	char value[16];

	for (unsigned i = 0; i < 1000; i++) {
		snprintf(value, sizeof(value), "%u", i);
		crowd_put(crowd, 17, "a", value);
		model_run(crowd->model, 5 * USEC_PER_MSEC);
	}
	assert_true(model_n_answered(crowd->model, "config/svc-17/?recurse") < 40);
	model_run(crowd->model, USEC_PER_SEC);
	crowd_assert_right(crowd);
}

static void few_trees_have_their_own_polls_again(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	crowd_close(crowd, POLLS_AT_ONCE - 1, N_TREES);
	crowd_put(crowd, 1, "a", "at once");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
	model_run(crowd->model, 2 * FIXTURE_WAIT);
	assert_int_equal(model_n_polls(), POLLS_AT_ONCE);
	assert_non_null(fake_http_find("config/svc-01/?recurse&index="));
	crowd_put(crowd, 1, "a", "2");
	model_run(crowd->model, 5 * USEC_PER_MSEC);
	crowd_assert_right(crowd);
}

/* As before: none ends early, and none more is asked. */
static void polls_of_closed_trees_run_out(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	crowd_close(crowd, 0, N_TREES);
	assert_int_equal(model_n_polls(), POLLS_AT_ONCE);
	for (unsigned i = 0; i < N_TREES; i++) {
		snprintf(crowd->prefixes[i], sizeof(crowd->prefixes[i]), "other/%u/", i);
		crowd_put(crowd, i, "a", "1");
		crowd_open(crowd, i);
		model_run(crowd->model, 100 * USEC_PER_MSEC);
		assert_true(model_n_polls() <= POLLS_AT_ONCE);
	}
	crowd_put(crowd, 40, "a", "2");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
}

static void a_reload_ends_no_poll(void **state)
{
	struct crowd *crowd = crowd_gather(state);
	struct consul_fixture *f = crowd->fixture;

	f->config.resync_usec *= 2;
	assert_int_equal(consul_source_reconfigure(f->source, &f->config), 0);
	assert_int_equal(model_n_polls(), POLLS_AT_ONCE);
	assert_int_equal(fake_http_n_abandoned(POLLS), 0);
	crowd_put(crowd, 40, "a", "2");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
}

/* Two that are used, 46 invented names: the two keep their polls, and names may become true. */
static void invented_names_take_no_polls(void **state)
{
	struct crowd *crowd = *state;

	crowd_put(crowd, 0, "a", "1");
	model_put(crowd->model, "config/a/a", "1");
	for (unsigned i = 0; i < N_TREES; i++)
		crowd_open(crowd, i);
	model_run(crowd->model, 2 * FIXTURE_WAIT);
	crowd_assert_right(crowd);
	assert_non_null(fake_http_find("config/svc-00/?recurse&index="));
	assert_non_null(fake_http_find("config/a/?recurse&index="));
	assert_true(model_n_polls() <= POLLS_AT_ONCE);
	model_forget_answered(crowd->model);
	for (unsigned i = 0; i < 1000; i++) {
		char value[16];

		snprintf(value, sizeof(value), "%u", i);
		model_put(crowd->model, "elsewhere", value);
		model_run(crowd->model, 10 * USEC_PER_MSEC);
	}
	assert_true(model_n_answered(crowd->model, "") < 60);
	crowd_put(crowd, 40, "a", "true");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
}

/* Chance --------------------------------------------------------------------------------------- */

static uint64_t chance_state;

static uint32_t chance(uint32_t n)
{
	chance_state = chance_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(chance_state >> 33) % n;
}

/* Consul keeps tombstones for a quarter of an hour: everybody has seen them by then. */
static void reap(struct crowd *crowd)
{
	model_run(crowd->model, SOON);
	model_reap(crowd->model);
}

static void write_by_chance(struct crowd *crowd)
{
	static const char *const names[] = { "a", "b", "c", "deep/a", "deep/b" };
	static unsigned i;
	char text[64];

	/* Often where it was written just now, and is being read. */
	if (chance(2) == 0)
		i = chance(N_TREES);
	snprintf(text, sizeof(text), "%u", chance(1000));
	switch (chance(12)) {
	case 0:
		snprintf(text, sizeof(text), "%s%s", crowd->prefixes[i], names[chance(5)]);
		model_delete(crowd->model, text, false);
		break;
	case 1:
		/* Not so soon after deletions below it: Consul itself shows that too late. */
		reap(crowd);
		model_delete(crowd->model, crowd->prefixes[i], true);
		break;
	case 2:
		model_put(crowd->model, "elsewhere/x", text);
		break;
	case 3:
		reap(crowd);
		break;
	case 4:
		if (chance(8) != 0)
			break;
		reap(crowd);
		snprintf(text, sizeof(text), "%.*s", (int)(9 + chance(5)), crowd->prefixes[i]);
		model_delete(crowd->model, text, true);
		break;
	default:
		crowd_put(crowd, i, names[chance(5)], text);
	}
}

static void do_by_chance(struct crowd *crowd)
{
	unsigned i = chance(N_TREES);

	switch (chance(40)) {
	case 0:
	case 1:
		if (crowd->trees[i])
			crowd->trees[i] = tree_unref(crowd->trees[i]);
		else
			crowd_open(crowd, i);
		break;
	case 2:
		fake_loop_advance(chance(200) * USEC_PER_MSEC);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		write_by_chance(crowd);
		break;
	case 7:
		if (chance(20) == 0)
			model_run(crowd->model, FIXTURE_WAIT);
		break;
	case 8:
	case 9:
	case 10:
	case 11:
	case 12:
		model_decide_one(crowd->model, chance(1000));
		break;
	default:
		model_answer_one(crowd->model, chance(1000));
		fake_loop_advance(chance(500));
	}
	assert_true(model_n_polls() <= POLLS_AT_ONCE);
}

/* Writes, deletions, closing and opening between any two answers; then a short silence. */
static void nothing_is_missed(void **state)
{
	struct crowd *crowd = *state;

	for (unsigned i = 0; i < N_TREES; i++)
		if (i % 5 == 4)
			snprintf(crowd->prefixes[i], sizeof(crowd->prefixes[i]),
				"config/svc-%02u/deep/", i - 1);
	for (unsigned seed = 1; seed <= 40; seed++) {
		chance_state = seed;
		for (unsigned step = 0; step < 1000; step++)
			do_by_chance(crowd);
		model_run(crowd->model, 4 * USEC_PER_SEC);
		crowd_assert_right(crowd);
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, crowd_set_up, crowd_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(all_polls_are_doorbells),
		CASE(a_change_is_found_by_few_probes),
		CASE(a_change_during_a_read_is_found),
		CASE(writes_beside_the_trees_are_no_change),
		CASE(deletions_are_found),
		CASE(trees_within_trees_are_found),
		CASE(a_tree_without_keys_gets_them),
		CASE(tombstones_that_go_hide_nothing),
		CASE(a_restored_store_is_read_again),
		CASE(an_outage_is_told_and_ends),
		CASE(without_leave_to_list_trees_are_read),
		CASE(a_change_is_as_old_as_its_own_ring),
		CASE(a_storm_is_coalesced),
		CASE(few_trees_have_their_own_polls_again),
		CASE(polls_of_closed_trees_run_out),
		CASE(a_reload_ends_no_poll),
		CASE(invented_names_take_no_polls),
		CASE(nothing_is_missed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
