/* A handle and a daemon that hands out descriptors, good ones and hostile ones. */
#include "test.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "handle-fixture.h"

static int share_set_up(void **state)
{
	struct fake_daemon *d;

	handle_set_up(state);
	d = *state;
	fake_daemon_stop(d);
	d->image = FAKE_IMAGE_GOOD;
	d->genfile_kind = FAKE_GENFILE_GOOD;
	fake_daemon_start(d);
	return 0;
}

static struct fake_daemon *restart_with(
	void **state, enum fake_image image, enum fake_genfile genfile_kind)
{
	struct fake_daemon *d = *state;

	fake_daemon_stop(d);
	if (d->genfile >= 0)
		close(TAKE_FD(d->genfile));
	d->image = image;
	d->genfile_kind = genfile_kind;
	fake_daemon_start(d);
	return d;
}

static unsigned n_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* The daemon closes its ends in its own time. */
static bool comes_down_to(unsigned n)
{
	uint64_t deadline = clock_after_usec(SOON_MS * USEC_PER_MSEC);

	while (n_descriptors() > n && clock_now_usec() < deadline)
		pause_ms(1);
	return n_descriptors() <= n;
}

static void a_change_is_seen_in_the_slot(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	unsigned n_fetches = d->n_fetches;

	assert_false(cfg->follow.is_over_socket);
	assert_int_equal(d->n_lists, 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 7);
	assert_int_equal(d->n_fetches, n_fetches);
	fake_daemon_put(d, "db/pool", "8");
	assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 8);
	assert_int_equal(d->n_fetches, n_fetches + 1);
	/* One that is raised for nothing costs one question. */
	pthread_mutex_lock(&d->lock);
	fake_share_raise(d->genfile, d->genfile_kind);
	pthread_mutex_unlock(&d->lock);
	assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 8);
	assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 8);
	assert_int_equal(d->n_fetches, n_fetches + 2);
	ccfg_close(cfg);
}

static void whether_there_is_something_newer_is_told_without_taking_it(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d), *manual;
	uint64_t generation = handle_newest_generation(cfg);
	unsigned n_fetches = d->n_fetches;

	assert_int_equal(ccfg_current(cfg), generation);
	fake_daemon_put(d, "db/pool", "8");
	assert_int_equal(ccfg_current(cfg), 0);
	assert_int_equal(handle_newest_generation(cfg), generation);
	assert_int_equal(d->n_fetches, n_fetches);
	assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 8);
	assert_int_not_equal(ccfg_current(cfg), generation);
	assert_int_equal(ccfg_current(cfg), handle_newest_generation(cfg));
	ccfg_close(cfg);

	assert_int_equal(open_at(d, 0, CCFG_MANUAL, &manual), 0);
	generation = ccfg_current(manual);
	fake_daemon_put(d, "db/pool", "9");
	assert_int_equal(ccfg_current(manual), generation);
	ccfg_close(manual);
}

/* What comes twice at the same moment, by the slot and by word of the daemon, is taken once. */
static void a_descriptor_meets_its_own_reply(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	char text[16];

	assert_true(ccfg_fd(cfg) >= 0);
	for (unsigned i = 0; i < 30; i++) {
		uint64_t generation = d->generation;

		snprintf(text, sizeof(text), "%u", 100 + i);
		fake_daemon_put(d, "db/pool", text);
		if (i % 3 == 0)
			assert_int_equal(ccfg_wait(cfg, generation, SOON_MS), 0);
		pause_ms(2);
		while (handle_newest_generation(cfg) == generation)
			ccfg_dispatch(cfg);
		assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 100 + i);
		assert_int_equal(cfg->follow.link.n_fds, 0);
	}
	ccfg_close(cfg);
}

