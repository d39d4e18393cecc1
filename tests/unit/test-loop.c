#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include "daemon/loop.h"
#include "test.h"

struct fixture {
	struct loop *loop;
	struct loop_timer *a, *b, *c;
	struct loop_io *io, *other;
	int fds[2];
	char order[64]; /* a letter per callback */
	size_t n;
	uint64_t at;
	unsigned stop_after;
};

static void note(struct fixture *f, char letter)
{
	assert_true(f->n < sizeof(f->order) - 1);
	f->order[f->n++] = letter;
	if (f->n == f->stop_after)
		loop_stop(f->loop);
}

static void on_a(void *userdata)
{
	struct fixture *f = userdata;

	f->at = loop_now();
	note(f, 'a');
}

static void on_b(void *userdata)
{
	note(userdata, 'b');
}

static void on_c(void *userdata)
{
	note(userdata, 'c');
}

static void on_io(unsigned events, void *userdata)
{
	struct fixture *f = userdata;
	char byte;

	if (events & LOOP_WRITE) {
		note(f, 'w');
		return;
	}
	assert_int_equal(read(f->fds[0], &byte, 1), 1);
	note(f, 'r');
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, f->fds), 0);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(loop_timer_new(f->loop, on_a, f, &f->a), 0);
	assert_int_equal(loop_timer_new(f->loop, on_b, f, &f->b), 0);
	assert_int_equal(loop_timer_new(f->loop, on_c, f, &f->c), 0);
	assert_int_equal(loop_io_new(f->loop, f->fds[0], on_io, f, &f->io), 0);
	f->stop_after = 1;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	f->other = loop_io_free(f->other);
	f->io = loop_io_free(f->io);
	loop_timer_free(f->a);
	loop_timer_free(f->b);
	loop_timer_free(f->c);
	loop_free(f->loop);
	close(f->fds[0]);
	close(f->fds[1]);
	free(f);
	return 0;
}

static void run(struct fixture *f, unsigned n_callbacks, const char *expected)
{
	f->n = 0;
	f->stop_after = n_callbacks;
	memset(f->order, 0, sizeof(f->order));
	assert_int_equal(loop_run(f->loop), 0);
	assert_string_equal(f->order, expected);
}

static void a_timer_runs_once_and_not_before_its_time(void **state)
{
	struct fixture *f = *state;
	uint64_t begin = loop_now();

	assert_int_equal(loop_timer_arm(f->a, 20000), 0);
	assert_true(loop_timer_is_armed(f->a));
	run(f, 1, "a");
	assert_true(f->at >= begin + 20000);
	assert_true(f->at < begin + 2000000);
	assert_false(loop_timer_is_armed(f->a));
	loop_timer_arm(f->b, 1);
	run(f, 1, "b");
}

static void timers_run_in_order_of_time(void **state)
{
	struct fixture *f = *state;

	loop_timer_arm(f->a, 30000);
	loop_timer_arm(f->b, 10000);
	loop_timer_arm(f->c, 20000);
	run(f, 3, "bca");
}

static void arming_again_replaces_the_time(void **state)
{
	struct fixture *f = *state;

	loop_timer_arm(f->a, 5000);
	loop_timer_arm(f->b, 10000);
	loop_timer_arm(f->a, 20000);
	run(f, 2, "ba");
	loop_timer_arm(f->a, 3600 * USEC_PER_SEC);
	loop_timer_arm(f->a, 0);
	run(f, 1, "a");
}

static void a_disarmed_timer_does_not_run(void **state)
{
	struct fixture *f = *state;

	loop_timer_arm(f->a, 1000);
	loop_timer_arm(f->b, 0);
	loop_timer_arm(f->c, 5000);
	loop_timer_disarm(f->a);
	loop_timer_disarm(f->b);
	assert_false(loop_timer_is_armed(f->a));
	assert_false(loop_timer_is_armed(f->b));
	run(f, 1, "c");
}

static void any_delay_is_fine(void **state)
{
	struct fixture *f = *state;

	loop_timer_arm(f->a, UINT64_MAX);
	loop_timer_arm(f->b, (uint64_t)INT64_MAX);
	loop_timer_arm(f->c, 1000);
	run(f, 1, "c");
	assert_true(loop_timer_is_armed(f->a));
}

