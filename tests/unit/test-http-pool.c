/*
 * The HTTP client's requests: where they go, what they say, how they wait for a connection, and how
 * they are given up.
 */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "http-fixture.h"
#include "test.h"

static void no_connection_is_told_in_words(void **state)
{
	struct http_fixture *f = *state;
	struct http_asked asked;

	f->server.io = loop_io_free(f->server.io);
	close(f->server.fd);
	f->server.fd = -1;
	asked = http_fixture_ask_one(f, "/ok");
	assert_int_equal(asked.result.error, -ECONNREFUSED);
	assert_string_equal(asked.message, "connection refused");
	assert_int_equal(http_n_connections(f->http), 0);
}

static void bad_addresses_are_errors(void **state)
{
	static const char *const urls[] = { "ftp://127.0.0.1/", "file:///etc/passwd" };
	struct http_fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		struct http_asked asked = { .f = f };

		f->get.url = urls[i];
		f->get.done = http_fixture_on_done;
		f->get.body = http_fixture_on_body;
		f->get.userdata = &asked;
		assert_int_equal(http_get(f->http, &f->get, &asked.request), 0);
		http_fixture_run(f, 1);
		assert_true(asked.result.error < 0);
	}
}

static void a_request_says_what_it_should(void **state)
{
	struct http_fixture *f = *state;
	const char *request = f->server.last_request;

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
	f->get.token = "s3cret";
	assert_int_equal(http_fixture_ask_one(f, "/ok").result.error, 0);
	assert_non_null(strstr(request, "X-Consul-Token: s3cret\r\n"));
	assert_non_null(strstr(request, "User-Agent: consulcfgd/"));
	assert_null(strstr(request, "Accept-Encoding"));
	assert_null(strstr(request, "Authorization"));
	f->get.token = NULL;
	f->get.accept_gzip = true;
	f->get.auth = "user:pass";
	assert_int_equal(http_fixture_ask_one(f, "/ok").result.error, 0);
	assert_null(strstr(request, "X-Consul-Token"));
	assert_non_null(strstr(request, "Accept-Encoding: gzip\r\n"));
	assert_non_null(strstr(request, "Authorization: Basic dXNlcjpwYXNz\r\n"));
	unsetenv("http_proxy");
	unsetenv("ALL_PROXY");
}

static void paths_are_sent_as_they_are(void **state)
{
	struct http_fixture *f = *state;

	f->get.answer_usec = 50000;
	http_fixture_ask_one(f, "/v1/kv/../a%2f/./b");
	assert_string_equal(f->server.paths, "/v1/kv/../a%2f/./b");
}

static void connections_are_reused_and_counted(void **state)
{
	struct http_fixture *f = *state;

	assert_int_equal(http_n_connections(f->http), 0);
	http_fixture_ask_one(f, "/ok");
	http_fixture_ask_one(f, "/two");
	assert_int_equal(f->server.n_accepted, 1);
	assert_int_equal(http_n_connections(f->http), 1);
	assert_false(http_is_multiplexed(f->http));
}

static void requests_wait_their_turn(void **state)
{
	struct http_fixture *f = *state;
	struct http_asked a = { 0 }, b = { 0 }, c = { 0 };

	http_fixture_new_pool(f, 1);
	assert_int_equal(http_capacity(f->http), 1);
	f->get.answer_usec = 400000;
	http_fixture_ask(f, "/silent", &a);
	http_fixture_ask(f, "/ok", &b);
	http_fixture_ask(f, "/two", &c);
	http_fixture_run_for(f, 20000);
	assert_int_equal(http_n_requests(f->http), 3);
	assert_true(http_due_at(a.request) < UINT64_MAX);
	assert_true(http_due_at(b.request) == UINT64_MAX);
	/* The wait is no part of their time: the first takes all of its own. */
	http_fixture_run(f, 3);
	assert_int_equal(a.result.error, -ETIMEDOUT);
	assert_string_equal(b.body, "hello");
	assert_string_equal(c.body, "two");
	assert_string_equal(f->server.paths, "/silent/ok/two");
	assert_int_equal(http_n_requests(f->http), 0);
}

