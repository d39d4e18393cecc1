/*
 * Every allocation that a client can cause fails once, and every one from some point on: the client
 * may be refused or lose its connection, the daemon goes on and loses nothing.
 *
 * Linked with --wrap for malloc, calloc and realloc.
 */
#include "session-fixture.h"

#include <sys/socket.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *ptr, size_t size);

static bool is_on; /* only while the daemon works, not the test */
static bool is_for_good;
static unsigned fail_at, n_calls;

static bool is_failing(void)
{
	if (!is_on)
		return false;
	n_calls++;
	return is_for_good ? n_calls >= fail_at : n_calls == fail_at;
}

void *__wrap_malloc(size_t size)
{
	return is_failing() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return is_failing() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *ptr, size_t size)
{
	return is_failing() ? NULL : __real_realloc(ptr, size);
}

static void work(struct fixture *f)
{
	is_on = true;
	fixture_turn(f, 3);
	is_on = false;
}

/* A client that is not surprised when its connection is gone. */
static void say(struct fixture *f, int fd, enum wire_op op, const struct wire_request *request)
{
	uint8_t buf[256];
	ssize_t n = wire_encode(op, 1, request, buf, sizeof(buf));

	assert_true(n > 0);
	(void)!send(fd, buf, (size_t)n, MSG_NOSIGNAL);
	work(f);
}

static void drain(struct fixture *f, int fd)
{
	static uint8_t buf[65536];

	for (unsigned i = 0; i < 100; i++) {
		while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
			continue;
		work(f);
	}
}

/* More than a share of values, while there is another user. */
static void ask_in_slices(struct fixture *f, int fd, const struct wire_request *request)
{
	struct wire_request large = *request;
	struct user *other;

	assert_int_equal(users_add_client(&f->server->users, FIXTURE_STRANGER, &other), 0);
	f->server->turn++;
	large.key = "\12\0key-000001\12\0key-000001";
	say(f, fd, WIRE_MGET, &large);
	drain(f, fd);
	user_remove_client(other);
}

static void talk(struct fixture *f, int fd)
{
	static const size_t sizes[] = { 100, 300000, 5000, 5000 };
	struct wire_request request = {
		.min_major = 1,
		.max_major = 1,
		.timeout_ms = 60000,
		.service = "billing",
		.service_len = 7,
	};

	say(f, fd, WIRE_HELLO, &request);
	say(f, fd, WIRE_OPEN, &request);
	say(f, fd, WIRE_WATCH, &request);
	if (fake_source_tree(&f->fake, "config/billing/"))
		fixture_apply_sizes(f, "config/billing/", sizes, ARRAY_SIZE(sizes), 'x');
	work(f);
	request.key = "\12\0key-000000\12\0key-000002";
	request.key_len = 24;
	say(f, fd, WIRE_MGET, &request);
	ask_in_slices(f, fd, &request);
	request.key_len = 0;
	say(f, fd, WIRE_LIST, &request);
	for (unsigned what = WIRE_STATUS_DAEMON; what <= WIRE_STATUS_SERVICE; what++) {
		request.what = (uint8_t)what;
		request.key = "billing";
		request.key_len = what == WIRE_STATUS_SERVICE ? 7 : 0;
		say(f, fd, WIRE_STATUS, &request);
	}
	/* The output is more than a socket takes, so that some of it is kept. */
	request.key = "key-000001";
	request.key_len = 10;
	say(f, fd, WIRE_GET, &request);
	request.key = "key-000002";
	for (unsigned i = 0; i < 20; i++)
		say(f, fd, WIRE_GET, &request);
	/* And half a request. */
	(void)!send(fd, "\4\0\0\0\3\0\0\0\0", 9, MSG_NOSIGNAL);
	drain(f, fd);
	say(f, fd, WIRE_CLOSE, &request);
}

static bool is_empty(void *userdata)
{
	struct fixture *f = userdata;

	return f->server->n_sessions == 0 && services_count(f->services) == 0;
}

/* The number of allocations that there were. */
static unsigned run(struct fixture *f)
{
	struct session *session;
	int ends[2];

	n_calls = 0;
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	is_on = true;
	if (session_new(f->server, ends[0], "", &session) < 0)
		close(ends[0]);
	is_on = false;
	talk(f, ends[1]);
	close(ends[1]);
	fixture_until(f, is_empty, f);
	return n_calls;
}

static void fail_each(struct fixture *f, bool for_good)
{
	unsigned n;

	is_for_good = for_good;
	fail_at = UINT32_MAX;
	n = run(f);
	assert_true(n > 20);
	for (fail_at = 1; fail_at <= n; fail_at++) {
		struct client *client;

		(void)run(f);
		client = client_new_with_hello(f);
		client_expect(client, client_status(client, WIRE_STATUS_DAEMON, ""), WIRE_OK);
		client_free(client);
	}
}

static void one_failing_allocation_is_survived(void **state)
{
	fail_each(*state, false);
}

static void failing_allocations_are_survived(void **state)
{
	fail_each(*state, true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_failing_allocation_is_survived),
		TEST(failing_allocations_are_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
