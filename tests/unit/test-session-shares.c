#include "session-fixture.h"

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(connections_of_a_user_share_and_each_has_its_turn),
		TEST(a_large_reply_goes_in_pieces_where_others_wait),
		TEST(who_stays_beyond_its_share_waits_between_its_turns),
		TEST(a_user_alone_has_a_whole_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
