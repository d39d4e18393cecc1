#include "http-fixture.h"

#include <stdio.h>
#include <zlib.h>

#include "test.h"

#define OK_HEAD "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\n"

static void on_limit(void *userdata)
{
	struct http_fixture *f = userdata;

	f->is_late = true;
	loop_stop(f->loop);
}

static void on_tick(void *userdata)
{
	struct http_fixture *f = userdata;

	f->n_ticks++;
	loop_timer_arm(f->tick, 0);
}

void http_fixture_run(struct http_fixture *f, unsigned n_done)
{
	f->wanted = f->n_done + n_done;
	f->is_late = false;
	loop_timer_arm(f->limit, 5 * USEC_PER_SEC);
	assert_int_equal(loop_run(f->loop), 0);
	assert_false(f->is_late);
}

void http_fixture_run_for(struct http_fixture *f, uint64_t usec)
{
	f->wanted = UINT32_MAX;
	loop_timer_arm(f->limit, usec);
	assert_int_equal(loop_run(f->loop), 0);
}

int http_fixture_on_body(const void *data, size_t len, void *userdata)
{
	struct http_asked *asked = userdata;
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

void http_fixture_on_done(const struct http_result *result, void *userdata)
{
	struct http_asked *asked = userdata;
	struct http_fixture *f = asked->f;

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

void http_fixture_ask(struct http_fixture *f, const char *path, struct http_asked *asked)
{
	char url[256];

	snprintf(url, sizeof(url), "%s%s", f->server.url, path);
	asked->f = f;
	if (!f->get.url || !f->get.unix_path)
		f->get.url = url;
	f->get.body = http_fixture_on_body;
	f->get.done = http_fixture_on_done;
	f->get.userdata = asked;
	assert_int_equal(http_get(f->http, &f->get, &asked->request), 0);
	if (f->get.url == url)
		f->get.url = NULL;
}

struct http_asked http_fixture_ask_one(struct http_fixture *f, const char *path)
{
	struct http_asked *asked = calloc(1, sizeof(*asked)), copy;

	http_fixture_ask(f, path, asked);
	http_fixture_run(f, 1);
	copy = *asked;
	free(asked);
	return copy;
}

void http_fixture_new_pool(struct http_fixture *f, unsigned max_connections)
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

static struct fake_script scripts[] = {
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
	for (struct fake_script *script = scripts; script->path; script++)
		if (std_streq(script->path, path)) {
			script->answer = answer;
			script->len = len;
		}
}

int http_fixture_make_scripts(void **state)
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

int http_fixture_free_scripts(void **state)
{
	(void)state;
	free(bomb);
	return 0;
}

int http_fixture_set_up(void **state)
{
	struct http_fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(loop_timer_new(f->loop, on_limit, f, &f->limit), 0);
	assert_int_equal(loop_timer_new(f->loop, on_tick, f, &f->tick), 0);
	fake_server_start(&f->server, f->loop, scripts);
	http_fixture_new_pool(f, 4);
	f->get.answer_usec = f->get.body_usec = 3 * USEC_PER_SEC;
	f->get.max_bytes = 16 << 20;
	*state = f;
	return 0;
}

int http_fixture_tear_down(void **state)
{
	struct http_fixture *f = *state;

	http_free(f->http);
	fake_server_stop(&f->server);
	loop_timer_free(f->limit);
	loop_timer_free(f->tick);
	loop_free(f->loop);
	free(f);
	return 0;
}
