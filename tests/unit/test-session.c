#include "session-fixture.h"

#include <sys/socket.h>

static void open_billing(struct client *client)
{
	uint32_t tag = client_open(client, "billing", 5000);

	fixture_turn(client->f, 2);
	fake_source_apply(
		&client->f->fake, "config/billing/", "db/url=x", "db/user=y", "ttl=300", NULL);
	client_expect_info(client, tag);
}

static void hello_tells_version_and_pid(void **state)
{
	struct client *client = client_new(*state);
	struct wire_request hello = { .min_major = 1, .max_major = 9, .image_major = 9 };
	struct wire_hello_reply reply;
	struct frame frame;

	frame = client_expect(client, client_request(client, WIRE_HELLO, &hello), WIRE_OK);
	assert_int_equal(frame.op, WIRE_HELLO);
	assert_true(frame.len > sizeof(reply));
	memcpy(&reply, frame.payload, sizeof(reply));
	assert_int_equal(le16_get(reply.major), WIRE_MAJOR);
	assert_int_equal(le16_get(reply.minor), WIRE_MINOR);
	assert_int_equal(le16_get(reply.image_major), IMAGE_MAJOR);
	assert_int_equal(le32_get(reply.pid), getpid());
	assert_memory_equal(
		frame.payload + sizeof(reply), CONSULCFGD_VERSION, frame.len - sizeof(reply));
	client_free(client);
}

static void without_a_common_version_the_connection_ends(void **state)
{
	struct client *client = client_new(*state);
	struct wire_request hello = { .min_major = 2, .max_major = 3 };

	client_expect_text(
		client, client_request(client, WIRE_HELLO, &hello), WIRE_UNSUPPORTED, "version 1");
	client_expect_end(client);
	client_free(client);
}

static void what_comes_before_hello_ends_the_connection(void **state)
{
	struct client *client = client_new(*state);

	client_expect(client, client_get(client, "billing", "k"), WIRE_BAD_REQUEST);
	client_expect_end(client);
	client_free(client);
}

static void a_second_hello_ends_the_connection(void **state)
{
	struct client *client = client_new_with_hello(*state);
	struct wire_request hello = { .min_major = 1, .max_major = 1 };

	client_expect(client, client_request(client, WIRE_HELLO, &hello), WIRE_BAD_REQUEST);
	client_expect_end(client);
	client_free(client);
}

static void keys_are_answered(void **state)
{
	struct client *client = client_new_with_hello(*state);

	open_billing(client);
	client_expect_value(client, client_get(client, "billing", "db/url"), "x");
	client_expect_value(client, client_get(client, "billing", "ttl"), "300");
	client_expect(client, client_get(client, "billing", "none"), WIRE_NO_KEY);
	client_expect(client, client_get(client, "billing", ""), WIRE_BAD_NAME);
	client_expect(client, client_get(client, "billing", "\xff"), WIRE_BAD_NAME);
	client_expect(client, client_get(client, "../etc", "k"), WIRE_BAD_NAME);
	client_expect(client, client_get(client, "", "k"), WIRE_BAD_NAME);
	client_expect_value(client, client_get(client, "billing", "db/user"), "y");
	client_free(client);
}

static void a_get_opens_its_service_without_waiting(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);

	client_expect_text(
		client, client_get(client, "billing", "k"), WIRE_NO_DATA, "no data for billing");
	fake_source_apply(&f->fake, "config/billing/", "k=v", NULL);
	client_expect_info(client, client_watch(client, "billing", 0));
	client_expect_value(client, client_get(client, "billing", "k"), "v");
	client_free(client);
}

static void an_absent_service_is_data_without_keys(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	uint32_t tag = client_open(client, "billing", 5000);
	struct wire_info info;

	fixture_turn(f, 2);
	fake_source_apply(&f->fake, "config/billing/", NULL);
	info = client_expect_info(client, tag);
	assert_true(le64_get(info.n_entries) == 0 && le64_get(info.generation) != 0);
	assert_int_equal(le32_get(info.state), WIRE_LIVE);
	client_expect(client, client_get(client, "billing", "k"), WIRE_NO_KEY);
	client_free(client);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct client *client = client_new_with_hello(*state);
	uint32_t first;

	open_billing(client);
	first = client->last_tag + 1;
	for (unsigned i = 0; i < 5000; i++)
		client_get(client, "billing", i % 2 ? "db/url" : "ttl");
	for (unsigned i = 0; i < 5000; i++)
		client_expect_value(client, first + i, i % 2 ? "x" : "300");
	client_free(client);
}