static void more_connections_start_what_waits(void **state)
{
	struct http_fixture *f = *state;
	struct http_asked a = { 0 }, b = { 0 };

	http_fixture_new_pool(f, 1);
	http_fixture_ask(f, "/silent", &a);
	http_fixture_ask(f, "/ok", &b);
	http_fixture_run_for(f, 20000);
	assert_int_equal(b.n_done, 0);
	http_set_max_connections(f->http, 2);
	http_fixture_run(f, 1);
	assert_string_equal(b.body, "hello");
	http_cancel(a.request);
}

static void a_cancelled_request_is_silent_and_frees_its_place(void **state)
{
	struct http_fixture *f = *state;
	struct http_asked a = { 0 }, b = { 0 }, c = { 0 };

	http_fixture_new_pool(f, 1);
	http_fixture_ask(f, "/silent", &a);
	http_fixture_ask(f, "/ok", &b);
	http_fixture_ask(f, "/two", &c);
	http_fixture_run_for(f, 20000);
	b.request = http_cancel(b.request); /* waiting */
	a.request = http_cancel(a.request); /* on the wire */
	http_fixture_run(f, 1);
	assert_int_equal(a.n_done + b.n_done, 0);
	assert_string_equal(c.body, "two");
	assert_null(http_cancel(NULL));
}

static void cancelling_works_from_callbacks(void **state)
{
	struct http_fixture *f = *state;
	struct http_asked a = { .in_body = true }, b = { .in_body = true }, c = { 0 }, d = { 0 };

	a.cancels = &a;
	http_fixture_ask(f, "/bomb", &a); /* itself, while there is more to come */
	http_fixture_run_for(f, 500000);
	assert_int_equal(a.n_done, 0);
	assert_int_equal(a.n_body, 1 << 16);
	assert_int_equal(http_n_requests(f->http), 0);
	b.cancels = &c;
	http_fixture_ask(f, "/silent", &c);
	http_fixture_run_for(f, 20000);
	http_fixture_ask(f, "/ok", &b); /* another one */
	http_fixture_run(f, 1);
	assert_int_equal(c.n_done, 0);
	d.cancels = &c;
	http_fixture_ask(f, "/silent", &c);
	http_fixture_run_for(f, 20000);
	http_fixture_ask(f, "/ok", &d); /* from done */
	http_fixture_run(f, 1);
	assert_int_equal(c.n_done, 0);
	assert_int_equal(http_n_requests(f->http), 0);
}

static void an_abandoned_request_keeps_its_place_to_the_end(void **state)
{
	struct http_fixture *f = *state;
	struct http_asked a = { 0 }, b = { 0 };

	http_fixture_new_pool(f, 1);
	f->get.answer_usec = 400000;
	http_fixture_ask(f, "/silent", &a);
	http_fixture_ask(f, "/ok", &b);
	http_fixture_run_for(f, 20000);
	a.request = http_abandon(a.request);
	http_fixture_run_for(f, 20000);
	assert_int_equal(http_n_requests(f->http), 2);
	http_fixture_run(f, 1);
	assert_int_equal(a.n_done, 0);
	assert_string_equal(b.body, "hello");
}

static void a_pool_may_go_with_requests_in_it(void **state)
{
	struct http_fixture *f = *state;
	struct http_asked a = { 0 }, b = { 0 };

	http_fixture_new_pool(f, 1);
	http_fixture_ask(f, "/silent", &a);
	http_fixture_ask(f, "/ok", &b);
	http_fixture_run_for(f, 20000);
	f->http = http_free(f->http);
	http_fixture_run_for(f, 20000);
	assert_int_equal(a.n_done + b.n_done, 0);
}

static void unix_sockets_are_addresses(void **state)
{
	struct http_fixture *f = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/test-http.XXXXXX";
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct http_asked asked = { 0 };

	assert_non_null(mkdtemp(folder));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", folder);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	f->server.io = loop_io_free(f->server.io);
	close(f->server.fd);
	fake_server_listen(&f->server, fd);
	f->get.unix_path = address.sun_path;
	f->get.url = "http://localhost/ok";
	http_fixture_ask(f, "", &asked);
	http_fixture_run(f, 1);
	assert_int_equal(asked.result.status, 200);
	unlink(address.sun_path);
	rmdir(folder);
}

#define CASE(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, http_fixture_set_up, http_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
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

	return cmocka_run_group_tests_name(
		"http-pool", tests, http_fixture_make_scripts, http_fixture_free_scripts);
}
