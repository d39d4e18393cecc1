#include "session-fixture.h"

#include <dirent.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static void open_service(struct client *client, const char *service, const char *prefix)
{
	uint32_t tag = client_open(client, service, 5000);

	fixture_turn(client->f, 2);
	fake_source_apply(&client->f->fake, prefix, "k=v", NULL);
	client_expect_info(client, tag);
}

/* A service with the key "key-000000" and a value of that size. */
static void open_sized(struct client *client, size_t size)
{
	uint32_t tag = client_open(client, "billing", 5000);

	fixture_turn(client->f, 2);
	fixture_apply_sizes(client->f, "config/billing/", &size, 1, 'x');
	client_expect_info(client, tag);
}

static bool is_gone(void *userdata)
{
	struct client *client = userdata;

	return client->f->server->n_sessions == 0;
}

/* Sends a file of the corpus behind a HELLO, then the end: an answer or none, and always the end.
 */
static void send_file(struct fixture *f, const char *path)
{
	static uint8_t data[sizeof(struct wire_header) + LIMIT_FRAME];
	struct client *client = client_new_with_hello(f);
	FILE *file = fopen(path, "re");
	size_t n;

	assert_non_null(file);
	n = fread(data, 1, sizeof(data), file);
	fclose(file);
	client_send(client, data, n);
	fixture_turn(f, 3);
	shutdown(client->fd, SHUT_WR);
	fixture_until(f, is_gone, client);
	client_free(client);
}

static void every_frame_of_the_corpus_is_survived(void **state)
{
	char folder[512], path[1024];
	struct dirent *entry;
	unsigned n = 0;
	DIR *dir;

	snprintf(folder, sizeof(folder), "%s/wire", getenv("CORPUS") ?: "tests/corpus");
	dir = opendir(folder);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (!strstr(entry->d_name, ".bin"))
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		send_file(*state, path);
		n++;
	}
	closedir(dir);
	assert_true(n >= 40);
}

static void a_frame_beyond_the_limit_ends_the_connection(void **state)
{
	struct client *client = client_new_with_hello(*state);
	struct wire_header header = wire_header_of(LIMIT_FRAME + 1, WIRE_GET, 0, 42);

	client_send(client, &header, sizeof(header));
	client_expect(client, 42, WIRE_BAD_REQUEST);
	client_expect_end(client);
	client_free(client);
}

static void what_follows_a_malformed_request_is_not_handled(void **state)
{
	struct client *client = client_new_with_hello(*state);
	struct wire_header header = wire_header_of(0, WIRE_GET, 0, 42);
	uint32_t tag;

	open_service(client, "billing", "config/billing/");
	tag = client_get(client, "billing", "k");
	client_send(client, &header, sizeof(header));
	client_get(client, "billing", "k");
	client_expect_value(client, tag, "v");
	client_expect(client, 42, WIRE_BAD_REQUEST);
	client_expect_end(client);
	client_free(client);
}

/* Good headers with random payloads, so that they get past the first check. */
static void random_requests_are_survived(void **state)
{
	struct fixture *f = *state;
	unsigned seed = 1;

	for (unsigned round = 0; round < 300; round++) {
		struct client *client = client_new_with_hello(f);
		uint8_t payload[64];

		for (unsigned i = 0; i < 20; i++) {
			size_t len = (size_t)rand_r(&seed) % sizeof(payload);
			unsigned op = WIRE_OPEN + (unsigned)rand_r(&seed) % 8;
			struct wire_header header = wire_header_of(len, op, 0, i);

			for (size_t j = 0; j < len; j++)
				payload[j] = rand_r(&seed) % 4 ? (uint8_t)('a' + j % 3)
							       : (uint8_t)rand_r(&seed);
			if (send(client->fd, &header, sizeof(header), MSG_NOSIGNAL) < 0 ||
				send(client->fd, payload, len, MSG_NOSIGNAL) < 0)
				break;
		}
		fixture_turn(f, 2);
		client_free(client);
		fixture_until(f, is_gone, &(struct client){ .f = f });
	}
}

static bool output_is_full(void *userdata)
{
	struct client *client = userdata;

	return client->session->output.len >= LIMIT_OUTPUT;
}