/* Another major, or no way to map: the same functions, over the socket. */
static void other_versions_are_read_over_the_socket(void **state)
{
	static const struct {
		enum fake_image image;
		enum fake_genfile genfile;
		bool is_over_socket, has_slot;
	} cases[] = {
		{ FAKE_IMAGE_GOOD, FAKE_GENFILE_GOOD, false, true },
		{ FAKE_IMAGE_NEWER_MINOR, FAKE_GENFILE_NEWER_MINOR, false, true },
		{ FAKE_IMAGE_NEWER_MINOR, FAKE_GENFILE_GOOD, false, true },
		{ FAKE_IMAGE_GOOD, FAKE_GENFILE_OTHER_MAJOR, false, false },
		{ FAKE_IMAGE_GOOD, FAKE_GENFILE_NONE, false, false },
		{ FAKE_IMAGE_OTHER_MAJOR, FAKE_GENFILE_GOOD, true, false },
		{ FAKE_IMAGE_OTHER_MAJOR, FAKE_GENFILE_OTHER_MAJOR, true, false },
		{ FAKE_IMAGE_NONE, FAKE_GENFILE_NONE, true, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fake_daemon *d = restart_with(state, cases[i].image, cases[i].genfile);
		unsigned n = n_descriptors();
		ccfg *cfg;

		fake_daemon_put(d, "db/pool", "7");
		cfg = open_now(d);
		assert_int_equal(cfg->follow.is_over_socket, cases[i].is_over_socket);
		assert_int_equal(cfg->follow.slot != NULL, cases[i].has_slot);
		assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 7);
		fake_daemon_put(d, "db/pool", "8");
		assert_true(comes_to(cfg, "db/pool", "8"));
		assert_int_equal(ccfg_wait(cfg, 0, 0), 0);
		ccfg_close(cfg);
		assert_true(comes_down_to(n));
	}
}

/* Bad bytes are an error or an absent key, and what was held before stays. */
static void hostile_images_do_no_harm(void **state)
{
	for (int kind = FAKE_IMAGE_UNSEALED; kind < FAKE_IMAGES; kind++) {
		struct fake_daemon *d = restart_with(state, FAKE_IMAGE_GOOD, FAKE_GENFILE_GOOD);
		struct ccfg_info info = { .size = sizeof(info) };
		unsigned n = n_descriptors();
		ccfg *cfg, *other = NULL;
		int r;

		fake_daemon_put(d, "db/pool", "7");
		cfg = open_now(d);
		fake_daemon_set(d, image, (enum fake_image)kind);
		r = open_at(d, 200, 0, &other);
		assert_int_equal(r, kind == FAKE_IMAGE_CORRUPT ? 0 : -EBADMSG);
		if (other)
			assert_int_equal(ccfg_get(other, "db/pool", NULL, 0), -ENOENT);
		ccfg_close(other);
		fake_daemon_put(d, "db/pool", "8");
		for (unsigned i = 0; i < 100; i++)
			assert_int_equal(ccfg_get_int64(cfg, "db/pool", 7), 7);
		assert_int_equal(ccfg_info(cfg, &info), 0);
		fake_daemon_set(d, image, FAKE_IMAGE_GOOD);
		fake_daemon_put(d, "db/pool", "9");
		assert_true(comes_to(cfg, "db/pool", "9"));
		ccfg_close(cfg);
		assert_true(comes_down_to(n));
	}
}

static void hostile_generation_files_do_no_harm(void **state)
{
	for (int kind = FAKE_GENFILE_SHORT; kind < FAKE_GENFILES; kind++) {
		struct fake_daemon *d =
			restart_with(state, FAKE_IMAGE_GOOD, (enum fake_genfile)kind);
		ccfg *cfg;

		fake_daemon_put(d, "db/pool", "7");
		cfg = open_now(d);
		assert_null(cfg->follow.slot);
		assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 7);
		fake_daemon_put(d, "db/pool", "8");
		assert_true(comes_to(cfg, "db/pool", "8"));
		ccfg_close(cfg);
	}
}

/* One death over a descriptor is the daemon's, which may have been restarted. */
static void a_daemon_that_dies_over_a_descriptor_costs_no_shared_memory(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg;

	fake_daemon_set(d, n_cut_fetches, 1);
	cfg = open_now(d);
	assert_false(cfg->follow.is_over_socket);
	assert_int_equal(d->n_lists, 0);
	ccfg_close(cfg);
}

/* Over the socket as long as they are the end of every connection, and no longer. */
static void descriptors_that_kill_the_connection_are_done_without(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg;

	fake_daemon_set(d, n_cut_fetches, 1000);
	cfg = open_now(d);
	assert_true(cfg->follow.is_over_socket);
	fake_daemon_put(d, "db/pool", "8");
	assert_true(comes_to(cfg, "db/pool", "8"));
	fake_daemon_stop(d);
	fake_daemon_set(d, n_cut_fetches, 0);
	fake_daemon_start(d);
	fake_daemon_put(d, "db/pool", "9");
	assert_true(comes_to(cfg, "db/pool", "9"));
	assert_false(cfg->follow.is_over_socket);
	ccfg_close(cfg);
}

