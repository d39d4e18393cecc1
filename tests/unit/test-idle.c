#include "test.h"

#include "daemon/idle.h"
#include "fake-loop.h"

#define IDLE (10 * USEC_PER_SEC)

static struct loop *the_loop;
static struct idle *idle;
static bool is_used, is_stopped;
static uint64_t left_at;

/* In the places of the real ones. */
uint64_t server_unused_usec(const struct server *server)
{
	(void)server;
	return is_used ? 0 : loop_now() - left_at;
}

void loop_stop(struct loop *loop)
{
	assert_ptr_equal(loop, the_loop);
	is_stopped = true;
}

static void leave(void)
{
	is_used = false;
	left_at = loop_now();
}

static int set_up(void **state)
{
	(void)state;
	is_stopped = false;
	assert_int_equal(loop_new(&the_loop), 0);
	leave();
	assert_int_equal(idle_new(the_loop, NULL, IDLE, &idle), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	idle_free(idle);
	loop_free(the_loop);
	return 0;
}

static void a_daemon_that_nobody_ever_uses_ends_after_its_time(void **state)
{
	(void)state;
	fake_loop_advance(IDLE - 1);
	assert_false(is_stopped);
	fake_loop_advance(1);
	assert_true(is_stopped);
}

static void it_ends_its_time_after_the_last_client_left_and_not_before(void **state)
{
	(void)state;
	is_used = true;
	fake_loop_advance(5 * IDLE + IDLE / 2);
	assert_false(is_stopped);
	leave();
	fake_loop_advance(IDLE - 1);
	assert_false(is_stopped);
	fake_loop_advance(1);
	assert_true(is_stopped);
}

static void a_client_that_comes_and_goes_starts_the_time_anew(void **state)
{
	(void)state;
	fake_loop_advance(IDLE - 1);
	leave();
	fake_loop_advance(IDLE - 1);
	assert_false(is_stopped);
	fake_loop_advance(1);
	assert_true(is_stopped);
}

static void a_reload_changes_the_time_and_turns_it_off(void **state)
{
	(void)state;
	idle_configure(idle, 0);
	fake_loop_advance(100 * IDLE);
	assert_false(is_stopped);
	leave();
	idle_configure(idle, IDLE / 2);
	fake_loop_advance(IDLE / 2);
	assert_true(is_stopped);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_daemon_that_nobody_ever_uses_ends_after_its_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			it_ends_its_time_after_the_last_client_left_and_not_before, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(
			a_client_that_comes_and_goes_starts_the_time_anew, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_reload_changes_the_time_and_turns_it_off, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
