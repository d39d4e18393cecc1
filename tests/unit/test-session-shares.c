#include "session-fixture.h"

#include <sys/socket.h>

#include "daemon/lookups.h"

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

#define MANY 16
#define REQUESTS 1000 /* of 17 each: many shares, and more than one whole turn */

static bool has_half(void *userdata)
{
	struct client **clients = userdata;

	for (unsigned i = 0; i < MANY; i++)
		if (client_has_frame(clients[i]) &&
			clients[i]->len > REQUESTS / 2 * sizeof(struct wire_header))
			return true;
	return false;
}

/* Each request costs 1: while one has half of its answers, every other has nearly as many. */
static void connections_of_a_user_share_and_each_has_its_turn(void **state)
{
	struct fixture *f = *state;
	struct client *clients[MANY];
	struct user *other;

	assert_int_equal(users_add_client(&f->server->users, FIXTURE_STRANGER, &other), 0);
	for (unsigned i = 0; i < MANY; i++) {
		clients[i] = client_new_with_hello(f);
		if (i == 0)
			open_service(clients[0], "billing", "config/billing/");
	}
	assert_true(server_share(f->server, clients[0]->session->user) <= LIMIT_SHARE_COST);
	for (unsigned i = 0; i < MANY; i++)
		for (unsigned j = 0; j < REQUESTS; j++)
			client_close(clients[i], "billing");
	fixture_until(f, has_half, clients);
	for (unsigned i = 0; i < MANY; i++) {
		client_has_frame(clients[i]);
		assert_true(clients[i]->len > REQUESTS / 4 * sizeof(struct wire_header));
	}
	for (unsigned i = 0; i < MANY; i++)
		client_free(clients[i]);
	user_remove_client(other);
}

/* Bytes of a large value that one turn sends while nobody else is ready. */
static size_t most_sent_in_a_turn(struct client *client)
{
	size_t most = 0;

	client_get(client, "billing", "key-000000");
	fixture_turn(client->f, 1);
	for (size_t before; client->session->large;) {
		before = client->session->large_len;
		while (recv(client->fd, (char[4096]){ 0 }, 4096, MSG_DONTWAIT) > 0)
			continue;
		session_turn(client->session, LOOP_WRITE);
		most = MAX(most, before - client->session->large_len);
		client->f->server->turn++;
	}
	return most;
}

static void a_large_reply_goes_in_pieces_where_others_wait(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	struct user *other;

	open_sized(client, 1 << 20);
	assert_true(most_sent_in_a_turn(client) > LIMIT_SHARE_BYTES);
	assert_int_equal(users_add_client(&f->server->users, FIXTURE_STRANGER, &other), 0);
	assert_int_equal(most_sent_in_a_turn(client), LIMIT_SHARE_BYTES);
	user_remove_client(other);
	client_free(client);
}

static bool is_paused(void *userdata)
{
	struct fixture *f = userdata;

	return f->server->n_crowded > LIMIT_CROWDED_TURNS &&
	       loop_timer_is_armed(f->server->wake_timer);
}

/* While others are served; news are not, and without others there is no pause. */
static void who_stays_beyond_its_share_waits_between_its_turns(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	struct user *other;
	uint64_t begin;
	unsigned turn;

	open_service(client, "billing", "config/billing/");
	assert_int_equal(users_add_client(&f->server->users, FIXTURE_STRANGER, &other), 0);
	for (unsigned i = 0; i < REQUESTS; i++)
		client_close(client, "billing");
	f->server->n_crowded = LIMIT_CROWDED_TURNS;
	f->server->n_served = 1; /* the other one */
	fixture_until(f, is_paused, f);
	begin = loop_now();
	for (turn = f->server->turn; f->server->turn < turn + 20;) {
		f->server->shared_at = loop_now();
		fixture_turn(f, 1);
	}
	assert_true(loop_now() - begin >= (uint64_t)19 * LIMIT_CROWDED_USEC);
	turn = f->server->turn;
	session_wake(client->session);
	fixture_turn(f, 1);
	assert_int_not_equal(f->server->turn, turn);
	f->server->shared_at = 0;
	for (unsigned i = 0; i < REQUESTS; i++)
		assert_int_equal(client_frame(client).status, WIRE_OK);
	assert_int_equal(f->server->n_crowded, 0);
	user_remove_client(other);
	client_free(client);
}

