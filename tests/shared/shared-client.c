/*
 * Drives one handle of libconsulcfg line by line from standard input, as a program that links it
 * would: tests see a handle live on while daemons come and go.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/lib/consulcfg.h"

#define PINS 8
#define SLOW_US 12000 /* a read that waited for the daemon: 20 ms, or what is left of it */
#define CHILD_US 10000000

static ccfg *cfg;
static const ccfg_view *pins[PINS];
static ccfg_int64 *bound;

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void pause_us(long us)
{
	const struct timespec pause = { .tv_nsec = us * 1000 };

	nanosleep(&pause, NULL);
}

static const char *words(long r)
{
	return r < 0 ? strerror((int)-r) : "ok";
}

/* --- reads ------------------------------------------------------------------------------- */

static void do_get(const char *key)
{
	static char value[8192];
	ssize_t n = ccfg_get(cfg, key, value, sizeof(value));

	printf("%s\n", n < 0 ? words(n) : value);
}

/* A key of that many bytes, which may have a NUL in the middle. */
static void do_odd_key(const char *length)
{
	size_t len = strtoul(length, NULL, 10), found = 0;
	const ccfg_view *view = ccfg_pin(cfg);
	char *key = malloc(len + 1);

	if (!key)
		abort();
	memset(key, 'k', len + 1);
	key[len] = '\0';
	printf("%s\n", words(ccfg_get(cfg, key, NULL, 0)));
	printf("%s\n", ccfg_view_get(view, key, len, &found) ? "there" : "absent");
	printf("%s\n", ccfg_bind_int64(cfg, key, 1) ? "bound" : strerror(errno));
	if (len > 2)
		key[len / 2] = '\0';
	printf("%s\n", ccfg_view_get(view, key, len, &found) ? "there" : "absent");
	free(key);
	ccfg_unpin(view);
}

static void do_bind(const char *key)
{
	bound = ccfg_bind_int64(cfg, key, -1);
	printf("%s\n", bound ? "ok" : strerror(errno));
}

static void do_pin(unsigned i)
{
	pins[i] = ccfg_pin(cfg);
	printf("%" PRIu64 "\n", ccfg_view_generation(pins[i]));
}

static void do_view(unsigned i, const char *key)
{
	const char *value = ccfg_view_get(pins[i], key, strlen(key), NULL);

	printf("%s\n", value ? value : "absent");
}

static void do_info(void)
{
	static const char *const states[] = { "loading", "live", "stale", "backup", "held",
		"frozen" };
	struct ccfg_info info = { .size = sizeof(info) };
	int r = ccfg_info(cfg, &info);

	if (r < 0)
		printf("%s\n", words(r));
	else
		printf("%s error=%s generation=%" PRIu64 " entries=%" PRIu64 " unparsable=%" PRIu64
		       "\n",
			states[info.state], words(info.error), info.generation, info.n_entries,
			info.n_unparsable);
}

/* How many images are mapped, and how much of them is in this process, in kB. */
static void do_maps(void)
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	unsigned long from, to, kb, resident = 0;
	char line[512];
	bool is_image = false;
	unsigned n = 0;

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
			is_image = strstr(line, "/memfd:consulcfg ") != NULL;
			n += is_image;
		} else if (is_image && sscanf(line, "Rss: %lu kB", &kb) == 1) {
			resident += kb;
		}
	}
	if (maps)
		fclose(maps);
	printf("%u %lu\n", n, resident);
}

static void do_wait(int timeout_ms)
{
	const ccfg_view *view = ccfg_pin(cfg);
	uint64_t generation = ccfg_view_generation(view);

	ccfg_unpin(view);
	printf("%s\n", words(ccfg_wait(cfg, generation, timeout_ms)));
}

/* --- how long reads take ----------------------------------------------------------------- */

struct timing {
	const char *key;
	uint64_t until;
	uint64_t shortest, longest; /* of the slow ones */
	unsigned n_slow;
	unsigned long n;
};