/* A client that asks and never reads is not read from; others go on, and it loses nothing. */
static void a_client_that_does_not_read_is_not_read_from(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f), *other = client_new_with_hello(f);
	uint32_t first, n = 0;
	struct wire_request request = {
		.service = "billing", .service_len = 7, .key = "key-000000", .key_len = 10
	};
	uint8_t buf[128];
	ssize_t len;

	open_sized(client, LIMIT_INLINE_VALUE);
	first = client->last_tag + 1;
	do {
		len = wire_encode(WIRE_GET, first + n++, &request, buf, sizeof(buf));
		len = send(client->fd, buf, (size_t)len, MSG_NOSIGNAL);
		fixture_turn(f, 1);
	} while (len > 0);
	n--;
	fixture_until(f, output_is_full, client);
	assert_true(client->session->output.len < LIMIT_OUTPUT + 2 * LIMIT_INLINE_VALUE);
	assert_int_equal(client->session->wanted, LOOP_WRITE);
	for (unsigned i = 0; i < 100; i++)
		client_expect(other, client_get(other, "billing", "key-000000"), WIRE_OK);
	for (uint32_t i = 0; i < n; i++)
		client_expect(client, first + i, WIRE_OK);
	assert_null(client->session->output.data);
	assert_int_equal(client->session->user->n_buffered, 0);
	client_free(client);
	client_free(other);
}

static void a_client_that_never_reads_is_ended_in_time(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);

	f->server->stalls.delay_usec = 30000;
	open_sized(client, 4 << 20);
	client_get(client, "billing", "key-000000");
	fixture_until(f, is_gone, client);
	client_free(client);
}

static void a_client_that_says_no_hello_is_ended_in_time(void **state)
{
	struct fixture *f = *state;
	struct client *client, *slow;

	f->server->hellos.delay_usec = 30000;
	client = client_new(f);
	slow = client_new(f);
	client_send(slow, "\x08", 1);
	client_expect_end(client);
	client_expect_end(slow);
	client_free(client);
	client_free(slow);
}

static void half_a_request_is_ended_in_time(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	uint64_t begin;

	f->server->requests.delay_usec = 50000;
	open_service(client, "billing", "config/billing/");
	begin = loop_now();
	/* A byte now and then does not buy more time. */
	for (unsigned i = 0; i < 1000 && f->server->n_sessions > 0; i++) {
		uint64_t next = loop_now() + 5000;

		(void)send(client->fd, i == 4 ? "\4" : "", 1, MSG_NOSIGNAL);
		while (loop_now() < next)
			fixture_turn(f, 1);
	}
	assert_int_equal(f->server->n_sessions, 0);
	assert_true(loop_now() - begin < 2000000);
	client_free(client);
}

static void who_may_not_read_is_told_whom_to_ask(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);

	client->session->peer = (struct access_peer){ .uid = FIXTURE_STRANGER };
	client_expect_text(client, client_open(client, "secret-a", 0), WIRE_DENIED,
		"user 12345 may not read secret-a; ask for access= in consulcfgd.conf");
	client_expect(client, client_get(client, "secret-a", "k"), WIRE_DENIED);
	client_expect(client, client_list(client, "secret-a", "", 0, 0), WIRE_DENIED);
	client_expect(client, client_watch(client, "secret-a", 0), WIRE_DENIED);
	client_expect(client, client_status(client, WIRE_STATUS_SERVICE, "secret-a"), WIRE_DENIED);
	assert_null(services_find(f->services, "secret-a", 8));
	client_free(client);
}

static void a_reload_takes_rights_away(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	struct config config = f->config;
	struct access_subject anyone = { .kind = ACCESS_ANYONE };
	uint32_t watch, open;

	client->session->peer = (struct access_peer){ .uid = FIXTURE_STRANGER };
	f->rules[1].access_subjects = &anyone;
	open_service(client, "secret-a", "secret/");
	watch = client_watch(
		client, "secret-a", services_find(f->services, "secret-a", 8)->generation);
	client_expect_value(client, client_get(client, "secret-a", "k"), "v");
	f->rules[1].access_subjects = &f->nobody;
	open = client_open(client, "secret-a", 0);
	client_expect_info(client, open); /* for a moment, the decision holds */
	server_configure(f->server, &config);
	client_expect(client, client_get(client, "secret-a", "k"), WIRE_DENIED);
	fake_source_apply(&f->fake, "secret/", "k=w", NULL);
	client_expect(client, watch, WIRE_DENIED);
	server_configure(f->server, &f->config);
	client_free(client);
}

