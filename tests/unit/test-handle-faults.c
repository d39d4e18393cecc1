#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>

#include "handle-fixture.h"

/* --- a daemon in whatever state ---------------------------------------------------------- */

static void a_handle_lives_through_a_restart(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);

	fake_daemon_stop(d);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 7);
	fake_daemon_put(d, "db/pool", "8");
	fake_daemon_start(d);
	assert_true(comes_to(cfg, "db/pool", "8"));
	/* The same generation on a new connection is not fetched again. */
	fake_daemon_stop(d);
	d->n_lists = 0;
	fake_daemon_start(d);
	assert_int_equal(ccfg_wait(cfg, d->generation, 500), -ETIMEDOUT);
	assert_int_equal(d->n_lists, 0);
	ccfg_close(cfg);
}

static void a_restart_while_data_is_waited_for_costs_no_shared_memory(void **state)
{
	struct fake_daemon *d = *state;
	uint64_t deadline = clock_after_usec(SOON_MS * USEC_PER_MSEC);
	ccfg *cfg;

	fake_daemon_set(d, image, FAKE_IMAGE_GOOD);
	fake_daemon_set(d, generation, 0);
	assert_int_equal(open_at(d, 0, CCFG_NOWAIT, &cfg), 0);
	assert_int_not_equal(cfg->follow.wait_tag, 0);
	fake_daemon_stop(d);
	fake_daemon_set(d, n_accepted, 0);
	fake_daemon_start(d);
	while (!(d->n_accepted > 0 && link_is_greeted(&cfg->follow.link)) &&
		clock_now_usec() < deadline) {
		assert_int_equal(ccfg_get(cfg, "db/pool", NULL, 0), -ENOENT);
		pause_ms(1);
	}
	assert_true(link_is_greeted(&cfg->follow.link));
	assert_false(cfg->follow.is_over_socket);
	ccfg_close(cfg);
}

static uint64_t time_of_a_read(ccfg *cfg)
{
	uint64_t begin = clock_now_usec();

	assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 7);
	return clock_now_usec() - begin;
}

static void a_silent_daemon_holds_no_read_for_long(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	unsigned n_waits = 0;
	uint64_t begin;

	fake_daemon_stop(d);
	fake_daemon_set(d, is_mute, true);
	fake_daemon_start(d);
	begin = clock_now_usec();
	while (clock_now_usec() - begin < 600000) {
		uint64_t took = time_of_a_read(cfg);

		assert_in_range(took, 0, 200000); /* 20 ms and a busy machine */
		n_waits += took > 15000;
		pause_ms(1);
	}
	/* After 0, 120 and 340 ms; the next one comes after 760. */
	assert_in_range(n_waits, 1, 5);
	fake_daemon_stop(d);
	fake_daemon_set(d, is_mute, false);
	fake_daemon_put(d, "db/pool", "8");
	fake_daemon_start(d);
	assert_true(comes_to(cfg, "db/pool", "8"));
	ccfg_close(cfg);
}

static void a_daemon_that_refuses_is_asked_rarely(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	uint64_t begin;

	fake_daemon_stop(d);
	fake_daemon_set(d, refusal, WIRE_DENIED);
	fake_daemon_set(d, n_accepted, 0);
	fake_daemon_start(d);
	begin = clock_now_usec();
	while (clock_now_usec() - begin < 500000)
		time_of_a_read(cfg);
	/* At once, then after 100 and 300 ms; the next one comes after 700. */
	assert_in_range(d->n_accepted, 2, 4);
	fake_daemon_set(d, refusal, 0);
	fake_daemon_put(d, "db/pool", "8");
	assert_true(comes_to(cfg, "db/pool", "8"));
	ccfg_close(cfg);
}

static void info_tells_how_good_it_is(void **state)
{
	struct fake_daemon *d = *state;
	struct ccfg_info info = { .size = sizeof(info) };
	ccfg *cfg;

	d->age_usec = 5 * USEC_PER_SEC;
	cfg = open_now(d);
	assert_int_equal(ccfg_info(cfg, &info), 0);
	assert_int_equal(info.state, CCFG_LIVE);
	assert_int_equal(info.error, 0);
	assert_int_equal(info.generation, d->generation);
	assert_int_equal(info.n_entries, 3);
	assert_int_not_equal(info.digest, 0);
	assert_in_range(info.age_us, 5 * USEC_PER_SEC, 10 * USEC_PER_SEC);
	fake_daemon_set(d, state, WIRE_HELD);
	assert_int_equal(ccfg_info(cfg, &info), 0);
	assert_int_equal(info.state, CCFG_HELD);
	fake_daemon_set(d, state, WIRE_LIVE);
	fake_daemon_set(d, refusal, WIRE_DENIED);
	assert_int_equal(ccfg_info(cfg, &info), 0);
	assert_int_equal(info.state, CCFG_STALE);
	assert_int_equal(info.error, -EACCES);
	assert_int_equal(ccfg_get(cfg, "db/pool", NULL, 0), 1);

	fake_daemon_stop(d);
	pause_ms(150);
	assert_int_equal(ccfg_info(cfg, &info), 0);
	assert_int_equal(info.state, CCFG_STALE);
	assert_int_equal(info.error, -ENOENT);
	assert_in_range(info.age_us, 5 * USEC_PER_SEC, 10 * USEC_PER_SEC);
	info.size = sizeof(info.size);
	assert_int_equal(ccfg_info(cfg, &info), -EINVAL);
	ccfg_close(cfg);
}

