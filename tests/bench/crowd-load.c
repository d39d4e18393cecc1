/*
 * Many connections to consulcfgd, by its protocol.
 *
 *   crowd-load flood SOCKET COUNT SECONDS SERVICE UID: as that user, COUNT connections that ask for
 *       keys, pages and lists of services as fast as they are taken, a quarter of them for all keys
 *       that one request holds; every second one never reads.
 *   crowd-load crowd SOCKET COUNT SERVICE: COUNT connections that wait for the next generation.
 *       Prints "ready", then, when it came, the milliseconds from the first to the last of them.
 *   crowd-load bare COUNT: the same where a child opens a file anew for each socket and sends it.
 *       In both each descriptor's seals are checked and it is mapped.
 *   crowd-load cycles SOCKET COUNT SERVICE: connects, reads a key and leaves, COUNT times.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HELLO 1
#define GET 4
#define MGET 5
#define LIST 6
#define STATUS 8
#define FETCH 9
#define HEADER 12

#define BARE_SIZE (80 << 10) /* about the image of the bench's service */

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "crowd-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect");
	return fd;
}

/* Little-endian, as this machine is. */
static size_t put(char *at, uint16_t op, const void *payload, size_t len)
{
	uint32_t length = (uint32_t)len, tag = 0;
	uint16_t status = 0;

	memcpy(at, &length, 4);
	memcpy(at + 4, &op, 2);
	memcpy(at + 6, &status, 2);
	memcpy(at + 8, &tag, 4);
	memcpy(at + HEADER, payload, len);
	return HEADER + len;
}

static size_t put_hello(char *at)
{
	static const uint16_t versions[] = { 1, 1, 1, 0 };

	return put(at, HELLO, versions, sizeof(versions));
}

static size_t put_get(char *at, const char *service)
{
	char payload[256];
	int n = snprintf(payload, sizeof(payload), "%c%sa", (char)strlen(service), service);

	return put(at, GET, payload, (size_t)n);
}

/* As many keys as the largest request holds: some that are there, and some that are not. */
static size_t put_mget(char *at, const char *service)
{
	static char payload[64 << 10];
	size_t len = 1 + (size_t)sprintf(payload + 1, "%s", service);
	char key[16];

	payload[0] = (char)strlen(service);
	for (unsigned i = 0; len < sizeof(payload) - HEADER - sizeof(key); i++) {
		uint16_t n = (uint16_t)(i % 2 == 0 ? sprintf(key, "key-%04u", i % 500)
						   : sprintf(key, "%u", i % 10));

		memcpy(payload + len, &n, 2);
		memcpy(payload + len + 2, key, n);
		len += 2 + n;
	}
	return put(at, MGET, payload, len);
}

static size_t put_list(char *at, const char *service)
{
	char payload[256] = { 0 };
	size_t len = strlen(service);

	payload[16] = (char)len;
	memcpy(payload + 17, service, len);
	return put(at, LIST, payload, 17 + len);
}

static size_t put_fetch(char *at, uint64_t generation, uint32_t timeout_ms, const char *service)
{
	char payload[256];
	size_t len = strlen(service);

	memcpy(payload, &generation, 8);
	memcpy(payload + 8, &timeout_ms, 4);
	memcpy(payload + 12, service, len);
	return put(at, FETCH, payload, 12 + len);
}

static void send_all(int fd, const char *bytes, size_t len)
{
	if (send(fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("send");
}

/* As a client does: looks at the seals, maps it, reads of it. */
static void take(int fd)
{
	struct stat st;
	volatile const char *bytes;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || !(seals & F_SEAL_WRITE) || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0)
		die("seals");
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		die("mmap");
	(void)bytes[0];
	munmap((void *)(uintptr_t)bytes, (size_t)st.st_size);
	close(fd);
}

/* What arrives, descriptors taken and closed; the bytes are the caller's. */
static ssize_t receive(int fd, char *to, size_t size)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec iov = { to, size };
	struct msghdr message = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;

	if (c && c->cmsg_type == SCM_RIGHTS)
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int passed;

			memcpy(&passed, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			take(passed);
		}
	return n;
}

static void receive_frame(int fd, char *to, size_t size)
{
	size_t have = 0, want = HEADER;

	while (have < want) {
		ssize_t n = receive(fd, to + have, (have < HEADER ? HEADER : want) - have);
		uint32_t length;

		if (n <= 0)
			die("receive");
		have += (size_t)n;
		memcpy(&length, to, 4);
		if (have == HEADER)
			want = HEADER + length;
		if (want > size)
			die("a long answer");
	}
}

static void allow_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

struct script {
	char bytes[128 << 10];
	size_t len;
};

/* What is asked for again and again: little at a time, or as much as one request may. */
static void write_scripts(struct script *small, struct script *large, const char *service)
{
	small->len = put_hello(small->bytes);
	for (unsigned i = 0; small->len < (64 << 10) - 512; i++)
		small->len += i % 16 == 0   ? put_list(small->bytes + small->len, service)
			      : i % 64 == 1 ? put(small->bytes + small->len, STATUS, "\1", 1)
					    : put_get(small->bytes + small->len, service);
	large->len = put_hello(large->bytes);
	large->len += put_mget(large->bytes + large->len, service);
}

