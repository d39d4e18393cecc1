#include "test.h"

#include "daemon/deadline.h"
#include "fake-loop.h"

#define DELAY 1000
#define MANY 1000

static struct loop *loop;
static struct deadlines deadlines;
static struct deadline *expired[MANY];
static unsigned n_expired;

static void on_deadline(struct deadline *deadline)
{
	assert_false(deadline_is_running(deadline));
	assert_true(n_expired < MANY);
	expired[n_expired++] = deadline;
}

static int set_up(void **state)
{
	(void)state;
	n_expired = 0;
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(deadlines_init(&deadlines, loop, DELAY, on_deadline), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	deadlines_done(&deadlines);
	loop_free(loop);
	return 0;
}

static void it_expires_once_when_its_time_has_come_and_not_before(void **state)
{
	struct deadline a;

	(void)state;
	deadline_init(&a);
	assert_false(deadline_is_running(&a));
	deadline_start(&deadlines, &a);
	assert_true(deadline_is_running(&a));
	fake_loop_advance(DELAY - 1);
	assert_int_equal(n_expired, 0);
	fake_loop_advance(1);
	assert_int_equal(n_expired, 1);
	assert_ptr_equal(expired[0], &a);
	fake_loop_advance(10 * DELAY);
	assert_int_equal(n_expired, 1);
}

static void they_expire_in_the_order_they_were_started(void **state)
{
	struct deadline all[5];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		deadline_init(&all[i]);
		deadline_start(&deadlines, &all[i]);
		fake_loop_advance(100);
	}
	assert_int_equal(n_expired, 0);
	fake_loop_advance(DELAY - 500);
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		assert_int_equal(n_expired, i + 1);
		assert_ptr_equal(expired[i], &all[i]);
		fake_loop_advance(100);
	}
}

static void one_that_is_stopped_does_not_expire_and_the_next_one_does(void **state)
{
	struct deadline a, b;

	(void)state;
	deadline_init(&a);
	deadline_init(&b);
	deadline_start(&deadlines, &a);
	fake_loop_advance(100);
	deadline_start(&deadlines, &b);
	deadline_stop(&a);
	deadline_stop(&a);
	assert_false(deadline_is_running(&a));
	fake_loop_advance(DELAY - 1);
	assert_int_equal(n_expired, 0);
	fake_loop_advance(1);
	assert_int_equal(n_expired, 1);
	assert_ptr_equal(expired[0], &b);
}

static void when_all_were_stopped_a_new_one_has_its_whole_time(void **state)
{
	struct deadline a;

	(void)state;
	deadline_init(&a);
	deadline_start(&deadlines, &a);
	deadline_stop(&a);
	fake_loop_advance(DELAY / 2);
	deadline_start(&deadlines, &a);
	fake_loop_advance(DELAY - 1);
	assert_int_equal(n_expired, 0);
	fake_loop_advance(1);
	assert_int_equal(n_expired, 1);
	/* Nothing runs any more, and it can be started again. */
	fake_loop_advance(10 * DELAY);
	deadline_start(&deadlines, &a);
	fake_loop_advance(DELAY);
	assert_int_equal(n_expired, 2);
}

static void one_that_is_started_again_begins_anew_behind_the_others(void **state)
{
	struct deadline a, b;

	(void)state;
	deadline_init(&a);
	deadline_init(&b);
	deadline_start(&deadlines, &a);
	deadline_start(&deadlines, &b);
	fake_loop_advance(DELAY - 1);
	deadline_start(&deadlines, &a);
	fake_loop_advance(1);
	assert_int_equal(n_expired, 1);
	assert_ptr_equal(expired[0], &b);
	fake_loop_advance(DELAY - 2);
	assert_int_equal(n_expired, 1);
	fake_loop_advance(1);
	assert_int_equal(n_expired, 2);
	assert_ptr_equal(expired[1], &a);
}

static void one_moves_to_another_queue(void **state)
{
	struct deadlines longer;
	struct deadline a;

	(void)state;
	assert_int_equal(deadlines_init(&longer, loop, 3 * DELAY, on_deadline), 0);
	deadline_init(&a);
	deadline_start(&deadlines, &a);
	deadline_start(&longer, &a);
	fake_loop_advance(3 * DELAY - 1);
	assert_int_equal(n_expired, 0);
	fake_loop_advance(1);
	assert_int_equal(n_expired, 1);
	deadlines_done(&longer);
}

static void all_of_many_expire_after_a_stall(void **state)
{
	static struct deadline all[MANY];

	(void)state;
	for (unsigned i = 0; i < MANY; i++) {
		deadline_init(&all[i]);
		deadline_start(&deadlines, &all[i]);
	}
	fake_loop_stall(10 * DELAY);
	fake_loop_advance(0);
	assert_int_equal(n_expired, MANY);
	for (unsigned i = 0; i < MANY; i++)
		assert_ptr_equal(expired[i], &all[i]);
}

static void free_and_restart(struct deadline *deadline)
{
	static unsigned n_restarts;

	on_deadline(deadline);
	if (n_restarts++ == 0)
		deadline_start(&deadlines, deadline);
	else
		free(deadline);
}

static void one_may_be_started_again_or_freed_when_it_expires(void **state)
{
	struct deadline *a = malloc(sizeof(*a));

	(void)state;
	assert_non_null(a);
	deadlines.fn = free_and_restart;
	deadline_init(a);
	deadline_start(&deadlines, a);
	fake_loop_advance(DELAY);
	assert_int_equal(n_expired, 1);
	assert_true(deadline_is_running(a));
	fake_loop_advance(DELAY - 1);
	assert_int_equal(n_expired, 1);
	fake_loop_advance(1);
	assert_int_equal(n_expired, 2);
	fake_loop_advance(10 * DELAY);
	assert_int_equal(n_expired, 2);
}

static void stop_the_other(struct deadline *deadline)
{
	on_deadline(deadline);
	deadline_stop(deadline + 1);
}

static void one_that_expires_may_stop_the_one_behind_it(void **state)
{
	struct deadline all[3];

	(void)state;
	deadlines.fn = stop_the_other;
	for (unsigned i = 0; i < 2; i++) {
		deadline_init(&all[i]);
		deadline_start(&deadlines, &all[i]);
	}
	deadline_init(&all[2]);
	fake_loop_advance(DELAY);
	assert_int_equal(n_expired, 1);
	assert_ptr_equal(expired[0], &all[0]);
}

static void zeroed_memory_is_done(void **state)
{
	struct deadlines zeroed = { 0 };

	(void)state;
	deadlines_done(&zeroed);
	assert_null(zeroed.timer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_expires_once_when_its_time_has_come_and_not_before),
		TEST(they_expire_in_the_order_they_were_started),
		TEST(one_that_is_stopped_does_not_expire_and_the_next_one_does),
		TEST(when_all_were_stopped_a_new_one_has_its_whole_time),
		TEST(one_that_is_started_again_begins_anew_behind_the_others),
		TEST(one_moves_to_another_queue),
		TEST(all_of_many_expire_after_a_stall),
		TEST(one_may_be_started_again_or_freed_when_it_expires),
		TEST(one_that_expires_may_stop_the_one_behind_it),
		TEST(zeroed_memory_is_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
