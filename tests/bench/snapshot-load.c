/*
 * What taking a new generation costs a client, and what having a service open costs a process.
 *
 *	snapshot-load first N		N changes of the service "bench": prints, in nanoseconds, N
 *first reads after a change and N bare round trips, in turn, as a line of JSON. Says "next" on
 *					standard error when it waits for a change.
 *	snapshot-load open N		N processes, each with the service open and read through
 *once snapshot-load without N		N processes that do not load the library
 *
 * The bare round trip: one request on a stream socket, one reply with a descriptor of a sealed
 *memfd, mapped, looked at, unmapped. Its server is a process of its own that waits in epoll, as the
 *daemon does.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/lib/consulcfg.h"

#define MESSAGE 64

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "snapshot-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_nsec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* --- the bare round trip ------------------------------------------------------------------ */

static void pass(int socket, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char message[MESSAGE] = "";
	struct iovec part = { message, sizeof(message) };
	struct msghdr m = { .msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(socket, &m, 0) < 0)
		die("sendmsg");
}

static _Noreturn void serve(int socket, int memfd)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(0);
	char message[MESSAGE];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event);
	for (;;) {
		if (epoll_wait(epoll, &event, 1, -1) < 1)
			continue;
		if (recv(socket, message, sizeof(message), 0) <= 0)
			_exit(0);
		pass(socket, memfd);
	}
}

static int start_server(size_t size)
{
	int pair[2], memfd = memfd_create("bare", MFD_ALLOW_SEALING);

	if (memfd < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		die("socketpair");
	for (size_t i = 0; i < size; i += 4096)
		if (pwrite(memfd, "x", 1, (off_t)i) != 1)
			die("pwrite");
	fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	if (fork() == 0)
		serve(pair[1], memfd);
	close(pair[1]);
	return pair[0];
}

static uint64_t round_trip(int socket)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char message[MESSAGE] = "";
	struct iovec part = { message, sizeof(message) };
	struct msghdr m = { .msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	static void *last;
	static size_t last_size;
	uint64_t start = now_nsec();
	struct stat st;
	void *data;
	int fd;

	if (send(socket, message, 32, 0) < 0 || recvmsg(socket, &m, MSG_CMSG_CLOEXEC) <= 0)
		die("round trip");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	fstat(fd, &st);
	data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED || *(volatile char *)data != 'x')
		die("mmap");
	close(fd);
	if (last)
		munmap(last, last_size);
	last = data;
	last_size = (size_t)st.st_size;
	return now_nsec() - start;
}

/* --- first reads --------------------------------------------------------------------------- */

static void print_all(const char *name, const uint64_t *samples, int n)
{
	printf("\"%s\": [", name);
	for (int i = 0; i < n; i++)
		printf("%s%llu", i ? ", " : "", (unsigned long long)samples[i]);
	printf("]");
}

static uint64_t generation_of(ccfg *cfg)
{
	const ccfg_view *view = ccfg_pin(cfg);
	uint64_t generation = ccfg_view_generation(view);

	ccfg_unpin(view);
	return generation;
}

/* Reads on and on; the read that brings another generation is the one that is wanted. */
static uint64_t first_read(ccfg *cfg, const char *key)
{
	uint64_t before = generation_of(cfg);
	char buf[256];

	for (;;) {
		uint64_t start = now_nsec(), taken;

		ccfg_get(cfg, key, buf, sizeof(buf));
		taken = now_nsec() - start;
		if (taken > 2000 && generation_of(cfg) != before)
			return taken;
	}
}

static int measure(int n)
{
	uint64_t *reads = calloc((size_t)n, sizeof(*reads)),
		 *trips = calloc((size_t)n, sizeof(*trips));
	struct ccfg_options options = { .size = sizeof(options), .timeout_ms = 60000 };
	struct ccfg_info info = { .size = sizeof(info) };
	struct ccfg_entry entry = { .size = sizeof(entry) };
	const ccfg_view *view;
	size_t cursor = 0;
	char key[256];
	ccfg *cfg;
	int bare;

	if (ccfg_open("bench", &options, &cfg) < 0 || ccfg_info(cfg, &info) < 0)
		die("ccfg_open");
	view = ccfg_pin(cfg);
	ccfg_view_next(view, "", &cursor, &entry);
	snprintf(key, sizeof(key), "%s", entry.key);
	ccfg_unpin(view);
	bare = start_server(info.n_bytes);
	for (int i = 0; i < n; i++) {
		fprintf(stderr, "next\n");
		reads[i] = first_read(cfg, key);
		/* The server has slept, and the caches are as cold as the read found them. */
		usleep(20000);
		trips[i] = round_trip(bare);
	}
	printf("{");
	print_all("reads", reads, n);
	printf(", ");
	print_all("trips", trips, n);
	printf("}\n");
	ccfg_close(cfg);
	return 0;
}

/* --- processes ----------------------------------------------------------------------------- */

static void open_and_read(void)
{
	void *library = dlopen("libconsulcfg.so.0", RTLD_NOW);
	__typeof__(ccfg_open) *open_ = (__typeof__(ccfg_open) *)dlsym(library, "ccfg_open");
	__typeof__(ccfg_pin) *pin = (__typeof__(ccfg_pin) *)dlsym(library, "ccfg_pin");
	__typeof__(ccfg_unpin) *unpin = (__typeof__(ccfg_unpin) *)dlsym(library, "ccfg_unpin");
	__typeof__(ccfg_view_next) *next =
		(__typeof__(ccfg_view_next) *)dlsym(library, "ccfg_view_next");
	struct ccfg_options options = { .size = sizeof(options), .timeout_ms = 60000 };
	struct ccfg_entry entry = { .size = sizeof(entry) };
	volatile size_t sum = 0;
	const ccfg_view *view;
	size_t cursor = 0;
	ccfg *cfg;

	if (!library || open_("bench", &options, &cfg) < 0)
		die("open");
	view = pin(cfg);
	while (next(view, "", &cursor, &entry))
		sum += entry.value_len + (size_t)entry.key[0];
	unpin(view);
}

static int run_processes(int n, int with_library)
{
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			/* A program of its own, not a page shared with its parent by the fork. */
			execl("/proc/self/exe", "snapshot-load", "one", with_library ? "1" : "0",
				NULL);
			die("exec");
		}
		printf("%d\n", (int)pid);
	}
	fflush(stdout);
	for (int i = 0; i < n; i++)
		wait(NULL);
	return 0;
}

int main(int argc, char *argv[])
{
	int n = argc > 2 ? atoi(argv[2]) : 0;

	if (argc > 2 && strcmp(argv[1], "first") == 0)
		return measure(n);
	if (argc > 2 && (strcmp(argv[1], "open") == 0 || strcmp(argv[1], "without") == 0))
		return run_processes(n, argv[1][0] == 'o');
	if (argc > 2 && strcmp(argv[1], "one") == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (n)
			open_and_read();
		fprintf(stderr, "ready\n");
		pause();
		return 0;
	}
	fprintf(stderr, "usage: snapshot-load first|open|without N\n");
	return 2;
}