static void frames_may_arrive_byte_by_byte(void **state)
{
	struct client *client = client_new_with_hello(*state);
	struct wire_request request = {
		.service = "billing", .service_len = 7, .key = "ttl", .key_len = 3
	};
	uint8_t buf[128];
	ssize_t n;

	open_billing(client);
	n = wire_encode(WIRE_GET, 77, &request, buf, sizeof(buf));
	assert_true(n > 0);
	for (unsigned round = 0; round < 2; round++) {
		for (ssize_t i = 0; i < n; i++) {
			client_send(client, buf + i, 1);
			fixture_turn(client->f, 1);
		}
		client_expect_value(client, 77, "300");
		assert_null(client->session->input.data);
		assert_false(deadline_is_running(&client->session->deadline));
	}
	client_free(client);
}

/* Two requests and a half in one write, the rest in another, with frames of the largest size. */
static void frames_may_be_cut_anywhere(void **state)
{
	struct client *client = client_new_with_hello(*state);
	size_t key_len = LIMIT_FRAME - 8, size = sizeof(struct wire_header) + LIMIT_FRAME;
	uint8_t *buf = malloc(3 * size);
	char *key = malloc(key_len);
	struct wire_request request = {
		.service = "billing", .service_len = 7, .key = key, .key_len = key_len
	};

	assert_true(buf && key);
	memset(key, 'k', key_len);
	open_billing(client);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(
			wire_encode(WIRE_GET, 100 + i, &request, buf + i * size, size), size);
	for (size_t cut = 1; cut < 3 * size; cut += 4999) {
		client_send(client, buf, cut);
		fixture_turn(client->f, 1);
		client_send(client, buf + cut, 3 * size - cut);
		for (unsigned i = 0; i < 3; i++)
			client_expect(client, 100 + i, WIRE_BAD_NAME);
	}
	free(buf);
	free(key);
	client_free(client);
}

static void a_waiting_open_does_not_hold_up_later_requests(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	uint32_t opened, got;

	open_billing(client);
	opened = client_open(client, "slow", WIRE_FOREVER);
	got = client_get(client, "billing", "ttl");
	client_expect_value(client, got, "300");
	fake_source_apply(&f->fake, "config/slow/", "k=v", NULL);
	client_expect_info(client, opened);
	assert_int_equal(client->session->n_pendings, 0);
	client_free(client);
}

static void an_open_that_expires_says_why(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	uint32_t tag;

	client_expect_text(
		client, client_open(client, "billing", 0), WIRE_NO_DATA, "no data for billing yet");
	tree_fail(fake_source_tree(&f->fake, "config/billing/"), TREE_UNREACHABLE, 0,
		"cannot reach Consul at %s", "http://127.0.0.1:8500");
	tag = client_open(client, "billing", 20);
	client_expect_text(client, tag, WIRE_NO_DATA,
		"no data for billing yet: cannot reach Consul at http://127.0.0.1:8500");
	assert_null(client->session->pending_timer);
	client_free(client);
}

static void opens_expire_in_the_order_of_their_deadlines(void **state)
{
	struct client *client = client_new_with_hello(*state);
	uint32_t late = client_open(client, "billing", 60),
		 early = client_open(client, "billing", 10),
		 never = client_open(client, "billing", WIRE_FOREVER);

	client_expect(client, early, WIRE_NO_DATA);
	client_expect(client, late, WIRE_NO_DATA);
	fake_source_apply(&client->f->fake, "config/billing/", NULL);
	client_expect_info(client, never);
	client_free(client);
}

static void a_watch_wakes_at_the_next_generation(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	uint64_t generation;
	uint32_t tag;

	open_billing(client);
	/* The client holds another one: at once. */
	generation =
		le64_get(client_expect_info(client, client_watch(client, "billing", 0)).generation);
	tag = client_watch(client, "billing", generation);
	fixture_turn(f, 3);
	assert_false(client_has_frame(client));
	tree_fail(fake_source_tree(&f->fake, "config/billing/"), TREE_TIMEOUT, 0, "no answer");
	fixture_turn(f, 3);
	assert_false(client_has_frame(client));
	fake_source_apply(&f->fake, "config/billing/", "db/url=z", NULL);
	assert_true(le64_get(client_expect_info(client, tag).generation) > generation);
	client_expect_value(client, client_get(client, "billing", "db/url"), "z");
	client_free(client);
}

static void a_publication_wakes_every_watcher(void **state)
{
	struct fixture *f = *state;
	enum { N = 600 };
	static struct client *clients[N];
	struct wire_info info;
	uint32_t tag;

	for (unsigned i = 0; i < N; i++)
		clients[i] = client_new_with_hello(f);
	open_billing(clients[0]);
	info = client_expect_info(clients[0], client_watch(clients[0], "billing", 0));
	for (unsigned i = 0; i < N; i++)
		client_watch(clients[i], "billing", le64_get(info.generation));
	fixture_turn(f, 3);
	fake_source_apply(&f->fake, "config/billing/", "a=1", NULL);
	for (unsigned i = 0; i < N; i++) {
		tag = clients[i]->last_tag;
		client_expect_info(clients[i], tag);
	}
	for (unsigned i = 0; i < N; i++)
		client_free(clients[i]);
}