/* A thread that waits gives the processor up; one that a busy machine interrupts does not. */
static long count_waits(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

static void count_slow(struct timing *timing, uint64_t took)
{
	if (timing->n_slow++ == 0 || took < timing->shortest)
		timing->shortest = took;
	if (took > timing->longest)
		timing->longest = took;
}

static void *time_reads(void *userdata)
{
	struct timing *timing = userdata;

	while (now_us() < timing->until) {
		long n_waits = count_waits();
		uint64_t begin = now_us(), took;

		(void)ccfg_get_int64(cfg, timing->key, -1);
		took = now_us() - begin;
		if (took > SLOW_US && count_waits() > n_waits)
			count_slow(timing, took);
		timing->n++;
		pause_us(500);
	}
	return NULL;
}

/* Threads read for a while: reads, slow ones, the shortest and longest of those in us. */
static void do_time(const char *key, unsigned n_threads, uint64_t ms)
{
	struct timing timings[16] = { 0 }, all = { 0 };
	pthread_t threads[16];

	for (unsigned i = 0; i < n_threads && i < 16; i++) {
		timings[i] = (struct timing){ .key = key, .until = now_us() + ms * 1000 };
		pthread_create(&threads[i], NULL, time_reads, &timings[i]);
	}
	for (unsigned i = 0; i < n_threads && i < 16; i++) {
		pthread_join(threads[i], NULL);
		all.n += timings[i].n;
		if (timings[i].n_slow == 0)
			continue;
		if (all.n_slow == 0 || timings[i].shortest < all.shortest)
			all.shortest = timings[i].shortest;
		if (timings[i].longest > all.longest)
			all.longest = timings[i].longest;
		all.n_slow += timings[i].n_slow;
	}
	printf("%lu %u %" PRIu64 " %" PRIu64 "\n", all.n, all.n_slow, all.shortest, all.longest);
}

/* --- children ---------------------------------------------------------------------------- */

static void print_status(pid_t child)
{
	int status = -1;

	if (child < 0 || waitpid(child, &status, 0) != child)
		printf("no child\n");
	else if (WIFSIGNALED(status))
		printf("killed by %s\n", strsignal(WTERMSIG(status)));
	else
		printf("exited %d\n", WEXITSTATUS(status));
}

static bool comes_to(const char *key, const char *value)
{
	uint64_t until = now_us() + CHILD_US;
	char buf[64];

	do {
		if (ccfg_get(cfg, key, buf, sizeof(buf)) >= 0 && strcmp(buf, value) == 0)
			return true;
		pause_us(1000);
	} while (now_us() < until);
	return false;
}

/* Children read what they inherited, say so in a file, then wait for the new value. */
static void do_fork(unsigned n, const char *key, const char *value, const char *file)
{
	pid_t children[8];

	for (unsigned i = 0; i < n && i < 8; i++) {
		children[i] = fork();
		if (children[i] != 0)
			continue;
		if (ccfg_get(cfg, key, NULL, 0) < 0)
			_exit(1);
		int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (fd < 0 || write(fd, ".", 1) != 1)
			_exit(2);
		close(fd);
		_exit(comes_to(key, value) ? 0 : 3);
	}
	for (unsigned i = 0; i < n && i < 8; i++)
		print_status(children[i]);
}

/* The kernel kills whoever makes a system call here but read, write and exit. */
static void read_calmly(const char *key, unsigned long n)
{
	unsigned long long failures = 0;
	char buf[64];

	do_bind(key);
	fflush(stdout);
	ccfg_unpin(ccfg_pin(cfg));
	failures += ccfg_get(cfg, key, buf, sizeof(buf)) < 0;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) < 0)
		_exit(2);
	for (unsigned long i = 0; i < n; i++) {
		const ccfg_view *view = ccfg_pin(cfg);

		failures += ccfg_view_get(view, key, strlen(key), NULL) == NULL;
		ccfg_unpin(view);
		failures += ccfg_get(cfg, key, buf, sizeof(buf)) < 0;
		failures += ccfg_get_int64(cfg, key, -1) < 0;
		failures += ccfg_int64_value(bound) < 0;
	}
	syscall(SYS_exit, failures != 0);
}

static void do_calm(const char *key, unsigned long n)
{
	pid_t child = fork();

	if (child == 0)
		read_calmly(key, n);
	print_status(child);
}

/* --- a program that is careless with descriptors ----------------------------------------- */

/* Closes every socket but the standard streams; puts a file in its place where one is named. */
static void do_steal(const char *file)
{
	unsigned n = 0;

	for (int fd = 3; fd < 256; fd++) {
		struct stat st;
		int other;

		if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
			continue;
		n++;
		close(fd);
		other = file ? open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
		if (file && other != fd)
			abort(); /* the lowest free number */
	}
	printf("%u\n", n);
}

/* Whether no number is left beyond those in use now. */
static void do_files(const char *limit)
{
	struct rlimit files = { 0 };

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = strtoul(limit, NULL, 10);
	printf("%s\n", setrlimit(RLIMIT_NOFILE, &files) < 0 ? strerror(errno) : "ok");
}

/* --- changes ----------------------------------------------------------------------------- */

static void on_change(ccfg *from, const struct ccfg_change *change, void *userdata)
{
	if (from != cfg)
		abort();
	printf("%s %s: %s -> %s\n", (const char *)userdata, change->key,
		change->old_value ? change->old_value : "none",
		change->new_value ? change->new_value : "none");
}

