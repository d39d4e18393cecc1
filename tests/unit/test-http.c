/*
 * The HTTP client against a small server in the same loop. A path of the server is a script: what
 * it sends, and whether it closes or stays silent then.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <zlib.h>

#include "daemon/http.h"
#include "test.h"

#define MAX_PEERS 16
#define OK_HEAD "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\n"

struct script {
	const char *path;
	const void *answer; /* NULL: silence */
	size_t len; /* 0: a string */
	bool is_closed;
};

struct peer {
	struct server *server;
	int fd;
	struct loop_io *io;
	char request[8192];
	size_t n_request;
	const char *output;
	size_t n_output;
	bool is_closing;
};

struct server {
	struct loop *loop;
	int fd;
	struct loop_io *io;
	struct peer peers[MAX_PEERS];
	unsigned n_accepted, n_requests;
	char last_request[8192];
	char paths[256]; /* as they came */
	const struct script *scripts;
	char url[64];
};

static void peer_close(struct peer *peer)
{
	peer->io = loop_io_free(peer->io);
	if (peer->fd >= 0)
		close(peer->fd);
	peer->fd = -1;
}

static void peer_write(struct peer *peer)
{
	ssize_t n = 0;

	while (peer->n_output > 0 &&
		(n = send(peer->fd, peer->output, peer->n_output, MSG_NOSIGNAL)) > 0) {
		peer->output += n;
		peer->n_output -= (size_t)n;
	}
	if (peer->n_output == 0 && peer->is_closing) {
		peer_close(peer);
		return;
	}
	loop_io_want(peer->io, LOOP_READ | (peer->n_output > 0 ? LOOP_WRITE : 0));
}

static void peer_answer(struct peer *peer)
{
	struct server *server = peer->server;
	char path[64] = "";

	server->n_requests++;
	memcpy(server->last_request, peer->request, sizeof(peer->request));
	sscanf(peer->request, "GET %63s", path);
	strcat(server->paths, path);
	peer->n_request = 0;
	for (const struct script *script = server->scripts; script->path; script++) {
		if (!std_streq(script->path, path) || !script->answer)
			continue;
		peer->output = script->answer;
		peer->n_output = script->len > 0 ? script->len : strlen(script->answer);
		peer->is_closing = script->is_closed;
		peer_write(peer);
		return;
	}
}

static void on_peer(unsigned events, void *userdata)
{
	struct peer *peer = userdata;
	ssize_t n;

	if (events & LOOP_WRITE) {
		peer_write(peer);
		return;
	}
	n = read(peer->fd, peer->request + peer->n_request,
		sizeof(peer->request) - 1 - peer->n_request);
	if (n <= 0) {
		peer_close(peer);
		return;
	}
	peer->n_request += (size_t)n;
	peer->request[peer->n_request] = '\0';
	if (strstr(peer->request, "\r\n\r\n"))
		peer_answer(peer);
}

static void on_accept(unsigned events, void *userdata)
{
	struct server *server = userdata;
	int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	assert_true(fd >= 0);
	server->n_accepted++;
	for (unsigned i = 0; i < MAX_PEERS; i++) {
		struct peer *peer = &server->peers[i];

		if (peer->fd >= 0)
			continue;
		*peer = (struct peer){ .server = server, .fd = fd };
		assert_int_equal(loop_io_new(server->loop, fd, on_peer, peer, &peer->io), 0);
		assert_int_equal(loop_io_want(peer->io, LOOP_READ), 0);
		return;
	}
	fail_msg("too many connections");
}

static void server_listen(struct server *server, int fd)
{
	server->fd = fd;
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(loop_io_new(server->loop, fd, on_accept, server, &server->io), 0);
	assert_int_equal(loop_io_want(server->io, LOOP_READ), 0);
}

static void server_start(struct server *server, struct loop *loop, const struct script *scripts)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	server->loop = loop;
	server->scripts = scripts;
	for (unsigned i = 0; i < MAX_PEERS; i++)
		server->peers[i].fd = -1;
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%u", ntohs(address.sin_port));
	server_listen(server, fd);
}

static void server_stop(struct server *server)
{
	server->io = loop_io_free(server->io);
	close(server->fd);
	for (unsigned i = 0; i < MAX_PEERS; i++)
		peer_close(&server->peers[i]);
}

