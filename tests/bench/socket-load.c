/*
 * Asks a server on a Unix socket for one key, over and over: consulcfgd by its protocol, or Redis
 * by RESP, with the same loops. The first answer is compared with the value expected, each later
 * one byte by byte with the first: a value that does not change has one answer.
 *
 *   socket-load consulcfg|redis SOCKET clients|pipeline|latency COUNT SECONDS SERVICE KEY VALUE
 *
 * clients: COUNT connections with one request each under way, by epoll. pipeline: one connection
 * with COUNT under way. latency: one connection, one at a time. Prints one JSON object.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_COUNT 1024
#define MAX_LATENCIES (4 << 20)

struct load {
	bool is_redis;
	const char *path, *service, *key, *value;
	char request[2048], answer[1 << 16];
	size_t request_len, answer_len;
	uint64_t end_nsec, n_answers;
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "socket-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_nsec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void send_all(int fd, const char *bytes, size_t len)
{
	/* Much less than a socket's buffer is ever under way. */
	if (send(fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("send");
}

static size_t receive(int fd, char *to, size_t size)
{
	ssize_t n = recv(fd, to, size, 0);

	if (n <= 0)
		die("recv");
	return (size_t)n;
}

static void receive_all(int fd, char *to, size_t len)
{
	while (len > 0) {
		size_t n = receive(fd, to, len);
		to += n;
		len -= n;
	}
}

static void check(bool is_good)
{
	if (!is_good) {
		fprintf(stderr, "socket-load: a wrong answer\n");
		exit(1);
	}
}

static size_t put_header(char *to, uint32_t len, uint16_t op)
{
	const uint16_t op_status[2] = { op, 0 };
	const uint32_t tag = 0;

	memcpy(to, &len, 4);
	memcpy(to + 4, op_status, 4);
	memcpy(to + 8, &tag, 4);
	return 12;
}

static void make_request(struct load *load)
{
	size_t service_len = strlen(load->service), key_len = strlen(load->key);
	char *at = load->request;

	if (service_len + key_len > 1024 || strlen(load->value) > sizeof(load->answer) - 64) {
		errno = E2BIG;
		die("service, key or value");
	}
	if (load->is_redis) {
		load->request_len = (size_t)snprintf(at, sizeof(load->request),
			"*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", key_len, load->key);
		load->answer_len = (size_t)snprintf(load->answer, sizeof(load->answer),
			"$%zu\r\n%s\r\n", strlen(load->value), load->value);
		return;
	}
	at += put_header(at, (uint32_t)(1 + service_len + key_len), 4);
	*at++ = (char)service_len;
	memcpy(at, load->service, service_len);
	memcpy(at + service_len, load->key, key_len);
	load->request_len = 12 + 1 + service_len + key_len;
	put_header(load->answer, (uint32_t)(8 + strlen(load->value)), 4);
	load->answer_len = 12 + 8 + strlen(load->value);
	memcpy(load->answer + 20, load->value, strlen(load->value));
}

static void greet(struct load *load, int fd)
{
	char bytes[256];
	uint32_t len;
	const uint32_t no_time_out = UINT32_MAX;
	const uint16_t versions[4] = { 1, 1, 1, 0 };
	size_t at = put_header(bytes, sizeof(versions), 1);

	memcpy(bytes + at, versions, sizeof(versions));
	at += sizeof(versions);
	at += put_header(bytes + at, (uint32_t)(4 + strlen(load->service)), 2);
	memcpy(bytes + at, &no_time_out, 4);
	memcpy(bytes + at + 4, load->service, strlen(load->service));
	send_all(fd, bytes, at + 4 + strlen(load->service));
	for (int i = 0; i < 2; i++) {
		receive_all(fd, bytes, 12);
		memcpy(&len, bytes, 4);
		check(bytes[6] == 0 && len <= sizeof(bytes));
		receive_all(fd, bytes, len);
	}
}

static int connect_one(struct load *load)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *answer = malloc(load->answer_len);

	if (strlen(load->path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		die(load->path);
	}
	memcpy(address.sun_path, load->path, strlen(load->path));
	if (fd < 0 || !answer || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die(load->path);
	if (!load->is_redis)
		greet(load, fd);
	send_all(fd, load->request, load->request_len);
	receive_all(fd, answer, load->answer_len);
	if (!load->is_redis) /* the generation */
		memcpy(load->answer + 12, answer + 12, 8);
	check(memcmp(answer, load->answer, load->answer_len) == 0);
	free(answer);
	return fd;
}

/* Reads what is there; returns how many answers that completes. *at: where in an answer it ended.
 */
static size_t take_answers(struct load *load, int fd, size_t *at)
{
	static char bytes[1 << 18];
	size_t done = 0, offset = 0, len = receive(fd, bytes, sizeof(bytes));

	while (offset < len) {
		size_t n = load->answer_len - *at;
		if (n > len - offset)
			n = len - offset;
		check(memcmp(bytes + offset, load->answer + *at, n) == 0);
		offset += n;
		*at += n;
		if (*at == load->answer_len) {
			*at = 0;
			done++;
		}
	}
	load->n_answers += done;
	return done;
}

static void run_clients(struct load *load, int count)
{
	static struct {
		int fd;
		size_t at;
	} clients[MAX_COUNT];
	struct epoll_event events[MAX_COUNT];
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

	for (int i = 0; i < count; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = (uint32_t)i };
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, clients[i].fd = connect_one(load), &event))
			die("epoll_ctl");
	}
	load->end_nsec += now_nsec();
	for (int i = 0; i < count; i++)
		send_all(clients[i].fd, load->request, load->request_len);
	while (now_nsec() < load->end_nsec) {
		int n = epoll_wait(epoll_fd, events, count, 5000);
		if (n <= 0)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			uint32_t client = events[i].data.u32;
			size_t done = take_answers(load, clients[client].fd, &clients[client].at);
			check(done <= 1);
			if (done == 1)
				send_all(clients[client].fd, load->request, load->request_len);
		}
	}
}