static void *live_later(void *userdata)
{
	struct fake_daemon *d = userdata;

	pause_ms(80);
	fake_daemon_set(d, state, WIRE_LIVE);
	return NULL;
}

static void live_data_can_be_required(void **state)
{
	struct fake_daemon *d = *state;
	pthread_t thread;
	ccfg *cfg;

	fake_daemon_set(d, state, WIRE_BACKUP);
	assert_int_equal(open_at(d, 100, CCFG_REQUIRE_LIVE, &cfg), -ETIMEDOUT);
	assert_int_equal(open_at(d, 0, CCFG_REQUIRE_LIVE | CCFG_NOWAIT, &cfg), -ETIMEDOUT);
	pthread_create(&thread, NULL, live_later, d);
	assert_int_equal(open_at(d, SOON_MS, CCFG_REQUIRE_LIVE, &cfg), 0);
	pthread_join(thread, NULL);
	ccfg_close(cfg);
}

/* --- somebody else's process ------------------------------------------------------------- */

static void a_closed_descriptor_is_replaced(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);

	close(cfg->follow.link.fd);
	fake_daemon_put(d, "db/pool", "8");
	assert_true(comes_to(cfg, "db/pool", "8"));
	assert_int_equal(d->n_accepted, 2);
	ccfg_close(cfg);
}

/* As programs do that go into the background: closes all, and gets the numbers for files. */
static void take_all_numbers(int pipes[8][2])
{
	for (int fd = 3; fd < 64; fd++)
		close(fd);
	for (int i = 0; i < 8; i++)
		assert_int_equal(pipe2(pipes[i], O_NONBLOCK), 0);
}

/* How many of the program's descriptors were closed, written to or read from. */
static int count_touched(int pipes[8][2])
{
	int n_touched = 0;
	char c[16];

	for (int i = 0; i < 8; i++) {
		n_touched += read(pipes[i][0], c, sizeof(c)) != -1 || errno != EAGAIN;
		n_touched += write(pipes[i][1], "x", 1) != 1;
	}
	return n_touched;
}

static int go_into_the_background(ccfg *cfg)
{
	int pipes[8][2];

	take_all_numbers(pipes);
	if (!comes_to(cfg, "db/pool", "8"))
		return 100;
	ccfg_close(cfg);
	return count_touched(pipes);
}

static void what_took_the_numbers_of_our_descriptors_is_left_alone(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	int status;
	pid_t child;

	assert_true(ccfg_fd(cfg) >= 0);
	child = fork();
	if (child == 0)
		_exit(go_into_the_background(cfg));
	fake_daemon_put(d, "db/pool", "8");
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	ccfg_close(cfg);
}

static void nor_is_it_touched_without_a_fork(void **state)
{
	struct fake_daemon *d = *state;
	int status;
	pid_t child = fork();

	/* The fake daemon's thread, and its descriptors, stay in the parent. */
	if (child == 0) {
		ccfg *cfg = open_now(d);

		_exit(ccfg_fd(cfg) >= 0 ? go_into_the_background(cfg) : 101);
	}
	pause_ms(200);
	fake_daemon_put(d, "db/pool", "8");
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void *wait_for_ever(void *userdata)
{
	const ccfg_view *view = ccfg_pin(userdata);
	int r = ccfg_wait(userdata, ccfg_view_generation(view), -1);

	ccfg_unpin(view);
	return r == 0 ? NULL : userdata;
}

static bool is_readable(int fd, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, timeout_ms) == 1;
}

static void a_loop_does_not_spin_while_another_thread_waits(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	int fd = ccfg_fd(cfg);
	unsigned n_wakes = 0;
	pthread_t thread;
	void *result;

	/* It is to be woken for the next attempt, which the other thread makes. */
	fake_daemon_stop(d);
	assert_true(is_readable(fd, SOON_MS));
	assert_int_equal(ccfg_dispatch(cfg), 0);
	fake_daemon_set(d, is_mute, true);
	fake_daemon_start(d);
	pthread_create(&thread, NULL, wait_for_ever, cfg);
	pause_ms(300);
	while (n_wakes < 10 && is_readable(fd, 200)) {
		ccfg_dispatch(cfg);
		n_wakes++;
	}
	assert_in_range(n_wakes, 0, 3);
	fake_daemon_stop(d);
	fake_daemon_set(d, is_mute, false);
	fake_daemon_put(d, "db/pool", "8");
	fake_daemon_start(d);
	pthread_join(thread, &result);
	assert_null(result);
	assert_true(is_readable(fd, SOON_MS));
	ccfg_close(cfg);
}