/* A file that only a daemon in another life had must not stand for the one of now. */
static void daemons_without_a_lasting_file_are_followed(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	char text[16];

	fake_daemon_set(d, keeps_no_genfile, true);
	for (unsigned i = 0; i < 20; i++) {
		fake_daemon_stop(d);
		snprintf(text, sizeof(text), "%u", 100 + i);
		fake_daemon_put(d, "db/pool", text);
		fake_daemon_start(d);
		assert_int_equal(ccfg_wait(cfg, handle_newest_generation(cfg), SOON_MS), 0);
		assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 100 + i);
		/* Not the slot of a file that is gone. */
		if (cfg->follow.slot)
			assert_int_equal(atomic_load(&cfg->follow.slot->change),
				fake_share_change(d->genfile, d->genfile_kind));
	}
	assert_null(cfg->follow.slot); /* there is an end to the files kept */
	fake_daemon_put(d, "db/pool", "8");
	assert_true(comes_to(cfg, "db/pool", "8"));
	ccfg_close(cfg);
}

static void a_manual_handle_looks_without_waiting(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg;
	uint64_t generation, deadline;

	assert_int_equal(open_at(d, SOON_MS, CCFG_MANUAL, &cfg), 0);
	generation = handle_newest_generation(cfg);
	fake_daemon_put(d, "db/pool", "8");
	assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 7);
	assert_int_equal(ccfg_wait(cfg, generation, SOON_MS), 0);
	assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 8);
	generation = handle_newest_generation(cfg);
	fake_daemon_put(d, "db/pool", "9");
	deadline = clock_after_usec(SOON_MS * USEC_PER_MSEC);
	while (ccfg_wait(cfg, generation, 0) < 0 && clock_now_usec() < deadline)
		pause_ms(1);
	assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 9);
	ccfg_close(cfg);
}

static bool has_waiting_fetch(struct fake_daemon *d)
{
	bool has = false;

	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < FAKE_DAEMON_WAITING; i++)
		has |= d->waiting[i].fd >= 0 && d->waiting[i].op == WIRE_FETCH;
	pthread_mutex_unlock(&d->lock);
	return has;
}

static void *wait_for_change(void *userdata)
{
	ccfg *cfg = userdata;

	return (void *)(intptr_t)ccfg_wait(cfg, handle_newest_generation(cfg), SOON_MS);
}

/* The number is taken while a thread waits on it, which goes on until the daemon speaks. */
static void what_takes_the_number_during_a_wait_is_not_read_from(void **state)
{
	uint64_t deadline = clock_after_usec(SOON_MS * USEC_PER_MSEC);
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	int pair[2], fd = cfg->follow.link.fd;
	pthread_t thread;
	void *r;
	char c;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(send(pair[1], "x", 1, 0), 1);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_change, cfg), 0);
	while (!has_waiting_fetch(d) && clock_now_usec() < deadline)
		pause_ms(1);
	assert_int_equal(dup3(pair[0], fd, O_CLOEXEC), fd);
	fake_daemon_put(d, "db/pool", "8");
	assert_int_equal(pthread_join(thread, &r), 0);
	assert_int_equal((intptr_t)r, 0);
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 1);
	ccfg_close(cfg);
	close(fd);
	close(pair[0]);
	close(pair[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, share_set_up, handle_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_change_is_seen_in_the_slot),
		TEST(whether_there_is_something_newer_is_told_without_taking_it),
		TEST(a_descriptor_meets_its_own_reply),
		TEST(other_versions_are_read_over_the_socket),
		TEST(hostile_images_do_no_harm),
		TEST(hostile_generation_files_do_no_harm),
		TEST(a_daemon_that_dies_over_a_descriptor_costs_no_shared_memory),
		TEST(descriptors_that_kill_the_connection_are_done_without),
		TEST(daemons_without_a_lasting_file_are_followed),
		TEST(what_takes_the_number_during_a_wait_is_not_read_from),
		TEST(a_manual_handle_looks_without_waiting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