static void run_pipeline(struct load *load, int count)
{
	int fd = connect_one(load);
	char *requests = malloc(load->request_len * (size_t)count);
	size_t at = 0, todo = (size_t)count;

	if (!requests)
		die("malloc");
	for (int i = 0; i < count; i++)
		memcpy(requests + load->request_len * (size_t)i, load->request, load->request_len);
	load->end_nsec += now_nsec();
	while (now_nsec() < load->end_nsec) {
		if (todo > 0)
			send_all(fd, requests, load->request_len * todo);
		todo = take_answers(load, fd, &at);
	}
	free(requests);
}

static int compare(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

static void run_latency(struct load *load)
{
	static const double percentiles[] = { 50, 90, 99, 99.9 };
	static uint32_t nsec[MAX_LATENCIES];
	size_t n = 0, at = 0;
	int fd = connect_one(load);

	load->end_nsec += now_nsec();
	for (uint64_t then = now_nsec(); then < load->end_nsec && n < MAX_LATENCIES;) {
		send_all(fd, load->request, load->request_len);
		while (take_answers(load, fd, &at) == 0)
			;
		uint64_t now = now_nsec();
		nsec[n++] = (uint32_t)(now - then);
		then = now;
	}
	qsort(nsec, n, sizeof(nsec[0]), compare);
	for (size_t i = 0; i < sizeof(percentiles) / sizeof(percentiles[0]); i++)
		printf("\"p%g_usec\": %.3f, ", percentiles[i],
			nsec[(size_t)((double)(n - 1) * percentiles[i] / 100)] / 1000.0);
}

int main(int argc, char **argv)
{
	static struct load load;

	if (argc != 9 || atoi(argv[4]) < 1 || atoi(argv[4]) > MAX_COUNT) {
		fprintf(stderr,
			"usage: %s consulcfg|redis SOCKET clients|pipeline|latency COUNT "
			"SECONDS SERVICE KEY VALUE\n",
			argv[0]);
		return 2;
	}
	load.is_redis = strcmp(argv[1], "redis") == 0;
	load.path = argv[2];
	load.service = argv[6];
	load.key = argv[7];
	load.value = argv[8];
	make_request(&load);
	uint64_t duration = load.end_nsec = (uint64_t)(atof(argv[5]) * 1e9);
	printf("{");
	if (strcmp(argv[3], "clients") == 0)
		run_clients(&load, atoi(argv[4]));
	else if (strcmp(argv[3], "pipeline") == 0)
		run_pipeline(&load, atoi(argv[4]));
	else
		run_latency(&load);
	double seconds = (double)(now_nsec() - load.end_nsec + duration) / 1e9;
	printf("\"requests\": %llu, \"seconds\": %.6f}\n", (unsigned long long)load.n_answers,
		seconds);
	return 0;
}
