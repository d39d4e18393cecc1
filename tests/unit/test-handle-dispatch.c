#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>

#include "handle-fixture.h"
#include "proto/limits.h"

static bool is_readable(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, 0) > 0;
}

/* --- callbacks --------------------------------------------------------------------------- */

struct scene {
	struct fake_daemon *daemon;
	ccfg_watch *watch, *later;
	unsigned n_told, n_told_later;
	pid_t child; /* 0: this is the child; -1: none was made */
};

static void count_later(ccfg *cfg, const struct ccfg_change *change, void *userdata)
{
	struct scene *scene = userdata;

	(void)cfg, (void)change;
	scene->n_told_later++;
}

/* Something newer arrives while a callback runs, and is taken by it. */
static void watch_more(ccfg *cfg, const struct ccfg_change *change, void *userdata)
{
	struct scene *scene = userdata;

	if (scene->n_told++ > 0)
		return;
	fake_daemon_put(scene->daemon, "db/pool", "9");
	assert_int_equal(ccfg_wait(cfg, change->generation, SOON_MS), 0);
	assert_int_equal(ccfg_on_change(cfg, "", count_later, scene, &scene->later), 0);
}

static void a_watch_made_in_a_callback_hears_nothing_of_before(void **state)
{
	struct fake_daemon *d = *state;
	struct scene scene = { .daemon = d };
	ccfg *cfg = open_now(d);

	assert_int_equal(ccfg_on_change(cfg, "", watch_more, &scene, &scene.watch), 0);
	fake_daemon_put(d, "db/pool", "8");
	assert_true(comes_to(cfg, "db/pool", "8"));
	assert_int_equal(ccfg_dispatch(cfg), 1);
	assert_int_equal(scene.n_told_later, 0);
	assert_int_equal(ccfg_dispatch(cfg), 1);
	assert_int_equal(scene.n_told, 2);
	assert_int_equal(scene.n_told_later, 0);
	fake_daemon_put(d, "db/pool", "10");
	assert_true(comes_to(cfg, "db/pool", "10"));
	assert_int_equal(ccfg_dispatch(cfg), 2);
	assert_int_equal(scene.n_told_later, 1);
	ccfg_close(cfg);
}

static void fork_and_close(ccfg *cfg, const struct ccfg_change *change, void *userdata)
{
	struct scene *scene = userdata;

	(void)change;
	scene->n_told++;
	scene->child = fork();
	if (scene->child != 0)
		return;
	if (ccfg_dispatch(cfg) != 0)
		_exit(1);
	ccfg_watch_close(scene->watch);
}

static void a_child_may_close_its_watch_in_the_callback_that_forked(void **state)
{
	struct fake_daemon *d = *state;
	struct scene scene = { .child = -1 };
	ccfg *cfg = open_now(d);
	int status = -1;

	assert_int_equal(ccfg_on_change(cfg, "", fork_and_close, &scene, &scene.watch), 0);
	fake_daemon_put(d, "db/pool", "8");
	assert_true(comes_to(cfg, "db/pool", "8"));
	assert_int_equal(ccfg_dispatch(cfg), 1);
	if (scene.child == 0) {
		(void)ccfg_dispatch(cfg);
		ccfg_close(cfg);
		_exit(scene.n_told == 1 ? 0 : 2);
	}
	assert_true(scene.child > 0);
	assert_int_equal(waitpid(scene.child, &status, 0), scene.child);
	assert_int_equal(status, 0);
	ccfg_close(cfg);
}

/* --- what a loop polls ------------------------------------------------------------------- */

/* Dispatches until there is nothing to do. */
static bool comes_to_rest(ccfg *cfg)
{
	uint64_t deadline = clock_after_usec(SOON_MS * USEC_PER_MSEC);

	while (is_readable(ccfg_fd(cfg)) && clock_now_usec() < deadline)
		ccfg_dispatch(cfg);
	return clock_now_usec() < deadline;
}

/* A child that never touches the handle keeps the connection of its parent open. */
static pid_t make_idle_child(int pipe_fds[2])
{
	pid_t child;
	char c;

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		close(pipe_fds[1]);
		_exit(read(pipe_fds[0], &c, 1) == 0 ? 0 : 1);
	}
	assert_true(child > 0);
	close(pipe_fds[0]);
	return child;
}

static void the_connection_of_another_user_wakes_no_loop(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	int pipe_fds[2], status = -1;
	bool has_come, rests;
	pid_t child;

	assert_true(ccfg_fd(cfg) >= 0);
	assert_true(comes_to_rest(cfg));
	child = make_idle_child(pipe_fds);
	cfg->follow.link.euid++; /* as after seteuid() */
	ccfg_dispatch(cfg);
	/* The daemon answers on both connections, and nobody reads the first. */
	fake_daemon_put(d, "db/pool", "8");
	has_come = comes_to(cfg, "db/pool", "8");
	rests = comes_to_rest(cfg);
	close(pipe_fds[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(has_come);
	assert_true(rests);
	assert_int_equal(d->n_accepted, 2);
	ccfg_close(cfg);
}

/* The socket says nothing of what has been read from it and not been looked at. */
static void replies_that_one_dispatch_leaves_wake_the_loop_again(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	struct pollfd pfd = { .fd = ccfg_fd(cfg), .events = POLLIN };
	uint64_t generation = handle_newest_generation(cfg);

	static_assert(FAKE_DAEMON_STRAYS > LIMIT_DISPATCH_REPLIES, "or one takes them all");
	assert_true(comes_to_rest(cfg));
	fake_daemon_set(d, n_strays, FAKE_DAEMON_STRAYS);
	fake_daemon_put(d, "db/pool", "8");
	while (handle_newest_generation(cfg) == generation) {
		assert_int_equal(poll(&pfd, 1, SOON_MS), 1);
		ccfg_dispatch(cfg);
	}
	ccfg_close(cfg);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, handle_set_up, handle_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_watch_made_in_a_callback_hears_nothing_of_before),
		TEST(a_child_may_close_its_watch_in_the_callback_that_forked),
		TEST(the_connection_of_another_user_wakes_no_loop),
		TEST(replies_that_one_dispatch_leaves_wake_the_loop_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