static void no_delay_runs_after_the_sockets_that_are_ready(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write(f->fds[1], "x", 1), 1);
	loop_timer_arm(f->a, 0);
	assert_int_equal(loop_io_want(f->io, LOOP_READ), 0);
	run(f, 2, "ra");
}

static void on_again(void *userdata)
{
	struct fixture *f = userdata;

	note(f, 'g');
	loop_timer_arm(f->other ? f->b : f->c, 0);
}

static void work_in_slices_and_busy_sockets_take_turns(void **state)
{
	struct fixture *f = *state;

	loop_timer_free(f->c);
	assert_int_equal(loop_timer_new(f->loop, on_again, f, &f->c), 0);
	loop_timer_arm(f->c, 0);
	assert_int_equal(loop_io_want(f->io, LOOP_WRITE), 0); /* always ready */
	run(f, 6, "wgwgwg");
}

static void on_slow(void *userdata)
{
	uint64_t until = loop_now() + 5000;

	note(userdata, 's');
	while (loop_now() < until)
		;
}

static void slices_of_many_leave_sockets_their_turn(void **state)
{
	struct fixture *f = *state;
	struct loop_timer *slow[3];

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(loop_timer_new(f->loop, on_slow, f, &slow[i]), 0);
		loop_timer_arm(slow[i], 0);
	}
	assert_int_equal(loop_io_want(f->io, LOOP_WRITE), 0);
	run(f, 6, "wswsws");
	for (unsigned i = 0; i < 3; i++)
		loop_timer_free(slow[i]);
}

static void io_tells_what_is_wanted_only(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write(f->fds[1], "xy", 2), 2);
	loop_timer_arm(f->a, 10000);
	run(f, 1, "a"); /* wants nothing at first */
	assert_int_equal(loop_io_want(f->io, LOOP_READ | LOOP_WRITE), 0);
	f->n = 0;
	f->stop_after = 2;
	assert_int_equal(loop_run(f->loop), 0);
	assert_non_null(memchr(f->order, 'r', 2));
	assert_non_null(memchr(f->order, 'w', 2));
	assert_int_equal(loop_io_want(f->io, LOOP_READ), 0);
	run(f, 1, "r");
	assert_int_equal(loop_io_want(f->io, 0), 0);
	assert_int_equal(write(f->fds[1], "z", 1), 1);
	loop_timer_arm(f->a, 10000);
	run(f, 1, "a");
}

static void on_io_frees_itself(unsigned events, void *userdata)
{
	struct fixture *f = userdata;

	(void)events;
	f->other = loop_io_free(f->other);
	note(f, 'f');
}

static void callbacks_may_free_what_they_belong_to(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(loop_io_new(f->loop, f->fds[1], on_io_frees_itself, f, &f->other), 0);
	assert_int_equal(loop_io_want(f->other, LOOP_READ | LOOP_WRITE), 0);
	assert_int_equal(write(f->fds[0], "x", 1), 1);
	loop_timer_arm(f->a, 10000);
	run(f, 2, "fa");
}

static void on_free_b(void *userdata)
{
	struct fixture *f = userdata;

	f->b = loop_timer_free(f->b);
	f->c = loop_timer_free(f->c);
	note(f, 'x');
}

static void a_timer_may_free_others_that_are_due(void **state)
{
	struct fixture *f = *state;

	loop_timer_free(f->c);
	assert_int_equal(loop_timer_new(f->loop, on_free_b, f, &f->c), 0);
	loop_timer_arm(f->c, 0);
	loop_timer_arm(f->b, 0);
	loop_timer_arm(f->a, 5000);
	run(f, 2, "xa");
}

static void signals_are_events(void **state)
{
	struct fixture *f = *state;
	struct loop_signal *sig;

	assert_int_equal(loop_signal_new(f->loop, SIGUSR1, on_b, f, &sig), 0);
	raise(SIGUSR1);
	assert_int_equal(f->n, 0);
	run(f, 1, "b");
	loop_signal_free(sig);
}