struct fixture;

struct asked { /* one request and what came of it */
	struct fixture *f;
	struct http_request *request;
	char body[64];
	size_t n_body;
	uint64_t sum;
	unsigned n_done;
	struct http_result result;
	char message[256];
	char error_body[128];
	int refuse;
	struct asked *cancels; /* from its body or done callback */
	bool in_body;
};

struct fixture {
	struct loop *loop;
	struct server server;
	struct http *http;
	struct loop_timer *limit, *tick;
	unsigned n_done, wanted, n_ticks;
	bool is_late;
	struct http_get get;
};

static void on_limit(void *userdata)
{
	struct fixture *f = userdata;

	f->is_late = true;
	loop_stop(f->loop);
}

static void on_tick(void *userdata)
{
	struct fixture *f = userdata;

	f->n_ticks++;
	loop_timer_arm(f->tick, 0);
}

static void run(struct fixture *f, unsigned n_done)
{
	f->wanted = f->n_done + n_done;
	f->is_late = false;
	loop_timer_arm(f->limit, 5 * USEC_PER_SEC);
	assert_int_equal(loop_run(f->loop), 0);
	assert_false(f->is_late);
}

static void run_for(struct fixture *f, uint64_t usec)
{
	f->wanted = UINT32_MAX;
	loop_timer_arm(f->limit, usec);
	assert_int_equal(loop_run(f->loop), 0);
}

static int on_body(const void *data, size_t len, void *userdata)
{
	struct asked *asked = userdata;
	size_t n = MIN(len, sizeof(asked->body) - 1 - MIN(asked->n_body, sizeof(asked->body) - 1));

	if (n > 0)
		memcpy(asked->body + asked->n_body, data, n);
	asked->n_body += len;
	for (size_t i = 0; i < len; i++)
		asked->sum = asked->sum * 31 + ((const uint8_t *)data)[i];
	if (asked->cancels && asked->in_body) {
		asked->cancels->request = http_cancel(asked->cancels->request);
		asked->cancels = NULL;
		loop_timer_arm(asked->f->limit, 20000);
	}
	return asked->refuse;
}

static void on_done(const struct http_result *result, void *userdata)
{
	struct asked *asked = userdata;
	struct fixture *f = asked->f;

	asked->request = NULL;
	asked->n_done++;
	asked->result = *result;
	snprintf(asked->message, sizeof(asked->message), "%s", result->message);
	snprintf(asked->error_body, sizeof(asked->error_body), "%.*s", (int)result->error_body_len,
		result->error_body);
	if (asked->cancels)
		asked->cancels->request = http_cancel(asked->cancels->request);
	if (++f->n_done == f->wanted)
		loop_stop(f->loop);
}

static void ask(struct fixture *f, const char *path, struct asked *asked)
{
	char url[256];

	snprintf(url, sizeof(url), "%s%s", f->server.url, path);
	asked->f = f;
	if (!f->get.url || !f->get.unix_path)
		f->get.url = url;
	f->get.body = on_body;
	f->get.done = on_done;
	f->get.userdata = asked;
	assert_int_equal(http_get(f->http, &f->get, &asked->request), 0);
	if (f->get.url == url)
		f->get.url = NULL;
}

static struct asked ask_one(struct fixture *f, const char *path)
{
	struct asked *asked = calloc(1, sizeof(*asked)), copy;

	ask(f, path, asked);
	run(f, 1);
	copy = *asked;
	free(asked);
	return copy;
}

static void new_pool(struct fixture *f, unsigned max_connections)
{
	const struct http_settings settings = { .verify = true,
		.max_connections = max_connections };

	http_free(f->http);
	assert_int_equal(http_new(f->loop, &settings, &f->http), 0);
}

static uint8_t *bomb; /* 8 MiB of 'x', gzipped, with a head before it */
static size_t bomb_len;
static uint8_t small_gzip[256], cut_gzip[256], bad_gzip[256], trailed_gzip[256];
static size_t small_gzip_len, cut_gzip_len, bad_gzip_len, trailed_gzip_len;