static void decisions_are_taken_anew_before_long(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	struct access_subject anyone = { .kind = ACCESS_ANYONE };
	uint64_t until;
	unsigned status;

	client->session->peer = (struct access_peer){ .uid = FIXTURE_STRANGER };
	f->rules[1].access_subjects = &anyone;
	open_service(client, "secret-a", "secret/");
	f->rules[1].access_subjects = &f->nobody;
	until = loop_now() + 3 * LIMIT_DECISION_USEC;
	do {
		client_get(client, "secret-a", "k");
		status = client_frame(client).status;
	} while (status == WIRE_OK && loop_now() < until);
	assert_int_equal(status, WIRE_DENIED);
	client_free(client);
}

static void a_connection_keeps_so_many_services(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	char name[32];

	open_service(client, "shared-first", "shared/");
	for (unsigned i = 1; i <= LIMIT_SESSION_SERVICES; i++) {
		snprintf(name, sizeof(name), "shared-%u", i);
		client_expect(client, client_open(client, name, 5000),
			i < LIMIT_SESSION_SERVICES ? WIRE_OK : WIRE_LIMIT);
	}
	/* All are found, and closing one makes room. */
	for (unsigned i = 1; i < LIMIT_SESSION_SERVICES; i++) {
		snprintf(name, sizeof(name), "shared-%u", i);
		client_expect_value(client, client_get(client, name, "k"), "v");
	}
	client_expect(client, client_close(client, "shared-7"), WIRE_OK);
	client_expect(client, client_open(client, "shared-more", 5000), WIRE_OK);
	client_expect(client, client_open(client, "shared-7", 5000), WIRE_LIMIT);
	client_free(client);
}

static void a_connection_waits_for_so_many_requests(void **state)
{
	struct client *client = client_new_with_hello(*state);
	uint32_t first = client->last_tag + 1;

	for (unsigned i = 0; i < LIMIT_PENDING_REQUESTS; i++)
		client_open(client, "billing", i % 2 ? 60000 : WIRE_FOREVER);
	client_expect(client, client_watch(client, "billing", 0), WIRE_LIMIT);
	fake_source_apply(&client->f->fake, "config/billing/", "k=v", NULL);
	for (unsigned i = 0; i < LIMIT_PENDING_REQUESTS; i++)
		client_expect_info(client, first + i);
	client_expect_info(client, client_watch(client, "billing", 0));
	client_free(client);
}

/* Names without keys are counted per user, however many connections ask for them. */
static bool all_are_published(void *userdata)
{
	const struct fixture *f = userdata;

	for (struct service *service = services_next(f->services, NULL); service;
		service = services_next(f->services, service->name))
		if (!service->snapshot)
			return false;
	return true;
}

static void a_user_opens_so_many_absent_services(void **state)
{
	struct fixture *f = *state;
	enum { PER_CLIENT = 200, N = LIMIT_ABSENT_PER_USER / PER_CLIENT + 1 };
	struct client *clients[N], *other = client_new_with_hello(f);
	unsigned n_open = 0;
	char name[32];

	client_expect(other, client_open(other, "shared-0-0", 0), WIRE_NO_DATA);
	fake_source_apply(&f->fake, "shared/", NULL);
	fixture_until(f, all_are_published, f);
	for (unsigned c = 0; c < N; c++) {
		clients[c] = client_new_with_hello(f);
		for (unsigned i = 0; i < PER_CLIENT; i++) {
			enum wire_status expected =
				n_open < LIMIT_ABSENT_PER_USER ? WIRE_OK : WIRE_LIMIT;

			snprintf(name, sizeof(name), "shared-%u-%u", c, i);
			client_expect(
				clients[c], client_open(clients[c], name, WIRE_FOREVER), expected);
			n_open += expected == WIRE_OK;
		}
	}
	assert_int_equal(n_open, LIMIT_ABSENT_PER_USER);
	assert_int_equal(services_count(f->services), LIMIT_ABSENT_PER_USER);
	/* The same names again cost nothing more; new ones are refused. */
	client_expect(other, client_open(other, "shared-0-0", 0), WIRE_OK);
	client_expect(other, client_open(other, "shared-new", 0), WIRE_LIMIT);
	/* Once they have keys they are not absent any more. */
	fake_source_apply(&f->fake, "shared/", "k=v", NULL);
	/* A publication that takes longer than its share of a turn ends in a later one. */
	fixture_until(f, all_are_published, f);
	client_expect(other, client_open(other, "shared-new", WIRE_FOREVER), WIRE_OK);
	client_expect(other, client_open(other, "absent", 0), WIRE_NO_DATA);
	assert_int_equal(other->session->user->n_absent, 0);
	assert_int_equal(other->session->user->n_loading, 1);
	for (unsigned c = 0; c < N; c++)
		client_free(clients[c]);
	assert_int_equal(other->session->user->n_loading, 1);
	client_free(other);
}