/* In the child: reads, over a connection of its own, also what changes later. */
static int read_in_child(ccfg *cfg, int ready)
{
	if (ccfg_get_int64(cfg, "db/pool", -1) != 7)
		return 1;
	if (write(ready, "", 1) != 1)
		return 2;
	if (!comes_to(cfg, "db/pool", "8"))
		return 3;
	ccfg_close(cfg);
	return 0;
}

static void fork_and_read(struct fake_daemon *d, ccfg *cfg)
{
	int ready[2], status;
	pid_t child;
	char c;

	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0)
		_exit(read_in_child(cfg, ready[1]));
	assert_int_equal(read(ready[0], &c, 1), 1);
	fake_daemon_put(d, "db/pool", "8");
	assert_true(comes_to(cfg, "db/pool", "8"));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(ready[0]);
	close(ready[1]);
}

static void a_child_reads_on(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);

	fork_and_read(d, cfg);
	assert_int_equal(d->n_accepted, 2);
	ccfg_close(cfg);
}

static void a_child_reads_on_when_a_thread_was_busy(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	pthread_t thread;
	void *result;

	pthread_create(&thread, NULL, wait_for_ever, cfg);
	pause_ms(50);
	fork_and_read(d, cfg);
	pthread_join(thread, &result);
	assert_null(result);
	ccfg_close(cfg);
}

struct reader {
	ccfg *cfg;
	_Atomic bool *shall_stop;
	unsigned n_torn;
};

/* a and b always change together. */
static void *read_pairs(void *userdata)
{
	struct reader *reader = userdata;

	while (!atomic_load(reader->shall_stop)) {
		const ccfg_view *view = ccfg_pin(reader->cfg);
		const char *a = ccfg_view_get(view, "a", 1, NULL);
		const char *b = ccfg_view_get(view, "b", 1, NULL);

		reader->n_torn += strcmp(a, b) != 0;
		reader->n_torn += ccfg_get_int64(reader->cfg, "a", -1) < 0;
		ccfg_unpin(view);
	}
	return NULL;
}

static void put_pair(struct fake_daemon *d, unsigned value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	pthread_mutex_lock(&d->lock);
	strcpy(d->entries[0].value, text);
	strcpy(d->entries[1].value, text);
	d->entries[0].value_len = d->entries[1].value_len = strlen(text);
	pthread_mutex_unlock(&d->lock);
	fake_daemon_touch(d);
}

static void threads_share_a_handle(void **state)
{
	struct fake_daemon *d = *state;
	_Atomic bool shall_stop = false;
	struct reader readers[4];
	pthread_t threads[ARRAY_SIZE(readers)], waiters[2];
	ccfg *cfg;

	fake_daemon_put(d, "a", "0");
	fake_daemon_put(d, "b", "0");
	cfg = open_now(d);
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		readers[i] = (struct reader){ .cfg = cfg, .shall_stop = &shall_stop };
		pthread_create(&threads[i], NULL, read_pairs, &readers[i]);
	}
	for (unsigned i = 1; i <= 100; i++) {
		uint64_t generation = d->generation;
		struct ccfg_info info = { .size = sizeof(info) };

		pthread_create(&waiters[0], NULL, wait_for_ever, cfg);
		pthread_create(&waiters[1], NULL, wait_for_ever, cfg);
		put_pair(d, i);
		assert_int_equal(ccfg_wait(cfg, generation, SOON_MS), 0);
		assert_int_equal(ccfg_info(cfg, &info), 0);
		fake_daemon_touch(d);
		for (size_t w = 0; w < ARRAY_SIZE(waiters); w++) {
			/* Whoever came after the last change is woken by another one. */
			while (pthread_tryjoin_np(waiters[w], NULL) != 0) {
				fake_daemon_touch(d);
				pause_ms(1);
			}
		}
	}
	assert_true(comes_to(cfg, "a", "100"));
	atomic_store(&shall_stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(readers[i].n_torn, 0);
	}
	ccfg_close(cfg);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, handle_set_up, handle_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_handle_lives_through_a_restart),
		TEST(a_restart_while_data_is_waited_for_costs_no_shared_memory),
		TEST(a_silent_daemon_holds_no_read_for_long),
		TEST(a_daemon_that_refuses_is_asked_rarely),
		TEST(info_tells_how_good_it_is),
		TEST(live_data_can_be_required),
		TEST(a_closed_descriptor_is_replaced),
		TEST(what_took_the_numbers_of_our_descriptors_is_left_alone),
		TEST(nor_is_it_touched_without_a_fork),
		TEST(a_loop_does_not_spin_while_another_thread_waits),
		TEST(a_child_reads_on),
		TEST(a_child_reads_on_when_a_thread_was_busy),
		TEST(threads_share_a_handle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