static struct script scripts[] = {
	{ .path = "/ok", .answer = OK_HEAD "Content-Length: 5\r\n\r\nhello" },
	{ .path = "/two", .answer = OK_HEAD "Content-Length: 3\r\n\r\ntwo" },
	{ .path = "/chunked",
		.answer = OK_HEAD "Transfer-Encoding: chunked\r\n\r\n"
				  "3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Consul-Index: 9\r\n\r\n" },
	{ .path = "/until-closed", .answer = OK_HEAD "\r\nhello", .is_closed = true },
	{ .path = "/early",
		.answer = "HTTP/1.1 103 Early Hints\r\nX-Consul-Index: 3\r\n\r\n" OK_HEAD
			  "Content-Length: 0\r\n\r\n" },
	{ .path = "/absent",
		.answer = "HTTP/1.1 404 Not Found\r\nX-Consul-Index: 12\r\nContent-Length: "
			  "0\r\n\r\n" },
	{ .path = "/no-leader",
		.answer = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 17\r\n\r\n"
			  "No cluster leader" },
	{ .path = "/no-index", .answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" },
	{ .path = "/garbage-index",
		.answer = "HTTP/1.1 200 OK\r\nX-Consul-Index: 7x\r\nContent-Length: 0\r\n\r\n" },
	{ .path = "/negative-index",
		.answer = "HTTP/1.1 200 OK\r\nX-Consul-Index: -7\r\nContent-Length: 0\r\n\r\n" },
	{ .path = "/empty-index",
		.answer = "HTTP/1.1 200 OK\r\nX-Consul-Index:\r\nContent-Length: 0\r\n\r\n" },
	{ .path = "/huge-index",
		.answer = "HTTP/1.1 200 OK\r\nx-consul-index:  18446744073709551615 "
			  "\r\nContent-Length: 0\r\n\r\n" },
	{ .path = "/too-huge-index",
		.answer = "HTTP/1.1 200 OK\r\nX-Consul-Index: 18446744073709551616\r\n"
			  "Content-Length: 0\r\n\r\n" },
	{ .path = "/two-indexes",
		.answer = OK_HEAD "X-Consul-Index: 8\r\nContent-Length: 0\r\n\r\n" },
	{ .path = "/same-index-twice",
		.answer = OK_HEAD "X-Consul-Index: 7\r\nContent-Length: 0\r\n\r\n" },
	{ .path = "/redirect",
		.answer = "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n" },
	{ .path = "/cut", .answer = OK_HEAD "Content-Length: 50\r\n\r\nhello", .is_closed = true },
	{ .path = "/cut-chunk",
		.answer = OK_HEAD "Transfer-Encoding: chunked\r\n\r\n50\r\nhello",
		.is_closed = true },
	{ .path = "/nothing", .answer = "", .is_closed = true },
	{ .path = "/no-http", .answer = "220 mail ESMTP\r\n", .is_closed = true },
	{ .path = "/silent" },
	{ .path = "/silent-body", .answer = OK_HEAD "Content-Length: 50\r\n\r\nhello" },
	{ .path = "/brotli",
		.answer = OK_HEAD "Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx" },
	{ .path = "/twice-gzip",
		.answer = OK_HEAD "Content-Encoding: gzip, gzip\r\nContent-Length: 1\r\n\r\nx" },
	{ .path = "/gzip-twice",
		.answer = OK_HEAD "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n"
				  "Content-Length: 1\r\n\r\nx" },
	{ .path = "/transfer-gzip",
		.answer = OK_HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" },
	{ .path = "/bomb" },
	{ .path = "/gzip" },
	{ .path = "/gzip-cut" },
	{ .path = "/gzip-bad" },
	{ .path = "/gzip-trailed" },
	{ .path = NULL },
};

static size_t make_gzip(const void *data, size_t len, uint8_t *buf, size_t size)
{
	z_stream stream = { 0 };

	assert_int_equal(
		deflateInit2(&stream, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	stream.next_in = (z_const Bytef *)(uintptr_t)data;
	stream.avail_in = (uInt)len;
	stream.next_out = buf;
	stream.avail_out = (uInt)size;
	assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
	len = size - stream.avail_out;
	deflateEnd(&stream);
	return len;
}

static size_t make_answer(uint8_t *buf, size_t size, const uint8_t *body, size_t len)
{
	int n = snprintf((char *)buf, size,
		OK_HEAD "Content-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n", len);

	memcpy(buf + n, body, len);
	return (size_t)n + len;
}

static void set_script(const char *path, const void *answer, size_t len)
{
	for (struct script *script = scripts; script->path; script++)
		if (std_streq(script->path, path)) {
			script->answer = answer;
			script->len = len;
		}
}

static int make_scripts(void **state)
{
	size_t plain_len = 8 << 20, len;
	char *plain = malloc(plain_len);
	uint8_t *gzip = malloc(plain_len);

	(void)state;
	memset(plain, 'x', plain_len);
	len = make_gzip(plain, plain_len, gzip, plain_len);
	bomb = malloc(len + 200);
	bomb_len = make_answer(bomb, len + 200, gzip, len);
	set_script("/bomb", bomb, bomb_len);
	len = make_gzip("hello", 5, gzip, plain_len);
	small_gzip_len = make_answer(small_gzip, sizeof(small_gzip), gzip, len);
	set_script("/gzip", small_gzip, small_gzip_len);
	cut_gzip_len = make_answer(cut_gzip, sizeof(cut_gzip), gzip, len - 4);
	set_script("/gzip-cut", cut_gzip, cut_gzip_len);
	memcpy(gzip + len, "more", 4);
	trailed_gzip_len = make_answer(trailed_gzip, sizeof(trailed_gzip), gzip, len + 4);
	set_script("/gzip-trailed", trailed_gzip, trailed_gzip_len);
	gzip[len - 6] ^= 0x55; /* the checksum */
	bad_gzip_len = make_answer(bad_gzip, sizeof(bad_gzip), gzip, len);
	set_script("/gzip-bad", bad_gzip, bad_gzip_len);
	free(plain);
	free(gzip);
	return 0;
}

static int free_scripts(void **state)
{
	(void)state;
	free(bomb);
	return 0;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(loop_timer_new(f->loop, on_limit, f, &f->limit), 0);
	assert_int_equal(loop_timer_new(f->loop, on_tick, f, &f->tick), 0);
	server_start(&f->server, f->loop, scripts);
	new_pool(f, 4);
	f->get.answer_usec = f->get.body_usec = 3 * USEC_PER_SEC;
	f->get.max_bytes = 16 << 20;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	http_free(f->http);
	server_stop(&f->server);
	loop_timer_free(f->limit);
	loop_timer_free(f->tick);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void an_answer_comes_with_its_status_index_and_body(void **state)
{
	static const char *const paths[] = { "/ok", "/chunked", "/until-closed" };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct asked asked = ask_one(f, paths[i]);

		assert_int_equal(asked.result.error, 0);
		assert_int_equal(asked.result.status, 200);
		assert_true(asked.result.has_index);
		assert_true(asked.result.is_index_valid);
		assert_int_equal(asked.result.index, 7);
		assert_int_equal(asked.result.n_bytes, 5);
		assert_true(asked.result.answered_usec > 0);
		assert_string_equal(asked.body, "hello");
	}
}

static void an_early_head_is_not_the_answer(void **state)
{
	struct asked asked = ask_one(*state, "/early");

	assert_int_equal(asked.result.status, 200);
	assert_int_equal(asked.result.index, 7);
}

static void the_body_of_a_failure_is_kept_apart(void **state)
{
	struct asked asked = ask_one(*state, "/no-leader");

	assert_int_equal(asked.result.error, 0);
	assert_int_equal(asked.result.status, 500);
	assert_false(asked.result.has_index);
	assert_int_equal(asked.n_body, 0);
	assert_string_equal(asked.error_body, "No cluster leader");
	asked = ask_one(*state, "/absent");
	assert_int_equal(asked.result.status, 404);
	assert_true(asked.result.is_index_valid);
	assert_int_equal(asked.result.index, 12);
}

static void the_index_is_a_number_or_not_valid(void **state)
{
	static const struct {
		const char *path;
		bool has, is_valid;
		uint64_t index;
	} cases[] = {
		{ "/no-index", false, false, 0 },
		{ "/garbage-index", true, false, 0 },
		{ "/negative-index", true, false, 0 },
		{ "/empty-index", true, false, 0 },
		{ "/huge-index", true, true, UINT64_MAX },
		{ "/too-huge-index", true, false, 0 },
		{ "/two-indexes", true, false, 0 },
		{ "/same-index-twice", true, true, 7 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct asked asked = ask_one(*state, cases[i].path);

		assert_int_equal(asked.result.has_index, cases[i].has);
		assert_int_equal(asked.result.is_index_valid, cases[i].is_valid);
		if (cases[i].is_valid)
			assert_int_equal(asked.result.index, cases[i].index);
	}
}

static void redirects_are_not_followed(void **state)
{
	struct fixture *f = *state;
	struct asked asked = ask_one(f, "/redirect");

	assert_int_equal(asked.result.status, 302);
	assert_int_equal(f->server.n_requests, 1);
}

static void broken_answers_are_errors(void **state)
{
	static const struct {
		const char *path;
		int error;
	} cases[] = {
		{ "/cut", -EBADMSG },
		{ "/cut-chunk", -EBADMSG },
		{ "/nothing", -ECONNRESET },
		{ "/no-http", -EBADMSG },
		{ "/brotli", -EBADMSG },
		{ "/twice-gzip", -EBADMSG },
		{ "/gzip-twice", -EBADMSG },
		{ "/transfer-gzip", -EBADMSG },
		{ "/gzip-cut", -EBADMSG },
		{ "/gzip-bad", -EBADMSG },
		{ "/gzip-trailed", -EBADMSG },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct asked asked = ask_one(*state, cases[i].path);

		if (asked.result.error != cases[i].error)
			fail_msg("%s: %d (%s)", cases[i].path, asked.result.error, asked.message);
		assert_true(asked.message[0] != '\0');
	}
}

static void gzip_is_inflated_in_turns(void **state)
{
	struct fixture *f = *state;
	struct asked asked = ask_one(f, "/gzip");

	assert_int_equal(asked.result.error, 0);
	assert_string_equal(asked.body, "hello");
	loop_timer_arm(f->tick, 0);
	asked = ask_one(f, "/bomb");
	assert_int_equal(asked.result.error, 0);
	assert_int_equal(asked.result.n_bytes, 8 << 20);
	assert_int_equal(asked.n_body, 8 << 20);
	f->n_ticks = 0;
	asked = ask_one(f, "/bomb");
	/* 8 kB of input, one read: still the loop had its turns in between. */
	assert_true(f->n_ticks >= 7);
	for (uint64_t i = 0, sum = 0; i <= 8 << 20; i++) {
		if (i == 8 << 20)
			assert_int_equal(asked.sum, sum);
		sum = sum * 31 + 'x';
	}
}

static void decoded_bytes_are_limited(void **state)
{
	struct fixture *f = *state;
	struct asked asked;

	f->get.max_bytes = 5;
	assert_int_equal(ask_one(f, "/ok").result.error, 0);
	assert_int_equal(ask_one(f, "/gzip").result.error, 0);
	f->get.max_bytes = 4;
	assert_int_equal(ask_one(f, "/ok").result.error, -EFBIG);
	assert_int_equal(ask_one(f, "/gzip").result.error, -EFBIG);
	f->get.max_bytes = 3 << 20;
	asked = ask_one(f, "/bomb");
	assert_int_equal(asked.result.error, -EFBIG);
	assert_true(asked.n_body <= 3 << 20);
}

static void what_the_reader_refuses_ends_with_its_error(void **state)
{
	struct fixture *f = *state;
	struct asked asked = { .refuse = -ENOTSUP };

	ask(f, "/ok", &asked);
	run(f, 1);
	assert_int_equal(asked.result.error, -ENOTSUP);
}

static void deadlines_are_kept(void **state)
{
	struct fixture *f = *state;
	struct asked asked;
	uint64_t begin = loop_now();

	f->get.answer_usec = 50000;
	asked = ask_one(f, "/silent");
	assert_int_equal(asked.result.error, -ETIMEDOUT);
	assert_string_equal(asked.message, "no answer in time");
	assert_true(loop_now() - begin >= 50000);
	f->get.body_usec = 60000;
	asked = ask_one(f, "/silent-body");
	assert_int_equal(asked.result.error, -ETIMEDOUT);
	assert_string_equal(asked.message, "the answer did not end in time");
}

static void no_connection_is_told_in_words(void **state)
{
	struct fixture *f = *state;
	struct asked asked;

	f->server.io = loop_io_free(f->server.io);
	close(f->server.fd);
	f->server.fd = -1;
	asked = ask_one(f, "/ok");
	assert_int_equal(asked.result.error, -ECONNREFUSED);
	assert_string_equal(asked.message, "connection refused");
	assert_int_equal(http_n_connections(f->http), 0);
}

static void bad_addresses_are_errors(void **state)
{
	static const char *const urls[] = { "ftp://127.0.0.1/", "file:///etc/passwd" };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		struct asked asked = { .f = f };

		f->get.url = urls[i];
		f->get.done = on_done;
		f->get.body = on_body;
		f->get.userdata = &asked;
		assert_int_equal(http_get(f->http, &f->get, &asked.request), 0);
		run(f, 1);
		assert_true(asked.result.error < 0);
	}
}

static void a_request_says_what_it_should(void **state)
{
	struct fixture *f = *state;
	const char *request = f->server.last_request;

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
	f->get.token = "s3cret";
	assert_int_equal(ask_one(f, "/ok").result.error, 0);
	assert_non_null(strstr(request, "X-Consul-Token: s3cret\r\n"));
	assert_non_null(strstr(request, "User-Agent: consulcfgd/"));
	assert_null(strstr(request, "Accept-Encoding"));
	assert_null(strstr(request, "Authorization"));
	f->get.token = NULL;
	f->get.accept_gzip = true;
	f->get.auth = "user:pass";
	assert_int_equal(ask_one(f, "/ok").result.error, 0);
	assert_null(strstr(request, "X-Consul-Token"));
	assert_non_null(strstr(request, "Accept-Encoding: gzip\r\n"));
	assert_non_null(strstr(request, "Authorization: Basic dXNlcjpwYXNz\r\n"));
	unsetenv("http_proxy");
	unsetenv("ALL_PROXY");
}

static void paths_are_sent_as_they_are(void **state)
{
	struct fixture *f = *state;

	f->get.answer_usec = 50000;
	ask_one(f, "/v1/kv/../a%2f/./b");
	assert_string_equal(f->server.paths, "/v1/kv/../a%2f/./b");
}

static void connections_are_reused_and_counted(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(http_n_connections(f->http), 0);
	ask_one(f, "/ok");
	ask_one(f, "/two");
	assert_int_equal(f->server.n_accepted, 1);
	assert_int_equal(http_n_connections(f->http), 1);
	assert_false(http_is_multiplexed(f->http));
}

static void requests_wait_their_turn(void **state)
{
	struct fixture *f = *state;
	struct asked a = { 0 }, b = { 0 }, c = { 0 };

	new_pool(f, 1);
	assert_int_equal(http_capacity(f->http), 1);
	f->get.answer_usec = 400000;
	ask(f, "/silent", &a);
	ask(f, "/ok", &b);
	ask(f, "/two", &c);
	run_for(f, 20000);
	assert_int_equal(http_n_requests(f->http), 3);
	assert_true(http_due_at(a.request) < UINT64_MAX);
	assert_true(http_due_at(b.request) == UINT64_MAX);
	/* The wait is no part of their time: the first takes all of its own. */
	run(f, 3);
	assert_int_equal(a.result.error, -ETIMEDOUT);
	assert_string_equal(b.body, "hello");
	assert_string_equal(c.body, "two");
	assert_string_equal(f->server.paths, "/silent/ok/two");
	assert_int_equal(http_n_requests(f->http), 0);
}

static void more_connections_start_what_waits(void **state)
{
	struct fixture *f = *state;
	struct asked a = { 0 }, b = { 0 };

	new_pool(f, 1);
	ask(f, "/silent", &a);
	ask(f, "/ok", &b);
	run_for(f, 20000);
	assert_int_equal(b.n_done, 0);
	http_set_max_connections(f->http, 2);
	run(f, 1);
	assert_string_equal(b.body, "hello");
	http_cancel(a.request);
}

static void a_cancelled_request_is_silent_and_frees_its_place(void **state)
{
	struct fixture *f = *state;
	struct asked a = { 0 }, b = { 0 }, c = { 0 };

	new_pool(f, 1);
	ask(f, "/silent", &a);
	ask(f, "/ok", &b);
	ask(f, "/two", &c);
	run_for(f, 20000);
	b.request = http_cancel(b.request); /* waiting */
	a.request = http_cancel(a.request); /* on the wire */
	run(f, 1);
	assert_int_equal(a.n_done + b.n_done, 0);
	assert_string_equal(c.body, "two");
	assert_null(http_cancel(NULL));
}

static void cancelling_works_from_callbacks(void **state)
{
	struct fixture *f = *state;
	struct asked a = { .in_body = true }, b = { .in_body = true }, c = { 0 }, d = { 0 };

	a.cancels = &a;
	ask(f, "/bomb", &a); /* itself, while there is more to come */
	run_for(f, 500000);
	assert_int_equal(a.n_done, 0);
	assert_int_equal(a.n_body, 1 << 16);
	assert_int_equal(http_n_requests(f->http), 0);
	b.cancels = &c;
	ask(f, "/silent", &c);
	run_for(f, 20000);
	ask(f, "/ok", &b); /* another one */
	run(f, 1);
	assert_int_equal(c.n_done, 0);
	d.cancels = &c;
	ask(f, "/silent", &c);
	run_for(f, 20000);
	ask(f, "/ok", &d); /* from done */
	run(f, 1);
	assert_int_equal(c.n_done, 0);
	assert_int_equal(http_n_requests(f->http), 0);
}

static void an_abandoned_request_keeps_its_place_to_the_end(void **state)
{
	struct fixture *f = *state;
	struct asked a = { 0 }, b = { 0 };

	new_pool(f, 1);
	f->get.answer_usec = 400000;
	ask(f, "/silent", &a);
	ask(f, "/ok", &b);
	run_for(f, 20000);
	a.request = http_abandon(a.request);
	run_for(f, 20000);
	assert_int_equal(http_n_requests(f->http), 2);
	run(f, 1);
	assert_int_equal(a.n_done, 0);
	assert_string_equal(b.body, "hello");
}

static void a_pool_may_go_with_requests_in_it(void **state)
{
	struct fixture *f = *state;
	struct asked a = { 0 }, b = { 0 };

	new_pool(f, 1);
	ask(f, "/silent", &a);
	ask(f, "/ok", &b);
	run_for(f, 20000);
	f->http = http_free(f->http);
	run_for(f, 20000);
	assert_int_equal(a.n_done + b.n_done, 0);
}

static void unix_sockets_are_addresses(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/test-http.XXXXXX";
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct asked asked = { 0 };

	assert_non_null(mkdtemp(folder));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", folder);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	f->server.io = loop_io_free(f->server.io);
	close(f->server.fd);
	server_listen(&f->server, fd);
	f->get.unix_path = address.sun_path;
	f->get.url = "http://localhost/ok";
	ask(f, "", &asked);
	run(f, 1);
	assert_int_equal(asked.result.status, 200);
	unlink(address.sun_path);
	rmdir(folder);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(an_answer_comes_with_its_status_index_and_body),
		CASE(an_early_head_is_not_the_answer),
		CASE(the_body_of_a_failure_is_kept_apart),
		CASE(the_index_is_a_number_or_not_valid),
		CASE(redirects_are_not_followed),
		CASE(broken_answers_are_errors),
		CASE(gzip_is_inflated_in_turns),
		CASE(decoded_bytes_are_limited),
		CASE(what_the_reader_refuses_ends_with_its_error),
		CASE(deadlines_are_kept),
		CASE(no_connection_is_told_in_words),
		CASE(bad_addresses_are_errors),
		CASE(a_request_says_what_it_should),
		CASE(paths_are_sent_as_they_are),
		CASE(connections_are_reused_and_counted),
		CASE(requests_wait_their_turn),
		CASE(more_connections_start_what_waits),
		CASE(a_cancelled_request_is_silent_and_frees_its_place),
		CASE(cancelling_works_from_callbacks),
		CASE(an_abandoned_request_keeps_its_place_to_the_end),
		CASE(a_pool_may_go_with_requests_in_it),
		CASE(unix_sockets_are_addresses),
	};

	return cmocka_run_group_tests_name("http", tests, make_scripts, free_scripts);
}
