#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "client/lib/clock.h"
#include "client/lib/events.h"

static bool is_readable(const struct events *e, int timeout_ms)
{
	struct pollfd pfd = { .fd = e->epoll_fd, .events = POLLIN };

	return poll(&pfd, 1, timeout_ms) == 1;
}

static void news_make_it_readable(void **state)
{
	struct events e = EVENTS_NONE;

	(void)state;
	assert_int_equal(events_open(&e), 0);
	assert_false(is_readable(&e, 0));
	events_set_news(&e, true);
	events_set_news(&e, true);
	assert_true(is_readable(&e, 0));
	assert_true(is_readable(&e, 0)); /* until somebody takes them */
	events_set_news(&e, false);
	assert_false(is_readable(&e, 0));
	events_set_news(&e, false);
	events_close(&e);
}

static void a_time_makes_it_readable(void **state)
{
	struct events e = EVENTS_NONE;

	(void)state;
	assert_int_equal(events_open(&e), 0);
	events_wake_at(&e, clock_after_usec(20000));
	assert_false(is_readable(&e, 0));
	assert_true(is_readable(&e, 5000));
	events_wake_at(&e, UINT64_MAX);
	assert_false(is_readable(&e, 0));
	events_wake_at(&e, 0); /* long past */
	assert_true(is_readable(&e, 5000));
	events_close(&e);
}

static void nobody_asked(void **state)
{
	struct events e = EVENTS_NONE;

	(void)state;
	events_set_news(&e, true);
	events_wake_at(&e, 0);
	events_close(&e);
	assert_int_equal(e.epoll_fd, -1);
}

/* A program that closed all descriptors, as daemons do, and opened its own files. */
static void files_that_took_the_numbers_are_left_alone(void **state)
{
	struct events e = EVENTS_NONE;
	int fds[3], files[3];
	struct stat st;

	(void)state;
	assert_int_equal(events_open(&e), 0);
	fds[0] = e.epoll_fd;
	fds[1] = e.timer_fd;
	fds[2] = e.news_fd;
	for (unsigned i = 0; i < 3; i++) {
		files[i] = memfd_create("mine", MFD_CLOEXEC);
		assert_int_equal(dup3(files[i], fds[i], O_CLOEXEC), fds[i]);
	}
	events_set_news(&e, true);
	events_wake_at(&e, 0);
	events_close(&e);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(fstat(fds[i], &st), 0);
		assert_int_equal(st.st_size, 0);
		close(fds[i]);
		close(files[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(news_make_it_readable),
		cmocka_unit_test(a_time_makes_it_readable),
		cmocka_unit_test(nobody_asked),
		cmocka_unit_test(files_that_took_the_numbers_are_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