struct ordered {
	struct fixture *f;
	struct loop_timer *timer;
	unsigned place;
};

static unsigned next_place;

static void on_ordered(void *userdata)
{
	struct ordered *ordered = userdata;

	assert_int_equal(ordered->place, next_place);
	next_place++;
	if (++ordered->f->n == ordered->f->stop_after)
		loop_stop(ordered->f->loop);
}

static void many_timers_keep_their_order(void **state)
{
	enum { N = 400, STEP = 37, USEC = 500 };
	struct fixture *f = *state;
	struct ordered all[N];
	uint64_t begin = loop_now();

	/* A permutation, half of it disarmed again: every second place. */
	for (unsigned i = 0; i < N; i++) {
		unsigned place = i * STEP % N;

		all[i] = (struct ordered){ .f = f, .place = place / 2 };
		assert_int_equal(loop_timer_new(f->loop, on_ordered, &all[i], &all[i].timer), 0);
		loop_timer_arm(all[i].timer, begin + 300000 + (uint64_t)place * USEC - loop_now());
	}
	for (unsigned i = 0; i < N; i++)
		if (i * STEP % N % 2 == 1)
			loop_timer_disarm(all[i].timer);
	next_place = 0;
	f->n = 0;
	f->stop_after = N / 2;
	assert_int_equal(loop_run(f->loop), 0);
	for (unsigned i = 0; i < N; i++) {
		assert_false(loop_timer_is_armed(all[i].timer));
		loop_timer_free(all[i].timer);
	}
}

static void on_stop(void *userdata)
{
	loop_stop(userdata);
}

/* A machine that does other work meanwhile takes none of this time. */
static void on_busy(void *userdata)
{
	uint64_t until = loop_cpu_usec() + 2000;

	note(userdata, 'b');
	while (loop_cpu_usec() < until)
		;
}

static void the_worst_callback_is_measured_on_request(void **state)
{
	struct fixture *f = *state;
	struct loop *measured;
	struct loop_timer *slow;

	setenv("CONSULCFGD_MEASURE", "1", 1);
	assert_int_equal(loop_new(&measured), 0);
	unsetenv("CONSULCFGD_MEASURE");
	assert_int_equal(loop_worst_callback_usec(measured), 0);
	assert_int_equal(loop_timer_new(measured, on_busy, f, &slow), 0);
	loop_timer_arm(slow, 0);
	f->n = 0;
	f->stop_after = 1;
	loop_timer_free(f->a);
	assert_int_equal(loop_timer_new(measured, on_stop, measured, &f->a), 0);
	loop_timer_arm(f->a, 10000);
	assert_int_equal(loop_run(measured), 0);
	assert_true(loop_worst_callback_usec(measured) >= 1000);
	assert_true(loop_take_worst_callback_usec(measured) >= 1000);
	assert_int_equal(loop_take_worst_callback_usec(measured), 0);
	assert_true(loop_worst_callback_usec(measured) >= 1000);
	f->a = loop_timer_free(f->a);
	loop_timer_free(slow);
	loop_free(measured);
	assert_int_equal(loop_worst_callback_usec(f->loop), 0);
}

static void stopping_before_running_counts(void **state)
{
	struct fixture *f = *state;

	loop_timer_arm(f->a, 0);
	loop_stop(f->loop);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->n, 0);
	run(f, 1, "a");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_timer_runs_once_and_not_before_its_time),
		CASE(timers_run_in_order_of_time),
		CASE(arming_again_replaces_the_time),
		CASE(a_disarmed_timer_does_not_run),
		CASE(any_delay_is_fine),
		CASE(no_delay_runs_after_the_sockets_that_are_ready),
		CASE(work_in_slices_and_busy_sockets_take_turns),
		CASE(slices_of_many_leave_sockets_their_turn),
		CASE(io_tells_what_is_wanted_only),
		CASE(callbacks_may_free_what_they_belong_to),
		CASE(a_timer_may_free_others_that_are_due),
		CASE(signals_are_events),
		CASE(many_timers_keep_their_order),
		CASE(the_worst_callback_is_measured_on_request),
		CASE(stopping_before_running_counts),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
