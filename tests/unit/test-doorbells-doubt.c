/*
 * More trees than polls, where doorbells change and what Consul says is not to be trusted: nothing
 * is missed.
 */
#include "crowd-fixture.h"
#include "test.h"

#include <limits.h>

/* Trees come and go when an outage is over: doorbells that rest from it are replaced by new ones.
 */
static void what_is_doubted_is_read_again_behind_other_doorbells(void **state)
{
	struct crowd *crowd = crowd_gather(state);
	char key[32];

	model_set_away(crowd->model, true);
	model_run(crowd->model, 4 * FIXTURE_WAIT);
	model_rewind(crowd->model, "other");
	for (unsigned i = 0; i < 5; i++) {
		/* The store is above what all know, and none of the trees is. */
		snprintf(key, sizeof(key), "config/svc-%u", i);
		model_put(crowd->model, key, "1");
	}
	model_set_away(crowd->model, false);
	crowd_close(crowd, 0, N_TREES * 2 / 3);
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
}

/* The polls under way sleep on: no index that went backwards is seen but by the new doorbells. */
static void another_store_is_seen_by_a_new_doorbell(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	model_rewind(crowd->model, "other");
	crowd_close(crowd, 0, N_TREES * 2 / 3);
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
}

/* No doorbell takes it for what the store has reached. */
static void an_index_that_no_store_has_blinds_nobody(void **state)
{
	static const uint64_t lies[] = { UINT64_MAX, (uint64_t)INT64_MAX + 1, 0 };
	struct crowd *crowd = crowd_gather(state);

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		char value[8];

		snprintf(value, sizeof(value), "%zu", i);
		/* Of a probe: the doorbell's own answer is that of a poll. */
		model_lie(crowd->model, lies[i]);
		crowd_put(crowd, 17, "a", value);
		model_run(crowd->model, SOON);
		crowd_assert_right(crowd);
		for (unsigned n = 0; n < N_TREES; n++)
			crowd_put(crowd, n, "b", value);
		model_run(crowd->model, SOON);
		crowd_assert_right(crowd);
	}
}

/* One of a store that could be: whoever believed it sees less for no longer than a wait. */
static void an_index_that_is_not_true_is_not_believed_for_long(void **state)
{
	struct crowd *crowd = crowd_gather(state);

	model_set_away(crowd->model, true);
	model_run(crowd->model, SOON);
	model_lie(crowd->model, 1000000);
	model_set_away(crowd->model, false);
	model_run(crowd->model, 2 * FIXTURE_WAIT);
	for (unsigned n = 0; n < N_TREES; n++)
		crowd_put(crowd, n, "b", "3");
	model_run(crowd->model, 2 * FIXTURE_WAIT);
	crowd_assert_right(crowd);
}

static void fewer_connections_are_shared_by_fewer_doorbells(void **state)
{
	struct crowd *crowd = crowd_gather(state);
	struct consul_fixture *f = crowd->fixture;

	f->config.max_connections = CONNECTIONS - 2;
	assert_int_equal(consul_source_reconfigure(f->source, &f->config), 0);
	model_run(crowd->model, 3 * FIXTURE_WAIT);
	model_forget_answered(crowd->model);
	model_run(crowd->model, 2 * FIXTURE_WAIT);
	assert_int_equal(model_n_polls(), POLLS_AT_ONCE - 2);
	assert_int_equal(model_n_answered(crowd->model, "&consistent"), 0); /* none knocks */
	crowd_put(crowd, 40, "a", "2");
	model_run(crowd->model, 20 * USEC_PER_MSEC);
	crowd_assert_right(crowd);
}

static void a_doorbell_that_could_not_be_had_comes_later(void **state)
{
	struct crowd *crowd = *state;

	for (unsigned i = 0; i < N_TREES; i++)
		crowd_open(crowd, i);
	fake_loop_fail_timers(UINT_MAX);
	model_run(crowd->model, 10 * USEC_PER_SEC);
	fake_loop_fail_timers(0);
	model_run(crowd->model, FIXTURE_WAIT);
	for (unsigned i = 0; i < N_TREES; i++)
		crowd_put(crowd, i, "a", "1");
	model_run(crowd->model, SOON);
	crowd_assert_right(crowd);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, crowd_set_up, crowd_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_is_doubted_is_read_again_behind_other_doorbells),
		CASE(another_store_is_seen_by_a_new_doorbell),
		CASE(an_index_that_no_store_has_blinds_nobody),
		CASE(an_index_that_is_not_true_is_not_believed_for_long),
		CASE(fewer_connections_are_shared_by_fewer_doorbells),
		CASE(a_doorbell_that_could_not_be_had_comes_later),
	};

	return cmocka_run_group_tests_name("doorbells-doubt", tests, NULL, NULL);
}
