/* SPDX-License-Identifier: MIT */
/*
 * See consulcfg-stub.h. Written from consulcfg-protocol(7). No byte of the daemon is trusted: what
 * does not fit the page is -EPROTO. All tags are 0: with at most one WATCH and one other request
 * under way, the op tells whose a reply is.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L /* NOLINT(bugprone-reserved-identifier): POSIX asks for it */
#endif

#include "consulcfg-stub.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { OP_HELLO = 1, OP_OPEN = 2, OP_GET = 4, OP_LIST = 6, OP_WATCH = 7 };
enum { HEADER_LEN = 12, ENTRY_LEN = 24, KEY_MAX_LEN = 4096, REPLY_MAX_LEN = 1 << 30 };

struct request {
	size_t len;
	unsigned char bytes[HEADER_LEN + 8 + 8 + 1 + 64 + KEY_MAX_LEN];
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int left_ms(const struct ccfg_stub *stub)
{
	int64_t left = stub->deadline - now_ms();

	return left < 0 ? 0 : (int)left;
}

static uint64_t parse(const unsigned char *bytes, size_t len)
{
	uint64_t value = 0;

	while (len-- > 0)
		value = value << 8 | bytes[len];
	return value;
}

static void put(struct request *request, uint64_t value, size_t len)
{
	for (; len > 0; len--, value >>= 8)
		request->bytes[request->len++] = (unsigned char)value;
}

static void put_text(struct request *request, const char *text)
{
	memcpy(request->bytes + request->len, text, strlen(text));
	request->len += strlen(text);
}

static void put_header(struct request *request, int op, size_t payload_len)
{
	put(request, payload_len, 4);
	put(request, (uint64_t)op, 2);
	put(request, 0, 2 + 4); /* status, tag */
}

static int fail(struct ccfg_stub *stub, int error)
{
	if (stub->fd >= 0)
		close(stub->fd);
	stub->fd = -1;
	stub->error = error;
	stub->is_watching = 0;
	stub->in_start = stub->in_end = 0;
	return error;
}

static int is_lost(int error)
{
	return error == -ECONNREFUSED || error == -ECONNRESET;
}

/* The socket blocks for its send time-out. That it is lost shows when the reply is read: what the
 * daemon had to say before it closed may be there. */
static void send_request(struct ccfg_stub *stub, const struct request *request)
{
	size_t sent = 0;

	while (sent < request->len) {
		size_t left = request->len - sent;
		ssize_t n = send(stub->fd, request->bytes + sent, left, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR) {
			if (errno != EPIPE && errno != ECONNRESET)
				fail(stub, errno == EAGAIN ? -ETIMEDOUT : -errno);
			return;
		}
		sent += n > 0 ? (size_t)n : 0;
	}
}

/* Fills the empty buffer with at least one byte. */
static int receive(struct ccfg_stub *stub)
{
	struct pollfd poll_fd;
	ssize_t n;

	poll_fd.fd = stub->fd;
	poll_fd.events = POLLIN;
	do {
		n = poll(&poll_fd, 1, left_ms(stub));
		if (n == 0)
			return -ETIMEDOUT;
		if (n > 0)
			n = recv(stub->fd, stub->in, sizeof(stub->in), MSG_DONTWAIT);
	} while (n < 0 && (errno == EINTR || errno == EAGAIN));
	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	stub->in_start = 0;
	stub->in_end = (size_t)n;
	return 0;
}

/* Reads exactly len bytes of what is left of a header or payload, to NULL: to nowhere. */
static void take(struct ccfg_stub *stub, void *to, size_t len)
{
	unsigned char *at = (unsigned char *)to;

	if (stub->fd >= 0 && len > stub->left)
		fail(stub, -EPROTO);
	stub->left -= (uint32_t)len;
	while (stub->fd >= 0 && len > 0) {
		int r = stub->in_start == stub->in_end ? receive(stub) : 0;
		size_t have = stub->in_end - stub->in_start;
		size_t n = have < len ? have : len;
		if (r < 0)
			fail(stub, r);
		else if (at)
			memcpy(at, stub->in + stub->in_start, n);
		at += at ? n : 0;
		stub->in_start += n;
		len -= n;
	}
}

static uint64_t take_number(struct ccfg_stub *stub)
{
	unsigned char bytes[8] = { 0 };

	take(stub, bytes, sizeof(bytes));
	return parse(bytes, sizeof(bytes));
}

static void take_value(struct ccfg_stub *stub, char *buf, size_t size, size_t len)
{
	size_t copied = len < size ? len : size > 0 ? size - 1 : 0;

	take(stub, buf, copied);
	take(stub, NULL, len - copied);
	if (size > 0)
		buf[copied] = '\0';
}

/* Reads a reply as far as its payload; that to the WATCH may come before the one for op. */
static int take_reply(struct ccfg_stub *stub, int op)
{
	static const int errors[] = { 0, -ENOENT, -ENODATA, -EACCES, -EPROTO, -EINVAL, -EBUSY,
		-EPROTONOSUPPORT, -ESTALE, -ECANCELED };
	int got_op, error;

	do {
		unsigned char header[HEADER_LEN] = { 0 };
		stub->left = sizeof(header);
		take(stub, header, sizeof(header));
		stub->left = (uint32_t)parse(header, 4);
		got_op = (int)parse(header + 4, 2);
		error = header[7] == 0 && header[6] < 10 ? errors[header[6]] : -EIO;
		if (stub->fd >= 0 &&
			(stub->left > REPLY_MAX_LEN ||
				(got_op != op && !(got_op == OP_WATCH && stub->is_watching))))
			fail(stub, -EPROTO);
		if (got_op == OP_WATCH)
			stub->is_watching = 0;
		if (got_op == OP_WATCH && error == 0)
			stub->news = take_number(stub);
		if (got_op == OP_WATCH || error < 0)
			take(stub, NULL, stub->left);
	} while (stub->fd >= 0 && got_op != op);
	return stub->fd < 0 ? stub->error : error;
}

static int connect_socket(struct ccfg_stub *stub)
{
	struct sockaddr_un address;
	struct timeval wait;
	int r, left;

	memset(&address, 0, sizeof(address));
	address.sun_family = AF_UNIX;
	memcpy(address.sun_path, stub->path, strlen(stub->path));
	stub->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (stub->fd < 0)
		return -errno;
	do { /* Linux bounds by this time-out connect, too */
		left = left_ms(stub);
		wait.tv_sec = left / 1000;
		wait.tv_usec = left > 0 ? left % 1000 * 1000 : 1; /* all 0 is for ever */
		r = setsockopt(stub->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
		if (r == 0)
			r = connect(stub->fd, (const struct sockaddr *)&address, sizeof(address));
	} while (r < 0 && errno == EINTR && left > 0);
	if (r < 0 && errno == ENOENT) /* which means a key elsewhere */
		return -ECONNREFUSED;
	return r == 0 ? 0 : errno == EAGAIN ? -ETIMEDOUT : -errno;
}

/* HELLO and OPEN in one write. */
static int greet(struct ccfg_stub *stub)
{
	/* protocol 1 to 1, images 1; its NUL is the last byte */
	static const char hello[] = "\10\0\0\0\1\0\0\0\0\0\0\0\1\0\1\0\1\0\0";
	unsigned char reply[12] = { 0 };
	struct request request;
	int r, left = left_ms(stub);

	memcpy(request.bytes, hello, sizeof(hello));
	request.len = sizeof(hello);
	put_header(&request, OP_OPEN, 4 + strlen(stub->service));
	put(&request, (uint64_t)(left - left / 8), 4); /* answered before our own time-out */
	put_text(&request, stub->service);
	send_request(stub, &request);
	r = take_reply(stub, OP_HELLO);
	if (r < 0)
		return r;
	take(stub, reply, sizeof(reply));
	take(stub, NULL, stub->left); /* the version of the daemon */
	if (parse(reply, 2) != 1)
		return stub->fd < 0 ? stub->error : -EPROTO;
	r = take_reply(stub, OP_OPEN);
	take(stub, NULL, stub->left);
	return r;
}

/* Connects unless it is. Without data yet the connection stays. */
static int connected(struct ccfg_stub *stub)
{
	int r;

	if (stub->is_listing || stub->fd >= 0)
		return stub->is_listing ? -EDEADLK : 0;
	r = connect_socket(stub);
	if (r == 0)
		r = greet(stub);
	return r < 0 && r != -ENODATA ? fail(stub, r) : r;
}

/* Sends a lookup and reads as far as the payload of its reply; once more when a connection of
 * former calls turns out to be lost. */
static int look_up(
	struct ccfg_stub *stub, int op, uint64_t generation, uint64_t cursor, const char *text)
{
	size_t number_len = op == OP_LIST ? 8 : 0;
	struct request request;
	int r, is_old = stub->fd >= 0;

	if (strlen(text) > KEY_MAX_LEN)
		return -EINVAL;
	r = connected(stub);
	if (r < 0)
		return r;
	request.len = 0;
	put_header(&request, op, 2 * number_len + 1 + strlen(stub->service) + strlen(text));
	put(&request, generation, number_len);
	put(&request, cursor, number_len);
	put(&request, strlen(stub->service), 1);
	put_text(&request, stub->service);
	put_text(&request, text);
	send_request(stub, &request);
	r = take_reply(stub, op);
	return is_old && is_lost(r) ? look_up(stub, op, generation, cursor, text) : r;
}

int ccfg_stub_open(
	struct ccfg_stub *stub, const char *service, const char *socket_path, int timeout_ms)
{
	if (!socket_path)
		socket_path = "/run/consulcfgd/socket";
	memset(stub, 0, sizeof(*stub));
	stub->fd = -1;
	stub->timeout_ms = timeout_ms;
	stub->deadline = now_ms() + timeout_ms;
	if (strlen(service) >= sizeof(stub->service) || strlen(socket_path) >= sizeof(stub->path))
		return -EINVAL;
	memcpy(stub->service, service, strlen(service));
	memcpy(stub->path, socket_path, strlen(socket_path));
	return connected(stub);
}

ssize_t ccfg_stub_get(struct ccfg_stub *stub, const char *key, char *buf, size_t size)
{
	ssize_t len;

	stub->deadline = now_ms() + stub->timeout_ms;
	len = look_up(stub, OP_GET, 0, 0, key);
	if (len < 0)
		return len;
	take_number(stub); /* the generation */
	len = (ssize_t)stub->left;
	take_value(stub, buf, size, stub->left);
	return stub->fd < 0 ? stub->error : len;
}

int ccfg_stub_list(struct ccfg_stub *stub, const char *prefix, char *buf, size_t size,
	ccfg_stub_entry_fn *fn, void *userdata)
{
	int64_t deadline = now_ms() + stub->timeout_ms;
	uint64_t generation = 0, cursor = 0;
	char key[KEY_MAX_LEN + 1];
	int r;

	do {
		stub->deadline = deadline;
		r = look_up(stub, OP_LIST, generation, cursor, prefix);
		if (r < 0)
			return r;
		generation = take_number(stub);
		cursor = take_number(stub);
		while (stub->fd >= 0 && stub->left > 0) {
			unsigned char head[ENTRY_LEN] = { 0 };
			take(stub, head, sizeof(head));
			take_value(stub, key, sizeof(key), (size_t)parse(head + 20, 2));
			take_value(stub, buf, size, (size_t)parse(head + 16, 4));
			stub->is_listing = 1;
			r = stub->fd < 0 ? 0 : fn(key, buf, (size_t)parse(head + 16, 4), userdata);
			stub->is_listing = 0;
			stub->deadline = deadline; /* fn may have tried to look up */
			if (r != 0)
				return fail(stub, r); /* the rest of the page may be long */
		}
		if (stub->fd >= 0 && cursor != 0 && left_ms(stub) == 0)
			fail(stub, -ETIMEDOUT);
	} while (stub->fd >= 0 && cursor != 0);
	return stub->fd < 0 ? stub->error : 0;
}

static int wait_once(struct ccfg_stub *stub, uint64_t *generation)
{
	struct request request;
	int r;

	if (stub->is_watching && stub->watch_generation != *generation)
		fail(stub, -ECANCELED);
	r = connected(stub);
	if (r < 0 && r != -ENODATA)
		return r;
	if (!stub->is_watching && (stub->news == 0 || stub->news == *generation)) {
		request.len = 0;
		put_header(&request, OP_WATCH, 8 + strlen(stub->service));
		put(&request, *generation, 8);
		put_text(&request, stub->service);
		stub->watch_generation = *generation;
		stub->is_watching = 1;
		send_request(stub, &request);
	}
	/* A WATCH that is not answered in time stays, for the next wait. */
	r = stub->fd < 0 ? stub->error : 0;
	if (stub->is_watching && stub->in_start == stub->in_end)
		r = receive(stub);
	if (r == 0 && stub->is_watching)
		r = take_reply(stub, OP_WATCH);
	else if (r < 0 && r != -ETIMEDOUT)
		fail(stub, r);
	if (r == 0) {
		*generation = stub->news;
		stub->news = 0;
	}
	return r;
}

int ccfg_stub_wait(struct ccfg_stub *stub, uint64_t *generation, int timeout_ms)
{
	stub->deadline = now_ms() + timeout_ms;
	for (;;) {
		int r = wait_once(stub, generation);
		int left = left_ms(stub);
		if (!is_lost(r) || left == 0)
			return r;
		poll(NULL, 0, left < 100 ? left : 100);
	}
}

void ccfg_stub_close(struct ccfg_stub *stub)
{
	fail(stub, 0);
}