static void a_daemon_serves_so_many_services(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);

	f->config.max_services = 2;
	client_expect(client, client_open(client, "shared-1", 0), WIRE_NO_DATA);
	client_expect(client, client_open(client, "shared-2", 0), WIRE_NO_DATA);
	client_expect_text(
		client, client_open(client, "shared-3", 0), WIRE_LIMIT, "max_services=2");
	client_expect(client, client_open(client, "shared-1", 0), WIRE_NO_DATA);
	client_free(client);
}

static int try_session(struct fixture *f, int *ret_client)
{
	struct session *session;
	int ends[2], r;

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	r = session_new(f->server, ends[0], "", &session);
	*ret_client = ends[1];
	if (r < 0)
		close(ends[0]);
	return r;
}

/* As another user than root where that is possible: root is exempt. */
static void a_user_and_a_daemon_have_so_many_clients(void **state)
{
	struct fixture *f = *state;
	bool is_root = geteuid() == 0;
	int fds[6];

	f->config.max_clients_per_user = 2;
	if (is_root)
		assert_int_equal(seteuid(65534), 0);
	assert_int_equal(try_session(f, &fds[0]), 0);
	assert_int_equal(try_session(f, &fds[1]), 0);
	assert_int_equal(try_session(f, &fds[2]), -EUSERS);
	close(fds[0]);
	fixture_turn(f, 2);
	assert_int_equal(try_session(f, &fds[0]), 0);
	f->config.max_clients_per_user = 10;
	f->server->max_sessions = 2;
	assert_int_equal(try_session(f, &fds[3]), -ENFILE);
	f->server->max_sessions = 3;
	assert_int_equal(try_session(f, &fds[4]), 0);
	if (is_root) {
		assert_int_equal(seteuid(0), 0);
		assert_int_equal(prctl(PR_SET_DUMPABLE, 1), 0); /* the leak checker attaches */
	}
	assert_int_equal(try_session(f, &fds[5]), is_root ? 0 : -ENFILE);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

static void a_users_buffered_bytes_are_limited(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	struct wire_header header = wire_header_of(LIMIT_FRAME, WIRE_GET, 0, 1);

	client->session->user->uid = FIXTURE_STRANGER;
	client->session->user->n_buffered = LIMIT_BUFFERED_PER_USER - 16;
	client_send(client, &header, sizeof(header));
	client_expect_end(client);
	client_free(client);
}

static int send_descriptor(int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (char[]){ 'x' }, 1 };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void descriptors_end_the_connection_or_cannot_be_sent(void **state)
{
	struct client *client = client_new_with_hello(*state);
	int r;

	r = send_descriptor(client->fd);
	if (r == 0)
		client_expect_end(client);
	else
		assert_int_equal(r, -EPERM);
	client_free(client);
}

/* As on kernels that cannot refuse them, and as before the kernel was told to. */
static void descriptors_that_arrive_end_the_connection(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	static const int on = 1;

	client->session->is_safe = false;
	(void)setsockopt(client->session->fd, SOL_SOCKET, 83, &on, sizeof(on));
	open_service(client, "billing", "config/billing/");
	assert_int_equal(send_descriptor(client->fd), 0);
	client_expect_end(client);
	assert_int_equal(f->server->n_sessions, 0);
	client_free(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_frame_of_the_corpus_is_survived),
		TEST(a_frame_beyond_the_limit_ends_the_connection),
		TEST(what_follows_a_malformed_request_is_not_handled),
		TEST(random_requests_are_survived),
		TEST(a_client_that_does_not_read_is_not_read_from),
		TEST(a_client_that_never_reads_is_ended_in_time),
		TEST(a_client_that_says_no_hello_is_ended_in_time),
		TEST(half_a_request_is_ended_in_time),
		TEST(who_may_not_read_is_told_whom_to_ask),
		TEST(a_reload_takes_rights_away),
		TEST(decisions_are_taken_anew_before_long),
		TEST(a_connection_keeps_so_many_services),
		TEST(a_connection_waits_for_so_many_requests),
		TEST(a_user_opens_so_many_absent_services),
		TEST(a_daemon_serves_so_many_services),
		TEST(a_user_and_a_daemon_have_so_many_clients),
		TEST(a_users_buffered_bytes_are_limited),
		TEST(descriptors_end_the_connection_or_cannot_be_sent),
		TEST(descriptors_that_arrive_end_the_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