static void do_watch(const char *prefix)
{
	static char names[8][64];
	static unsigned n;
	char *name = names[n++ % 8];
	ccfg_watch *watch;

	snprintf(name, sizeof(names[0]), "%s", prefix);
	printf("%s\n", words(ccfg_on_change(cfg, prefix, on_change, name, &watch)));
}

/* Until something was told, or the time is over. */
static void do_poll(int timeout_ms)
{
	uint64_t until = now_us() + (uint64_t)timeout_ms * 1000;
	struct pollfd pfd = { .fd = ccfg_fd(cfg), .events = POLLIN };
	int n = 0;

	while (n == 0 && now_us() < until)
		if (poll(&pfd, 1, (int)((until - now_us()) / 1000) + 1) > 0)
			n = ccfg_dispatch(cfg);
	printf("%d\n", n);
}

/* --- the loop ---------------------------------------------------------------------------- */

static const char *next_word(void)
{
	const char *word = strtok(NULL, " ");

	return word ? word : "";
}

static unsigned long next_number(void)
{
	return strtoul(next_word(), NULL, 10);
}

static bool do_read_command(const char *name)
{
	unsigned i;

	if (strcmp(name, "get") == 0) {
		do_get(next_word());
	} else if (strcmp(name, "odd-key") == 0) {
		do_odd_key(next_word());
	} else if (strcmp(name, "bind") == 0) {
		do_bind(next_word());
	} else if (strcmp(name, "bound") == 0) {
		printf("%" PRId64 "\n", ccfg_int64_value(bound));
	} else if (strcmp(name, "pin") == 0) {
		do_pin((unsigned)next_number() % PINS);
	} else if (strcmp(name, "view") == 0) {
		i = (unsigned)next_number() % PINS;
		do_view(i, next_word());
	} else if (strcmp(name, "unpin") == 0) {
		i = (unsigned)next_number() % PINS;
		ccfg_unpin(pins[i]);
		pins[i] = NULL;
	} else if (strcmp(name, "info") == 0) {
		do_info();
	} else if (strcmp(name, "maps") == 0) {
		do_maps();
	} else {
		return false;
	}
	return true;
}

static void command(char *line)
{
	const char *name = strtok(line, " "), *key, *value;
	unsigned n;

	if (!name || do_read_command(name))
		return;
	if (strcmp(name, "wait") == 0) {
		do_wait((int)next_number());
	} else if (strcmp(name, "time") == 0) {
		key = next_word();
		n = (unsigned)next_number();
		do_time(key, n, next_number());
	} else if (strcmp(name, "fork") == 0) {
		n = (unsigned)next_number();
		key = next_word();
		value = next_word();
		do_fork(n, key, value, next_word());
	} else if (strcmp(name, "calm") == 0) {
		key = next_word();
		do_calm(key, next_number());
	} else if (strcmp(name, "steal") == 0) {
		do_steal(strtok(NULL, " "));
	} else if (strcmp(name, "files") == 0) {
		do_files(next_word());
	} else if (strcmp(name, "uid") == 0) {
		n = (unsigned)next_number();
		printf("%s\n", setresuid((uid_t)-1, n, (uid_t)-1) < 0 ? strerror(errno) : "ok");
	} else if (strcmp(name, "fd") == 0) {
		printf("%d\n", ccfg_fd(cfg));
	} else if (strcmp(name, "watch") == 0) {
		do_watch(next_word());
	} else if (strcmp(name, "poll") == 0) {
		do_poll((int)next_number());
	} else if (strcmp(name, "dispatch") == 0) {
		printf("%d\n", ccfg_dispatch(cfg));
	} else {
		printf("unknown command\n");
	}
}

int main(int argc, char **argv)
{
	struct ccfg_options options = { .size = sizeof(options), .timeout_ms = 5000 };
	char line[8192];
	int r;

	if (argc < 3)
		return 2;
	options.socket_path = argv[2];
	options.flags = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
	options.timeout_ms = argc > 4 ? atoi(argv[4]) : 5000;
	r = strchr(argv[1], '/') ? ccfg_open_image(argv[1], &cfg)
				 : ccfg_open(argv[1], &options, &cfg);
	printf("%s\ndone\n", words(r));
	fflush(stdout);
	if (r < 0)
		return 0;
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		command(line);
		printf("done\n");
		fflush(stdout);
	}
	for (unsigned i = 0; i < PINS; i++)
		ccfg_unpin(pins[i]);
	ccfg_close(cfg);
	return 0;
}