static void a_user_alone_has_a_whole_turn(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	struct user *user = client->session->user, *other;

	f->server->turn++;
	assert_int_equal(server_share(f->server, user), LIMIT_TURN_COST);
	assert_int_equal(users_add_client(&f->server->users, FIXTURE_STRANGER, &other), 0);
	assert_int_equal(server_share(f->server, user), LIMIT_TURN_COST);
	f->server->turn++;
	assert_int_equal(server_share(f->server, user), LIMIT_SHARE_COST);
	user->share = 0;
	assert_int_equal(server_share(f->server, other), LIMIT_SHARE_COST);
	user_remove_client(other);
	client_free(client);
}

#define LOOKUPS 5000 /* many shares' worth */
#define KEY "\12\0key-000000"
#define ABSENT "\12\0key-none--"

/* One present key and many absent ones, before and behind it. */
static uint32_t ask_for(struct client *client, unsigned n)
{
	static char keys[LOOKUPS * (sizeof(KEY) - 1)];
	struct wire_request request = { .service = "billing",
		.service_len = 7,
		.key = keys,
		.key_len = n * (sizeof(KEY) - 1) };

	for (unsigned i = 0; i < n; i++)
		memcpy(keys + i * (sizeof(KEY) - 1), i == 0 || i == n - 1 ? KEY : ABSENT,
			sizeof(KEY) - 1);
	return client_request(client, WIRE_MGET, &request);
}

static uint32_t ask_many(struct client *client)
{
	return ask_for(client, LOOKUPS);
}

/* Its value is `value` at both ends. */
static void expect_many(struct client *client, uint32_t tag, const char *value)
{
	struct frame frame = client_expect(client, tag, WIRE_OK);
	const uint8_t *at = frame.payload, *end = frame.payload + frame.len;
	size_t len = strlen(value);
	le32 word;

	assert_int_equal(frame.len, sizeof(le64) + LOOKUPS * sizeof(word) + 2 * len);
	assert_memory_equal(at + sizeof(le64) + sizeof(word), value, len);
	assert_memory_equal(end - len, value, len);
	at += sizeof(le64) + sizeof(word) + len;
	for (; at < end - sizeof(word) - len; at += sizeof(word)) {
		memcpy(&word, at, sizeof(word));
		assert_int_equal(le32_get(word), WIRE_ABSENT);
	}
}

/* Turns of the session until the request at hand is answered, none of them longer than a share. */
static unsigned count_turns(struct client *client)
{
	unsigned n = 0;

	while (!client_has_frame(client)) {
		client->f->server->turn++;
		session_turn(client->session, client->session->wanted);
		n++;
		assert_true(n < 10000);
	}
	return n;
}

/* Shares are small from now on. */
static struct user *add_stranger(struct fixture *f)
{
	struct user *other;

	assert_int_equal(users_add_client(&f->server->users, FIXTURE_STRANGER, &other), 0);
	f->server->turn++;
	return other;
}

static void an_mget_goes_in_slices_where_others_wait(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	struct user *other;
	uint32_t tag;
	unsigned alone;

	open_sized(client, 3);
	tag = ask_many(client);
	alone = count_turns(client);
	expect_many(client, tag, "xxx");
	other = add_stranger(f);
	tag = ask_many(client);
	assert_true(count_turns(client) >= LOOKUPS / 4 / LIMIT_SHARE_COST);
	expect_many(client, tag, "xxx");
	assert_true(alone < 4);
	user_remove_client(other);
	client_free(client);
}

/* Also of a single value: how much is copied at a time. */
static void values_of_an_mget_are_copied_in_pieces_where_others_wait(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	struct wire_request request = {
		.service = "billing", .service_len = 7, .key = KEY, .key_len = sizeof(KEY) - 1
	};
	struct user *other;
	struct frame frame;
	uint32_t tag;

	open_sized(client, 1000000);
	other = add_stranger(f);
	tag = client_request(client, WIRE_MGET, &request);
	assert_true(count_turns(client) >=
		    1000000 / (LIMIT_SHARE_BYTES + LIMIT_SHARE_COST * SESSION_BYTES_PER_COST));
	frame = client_expect(client, tag, WIRE_OK);
	assert_int_equal(frame.len, sizeof(le64) + sizeof(le32) + 1000000);
	for (size_t i = sizeof(le64) + sizeof(le32); i < frame.len; i++)
		assert_int_equal(frame.payload[i], 'x');
	user_remove_client(other);
	client_free(client);
}

static bool is_in_the_middle(void *userdata)
{
	struct client *client = userdata;

	return client->session->lookups;
}

static bool has_moved_on(void *userdata)
{
	struct client *client = userdata;
	const struct lookups *lookups = client->session->lookups;
	struct opened *opened = opened_find(&client->session->openings, "billing", 7);

	return lookups && opened->service->snapshot != lookups->snapshot;
}