static bool is_closed(void *userdata)
{
	struct fixture *f = userdata;

	return services_count(f->services) == 0;
}

static void closing_ends_watches_and_lets_the_service_go(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	struct wire_info info;
	uint32_t watch, open, close;

	open_billing(client);
	info = client_expect_info(client, client_watch(client, "billing", 0));
	watch = client_watch(client, "billing", le64_get(info.generation));
	open = client_open(client, "slow", WIRE_FOREVER);
	close = client_close(client, "billing");
	client_expect(client, watch, WIRE_CLOSED);
	client_expect(client, close, WIRE_OK);
	assert_int_equal(client->session->n_pendings, 1);
	close = client_close(client, "slow");
	client_expect(client, open, WIRE_CLOSED);
	client_expect(client, close, WIRE_OK);
	/* Closing what is not open is fine, a name that is none is not. */
	client_expect(client, client_close(client, "other"), WIRE_OK);
	client_expect(client, client_close(client, "no/name"), WIRE_BAD_NAME);
	fixture_until(f, is_closed, f);
	client_free(client);
}

static void a_client_that_goes_away_lets_its_services_go(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);

	open_billing(client);
	client_open(client, "slow", 60000);
	client_watch(client, "slow", 0);
	fixture_turn(f, 2);
	assert_int_equal(f->server->n_sessions, 1);
	client_free(client);
	assert_int_equal(f->server->n_sessions, 0);
	fixture_until(f, is_closed, f);
}

static void an_mget_answers_each_key(void **state)
{
	static const char keys[] = "\3\0ttl\4\0none\0\0\6\0db/url";
	struct client *client = client_new_with_hello(*state);
	struct wire_request request = {
		.service = "billing", .service_len = 7, .key = keys, .key_len = sizeof(keys) - 1
	};
	static const uint8_t expected[] = "\3\0\0\0"
					  "300\xff\xff\xff\xff\xff\xff\xff\xff\1\0\0\0x";
	struct frame frame;

	client_expect(client, client_request(client, WIRE_MGET, &request), WIRE_NO_DATA);
	open_billing(client);
	frame = client_expect(client, client_request(client, WIRE_MGET, &request), WIRE_OK);
	assert_int_equal(frame.len, sizeof(le64) + sizeof(expected) - 1);
	assert_memory_equal(frame.payload + sizeof(le64), expected, sizeof(expected) - 1);
	request.key_len = 0;
	frame = client_expect(client, client_request(client, WIRE_MGET, &request), WIRE_OK);
	assert_int_equal(frame.len, sizeof(le64));
	client_free(client);
}

static void requests_before_the_end_of_input_are_answered(void **state)
{
	struct client *client = client_new_with_hello(*state);
	uint32_t first;

	open_billing(client);
	first = client->last_tag + 1;
	for (unsigned i = 0; i < 100; i++)
		client_get(client, "billing", "ttl");
	assert_int_equal(shutdown(client->fd, SHUT_WR), 0);
	for (unsigned i = 0; i < 100; i++)
		client_expect_value(client, first + i, "300");
	client_expect_end(client);
	client_free(client);
}

static void unknown_requests_are_answered_and_skipped(void **state)
{
	struct client *client = client_new_with_hello(*state);
	struct {
		struct wire_header header;
		char payload[5];
	} frame = { wire_header_of(5, 999, 0, 42), "12345" };

	client_send(client, &frame, sizeof(frame.header) + sizeof(frame.payload));
	client_expect(client, 42, WIRE_UNSUPPORTED);
	client_expect(client, client_status(client, 99, ""), WIRE_UNSUPPORTED);
	open_billing(client);
	client_free(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(hello_tells_version_and_pid),
		TEST(without_a_common_version_the_connection_ends),
		TEST(what_comes_before_hello_ends_the_connection),
		TEST(a_second_hello_ends_the_connection),
		TEST(keys_are_answered),
		TEST(a_get_opens_its_service_without_waiting),
		TEST(an_absent_service_is_data_without_keys),
		TEST(pipelined_requests_are_answered_in_order),
		TEST(frames_may_arrive_byte_by_byte),
		TEST(frames_may_be_cut_anywhere),
		TEST(a_waiting_open_does_not_hold_up_later_requests),
		TEST(an_open_that_expires_says_why),
		TEST(opens_expire_in_the_order_of_their_deadlines),
		TEST(a_watch_wakes_at_the_next_generation),
		TEST(a_publication_wakes_every_watcher),
		TEST(closing_ends_watches_and_lets_the_service_go),
		TEST(a_client_that_goes_away_lets_its_services_go),
		TEST(an_mget_answers_each_key),
		TEST(requests_before_the_end_of_input_are_answered),
		TEST(unknown_requests_are_answered_and_skipped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
