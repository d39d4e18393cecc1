/*
 * Threads that use one handle in every way there is, for a while, as updates land. What they read
 * must be whole: a value is one letter many times over, and a pinned view stays as it is.
 */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/lib/consulcfg.h"

#define KEY "letters"

static ccfg *cfg;
static ccfg_int64 *number;
static atomic_bool shall_stop;
static atomic_uint n_errors, n_generations, n_told;

static void wrong(const char *what)
{
	fprintf(stderr, "wrong: %s\n", what);
	atomic_fetch_add(&n_errors, 1);
}

static void check_letters(const char *value, size_t len, const char *what)
{
	for (size_t i = 1; i < len; i++)
		if (value[i] != value[0]) {
			wrong(what);
			return;
		}
	if (len == 0)
		wrong("an empty value");
}

static void *get_all(void *unused)
{
	char buf[512];

	(void)unused;
	while (!atomic_load(&shall_stop)) {
		ssize_t n = ccfg_get(cfg, KEY, buf, sizeof(buf));
		char *copy = ccfg_get_dup(cfg, KEY, NULL);

		check_letters(buf, n < 0 ? 0 : (size_t)n, "ccfg_get");
		check_letters(copy ? copy : "", copy ? strlen(copy) : 0, "ccfg_get_dup");
		free(copy);
		if (ccfg_int64_value(number) < 0 || ccfg_get_int64(cfg, "number", -1) < 0)
			wrong("number");
	}
	return NULL;
}

static void *pin_all(void *unused)
{
	const struct timespec pause = { .tv_nsec = 3000000 };
	uint64_t last = 0;

	(void)unused;
	while (!atomic_load(&shall_stop)) {
		const ccfg_view *view = ccfg_pin(cfg);
		uint64_t generation = ccfg_view_generation(view);
		struct ccfg_entry entry = { .size = sizeof(entry) };
		char first[512] = "";
		size_t len = 0, cursor = 0;
		const char *value = ccfg_view_get(view, KEY, strlen(KEY), &len);

		if (generation < last)
			wrong("a generation went back");
		last = generation;
		check_letters(value, len, "ccfg_view_get");
		memcpy(first, value, len < sizeof(first) ? len : sizeof(first) - 1);
		nanosleep(&pause, NULL);
		if (memcmp(first, value, len) != 0 || ccfg_view_generation(view) != generation)
			wrong("a pinned view changed");
		while (ccfg_view_next(view, "", &cursor, &entry))
			if (entry.key[entry.key_len] != '\0')
				wrong("a key without an end");
		ccfg_unpin(view);
	}
	return NULL;
}

static void *wait_all(void *unused)
{
	uint64_t generation = 0;

	(void)unused;
	while (!atomic_load(&shall_stop)) {
		struct ccfg_info info = { .size = sizeof(info) };

		if (ccfg_wait(cfg, generation, 50) == 0)
			atomic_fetch_add(&n_generations, 1);
		if (ccfg_info(cfg, &info) < 0 || info.generation < generation)
			wrong("info");
		generation = info.generation;
	}
	return NULL;
}

static void on_change(ccfg *from, const struct ccfg_change *change, void *userdata)
{
	(void)userdata;
	if (ccfg_get(from, KEY, NULL, 0) < 0)
		wrong("a read within a callback");
	if (change->new_value && strcmp(change->key, KEY) == 0)
		check_letters(change->new_value, change->new_len, "a callback");
	atomic_fetch_add(&n_told, 1);
}

static void *dispatch_all(void *unused)
{
	struct pollfd pfd = { .fd = ccfg_fd(cfg), .events = POLLIN };
	ccfg_watch *watch, *other;

	(void)unused;
	if (ccfg_on_change(cfg, "", on_change, NULL, &watch) < 0)
		wrong("ccfg_on_change");
	while (!atomic_load(&shall_stop)) {
		if (ccfg_on_change(cfg, "num", on_change, NULL, &other) < 0)
			wrong("ccfg_on_change");
		if (poll(&pfd, 1, 20) > 0)
			(void)ccfg_dispatch(cfg);
		ccfg_watch_close(other);
	}
	ccfg_watch_close(watch);
	return NULL;
}

/* Threads that come and go leave their hazards to others. */
static void *read_once(void *unused)
{
	(void)unused;
	if (ccfg_get(cfg, KEY, NULL, 0) <= 0)
		wrong("a short-lived thread");
	return NULL;
}

static void *come_and_go(void *unused)
{
	(void)unused;
	while (!atomic_load(&shall_stop)) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, read_once, NULL) == 0)
			pthread_join(thread, NULL);
	}
	return NULL;
}

/* Children made while others are anywhere in the library. */
static void *fork_all(void *unused)
{
	(void)unused;
	while (!atomic_load(&shall_stop)) {
		int status = -1;
		pid_t child = fork();

		if (child == 0) {
			char buf[512];
			ssize_t n = ccfg_get(cfg, KEY, buf, sizeof(buf));

			check_letters(buf, n < 0 ? 0 : (size_t)n, "in a child");
			ccfg_unpin(ccfg_pin(cfg));
			ccfg_close(cfg);
			_exit((int)atomic_load(&n_errors));
		}
		if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
			wrong("a child");
	}
	return NULL;
}

static void *(*const kinds[])(void *) = { get_all, get_all, pin_all, pin_all, wait_all,
	dispatch_all, dispatch_all, come_and_go, fork_all };

int main(int argc, char **argv)
{
	struct ccfg_options options = { .size = sizeof(options) };
	pthread_t threads[sizeof(kinds) / sizeof(kinds[0])];
	size_t n_threads = sizeof(kinds) / sizeof(kinds[0]);

	if (argc < 5)
		return 2;
	if (strcmp(argv[4], "fork") != 0)
		n_threads--;
	options.socket_path = argv[2];
	if (ccfg_open(argv[1], &options, &cfg) < 0)
		return 3;
	number = ccfg_bind_int64(cfg, "number", -1);
	for (size_t i = 0; i < n_threads; i++)
		pthread_create(&threads[i], NULL, kinds[i], NULL);
	sleep((unsigned)atoi(argv[3]));
	atomic_store(&shall_stop, true);
	for (size_t i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
	printf("%u %u\n", atomic_load(&n_generations), atomic_load(&n_told));
	ccfg_close(cfg);
	return atomic_load(&n_errors) > 0;
}