#define SIZE 16000
#define BEFORE 30 /* more than a socket takes: what is behind them goes on when they were read */

static void an_mget_in_slices_is_of_one_generation_and_others_wait_behind_it(void **state)
{
	static const size_t size = SIZE;
	static char old[SIZE + 1], new[SIZE + 1];
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	uint32_t first = client->last_tag + 2, many, get;
	struct user *other;

	memset(old, 'x', SIZE);
	memset(new, 'y', SIZE);
	open_sized(client, size);
	other = add_stranger(f);
	for (unsigned i = 0; i < BEFORE; i++)
		client_get(client, "billing", "key-000000");
	many = ask_many(client);
	get = client_get(client, "billing", "key-000000");
	fixture_until(f, is_in_the_middle, client);
	fixture_apply_sizes(f, "config/billing/", &size, 1, 'y');
	fixture_until(f, has_moved_on, client);
	for (unsigned i = 0; i < BEFORE; i++)
		client_expect_value(client, first + i, old);
	expect_many(client, many, old);
	client_expect_value(client, get, new);
	assert_null(client->session->lookups);
	user_remove_client(other);
	client_free(client);
}

static void what_an_mget_keeps_is_counted_and_given_back(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f), *leaver = client_new_with_hello(f);
	struct user *user = client->session->user, *other;
	struct snapshot *snapshot;
	unsigned refs;

	open_sized(client, 3);
	snapshot = opened_find(&client->session->openings, "billing", 7)->service->snapshot;
	client_expect_info(leaver, client_open(leaver, "billing", 5000));
	other = add_stranger(f);
	assert_int_equal(user->n_buffered, 0);
	refs = snapshot->refs;
	ask_many(leaver);
	fixture_until(f, is_in_the_middle, leaver);
	assert_true(user->n_buffered >= LOOKUPS * (sizeof(KEY) - 1) / 2);
	assert_int_equal(snapshot->refs, refs + 1);
	session_free(leaver->session);
	assert_int_equal(user->n_buffered, 0);
	assert_int_equal(snapshot->refs, refs);
	expect_many(client, ask_many(client), "xxx");
	fixture_turn(f, 2);
	assert_int_equal(user->n_buffered, 0);
	assert_int_equal(snapshot->refs, refs);
	user_remove_client(other);
	client_free(leaver);
	client_free(client);
}

/* It cannot send the rest: nothing is read from it before the answer is made. */
static void half_a_request_behind_an_mget_has_time(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	struct user *other;
	uint32_t tag;

	open_sized(client, 3);
	other = add_stranger(f);
	tag = ask_for(
		client, LIMIT_SHARE_BYTES / sizeof(KEY)); /* received with what is behind it */
	client_send(client, "\4\0\0\0\3\0\0\0\0", 9);
	fixture_until(f, is_in_the_middle, client);
	assert_int_equal(client->session->input.len, 9);
	assert_ptr_not_equal(client->session->clock, &f->server->requests);
	client_expect(client, tag, WIRE_OK);
	fixture_turn(f, 2);
	assert_ptr_equal(client->session->clock, &f->server->requests);
	user_remove_client(other);
	client_free(client);
}

static void an_mget_in_slices_has_its_limit(void **state)
{
	static char keys[4 * (sizeof(KEY) - 1)];
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	struct wire_request request = {
		.service = "billing", .service_len = 7, .key = keys, .key_len = sizeof(keys)
	};
	struct user *other;

	for (unsigned i = 0; i < 4; i++)
		memcpy(keys + i * (sizeof(KEY) - 1), KEY, sizeof(KEY) - 1);
	open_sized(client, 300000);
	other = add_stranger(f);
	client_expect_text(
		client, client_request(client, WIRE_MGET, &request), WIRE_LIMIT, "GET each");
	request.key_len -= sizeof(KEY) - 1;
	client_expect(client, client_request(client, WIRE_MGET, &request), WIRE_OK);
	user_remove_client(other);
	client_free(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(connections_of_a_user_share_and_each_has_its_turn),
		TEST(a_large_reply_goes_in_pieces_where_others_wait),
		TEST(who_stays_beyond_its_share_waits_between_its_turns),
		TEST(a_user_alone_has_a_whole_turn),
		TEST(an_mget_goes_in_slices_where_others_wait),
		TEST(values_of_an_mget_are_copied_in_pieces_where_others_wait),
		TEST(an_mget_in_slices_is_of_one_generation_and_others_wait_behind_it),
		TEST(what_an_mget_keeps_is_counted_and_given_back),
		TEST(half_a_request_behind_an_mget_has_time),
		TEST(an_mget_in_slices_has_its_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