static void flood(const char *path, unsigned count, double seconds, const char *service, uid_t uid)
{
	static struct script small, large;
	static char answers[256 << 10];
	int *fds = calloc(count, sizeof(*fds));
	size_t *sent = calloc(count, sizeof(*sent));
	double end;

	if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
		die("setresuid");
	write_scripts(&small, &large, service);
	for (unsigned i = 0; i < count; i++)
		fds[i] = connect_to(path);
	puts("ready");
	fflush(stdout);
	end = now() + seconds;
	while (now() < end) {
		for (unsigned i = 0; i < count; i++) {
			const struct script *script = i % 4 == 2 ? &large : &small;
			ssize_t n = send(fds[i], script->bytes + sent[i], script->len - sent[i],
				MSG_NOSIGNAL | MSG_DONTWAIT);

			if (n > 0)
				sent[i] += (size_t)n;
			if (sent[i] == script->len)
				sent[i] = HEADER + 8; /* one HELLO only */
			if (i % 2 == 0)
				(void)!recv(fds[i], answers, sizeof(answers), MSG_DONTWAIT);
		}
	}
}

/* Waits until each of the sockets has brought something; milliseconds from the first on. */
static void await_all(int *fds, unsigned count)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	char bytes[4096];
	double first = 0;
	unsigned left = count;

	for (unsigned i = 0; i < count; i++) {
		struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.fd = fds[i] };

		if (epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event) < 0)
			die("epoll_ctl");
	}
	puts("ready");
	fflush(stdout);
	while (left > 0) {
		struct epoll_event events[256];
		int n = epoll_wait(epoll, events, 256, 60000);

		if (n <= 0)
			die("epoll_wait");
		if (first == 0)
			first = now();
		for (int i = 0; i < n; i++)
			if (receive(events[i].data.fd, bytes, sizeof(bytes)) <= 0)
				die("receive");
		left -= (unsigned)n;
	}
	printf("%.3f\n", (now() - first) * 1000);
	fflush(stdout);
	close(epoll);
}

static void crowd(const char *path, unsigned count, const char *service)
{
	int *fds = calloc(count, sizeof(*fds));
	char bytes[4096];

	for (unsigned i = 0; i < count; i++) {
		size_t len = put_hello(bytes);

		fds[i] = connect_to(path);
		len += put_fetch(bytes + len, 0, 10000, service);
		send_all(fds[i], bytes, len);
		receive_frame(fds[i], bytes, sizeof(bytes));
		receive_frame(fds[i], bytes, sizeof(bytes));
	}
	for (;;) {
		uint64_t generation;

		memcpy(&generation, bytes + HEADER, 8);
		for (unsigned i = 0; i < count; i++)
			send_all(fds[i], bytes + 1024,
				put_fetch(bytes + 1024, generation, UINT32_MAX, service));
		await_all(fds, count);
		/* The generation, from one that is asked for without waiting. */
		send_all(fds[0], bytes, put_fetch(bytes, 0, 0, service));
		receive_frame(fds[0], bytes, sizeof(bytes));
	}
}

static void bare_child(const struct sockaddr_un *address, socklen_t len, unsigned count, int go)
{
	int *ends = calloc(count, sizeof(*ends));
	static char reply[60];
	int file = memfd_create("bare", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char path[64], byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < count; i++) {
		ends[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (ends[i] < 0 || connect(ends[i], (const struct sockaddr *)address, len) < 0)
			die("connect");
	}
	if (ftruncate(file, BARE_SIZE) < 0 ||
		fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) < 0)
		die("memfd");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	while (read(go, &byte, 1) == 1) {
		for (unsigned i = 0; i < count; i++) {
			char control[CMSG_SPACE(sizeof(int))] = { 0 };
			struct iovec iov = { reply, sizeof(reply) };
			struct msghdr message = { .msg_iov = &iov,
				.msg_iovlen = 1,
				.msg_control = control,
				.msg_controllen = sizeof(control) };
			struct cmsghdr *c = CMSG_FIRSTHDR(&message);
			int fd = open(path, O_RDONLY | O_CLOEXEC);

			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(c), &fd, sizeof(int));
			if (fd < 0 || sendmsg(ends[i], &message, MSG_NOSIGNAL) < 0)
				die("sendmsg");
			close(fd);
		}
	}
	_exit(0);
}

/* A byte on standard input starts a round. Each of the two processes has its ends only. */
static void bare(unsigned count)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(address);
	int *ours = calloc(count, sizeof(int)), listener;

	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0 ||
		listen(listener, 1024) < 0 ||
		getsockname(listener, (struct sockaddr *)&address, &len) < 0)
		die("listen");
	if (fork() == 0) {
		close(listener);
		bare_child(&address, len, count, STDIN_FILENO);
	}
	for (unsigned i = 0; i < count; i++) {
		ours[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (ours[i] < 0)
			die("accept");
	}
	for (;;)
		await_all(ours, count);
}

static void cycles(const char *path, unsigned count, const char *service)
{
	for (unsigned i = 0; i < count; i++) {
		char bytes[4096];
		size_t len = put_hello(bytes);
		int fd = connect_to(path);

		len += put_get(bytes + len, service);
		send_all(fd, bytes, len);
		if (i % 2 == 0) { /* the others leave without an answer */
			receive_frame(fd, bytes, sizeof(bytes));
			receive_frame(fd, bytes, sizeof(bytes));
		}
		close(fd);
	}
}

int main(int argc, char *argv[])
{
	allow_descriptors();
	if (argc == 7 && strcmp(argv[1], "flood") == 0)
		flood(argv[2], (unsigned)atoi(argv[3]), atof(argv[4]), argv[5],
			(uid_t)strtoul(argv[6], NULL, 10));
	else if (argc == 5 && strcmp(argv[1], "crowd") == 0)
		crowd(argv[2], (unsigned)atoi(argv[3]), argv[4]);
	else if (argc == 3 && strcmp(argv[1], "bare") == 0)
		bare((unsigned)atoi(argv[2]));
	else if (argc == 5 && strcmp(argv[1], "cycles") == 0)
		cycles(argv[2], (unsigned)atoi(argv[3]), argv[4]);
	else
		return 2;
	return 0;
}
