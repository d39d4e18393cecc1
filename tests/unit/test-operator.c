/*
 * What operators may do, and what is held of services.
 */
#include "session-fixture.h"

#include "daemon/held.h"
#include "daemon/log.h"
#include "daemon/service-state.h"

static struct access_subject everybody = { .kind = ACCESS_ANYONE };

static int set_up(void **state)
{
	struct fixture *f;
	int r = fixture_set_up(state);

	f = *state;
	f->config.operator_subjects = &everybody;
	f->config.n_operators = 1;
	log_set_level(LOG_LEVEL_ERROR);
	return r;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	f->config.operator_subjects = NULL;
	f->config.n_operators = 0;
	return fixture_tear_down(state);
}

static struct kvset *set_of(const char *key)
{
	struct kvset *set;

	assert_int_equal(kvset_new(1 << 20, NULL, &set), 0);
	if (key)
		assert_int_equal(kvset_add(set, key, strlen(key), "v", 1, 0, 1), 0);
	assert_int_equal(kvset_finish(set), 0);
	return set;
}

/* Holds an answer back that has this key alone, or none. */
static struct tree *hold(struct fixture *f, const char *prefix, const char *key)
{
	struct tree *tree = fake_source_tree(&f->fake, prefix);

	assert_non_null(tree);
	tree_hold(tree, set_of(key), TREE_ACCESS_LOST, "lost");
	return tree;
}

static struct client *client_with_data(struct fixture *f, const char *service)
{
	struct client *client = client_new_with_hello(f);
	char prefix[128];
	uint32_t tag = client_open(client, service, 5000);

	snprintf(prefix, sizeof(prefix), "config/%s/", service);
	fixture_turn(f, 2);
	fake_source_apply(&f->fake, prefix, "a=1", "b=2", NULL);
	client_expect_info(client, tag);
	return client;
}

static bool is_published(void *userdata)
{
	const struct service *service = userdata;

	return !service->is_dirty && !service->publication;
}

/* Changes that come quickly one after another wait for each other. */
static void publish(struct fixture *f, const char *name)
{
	fixture_until(f, is_published, services_find(f->services, name, strlen(name)));
}

static uint32_t accept_of(struct client *client, const char *service, const uint64_t *digest)
{
	const struct wire_request request = {
		.service = service,
		.service_len = strlen(service),
		.has_digest = digest,
		.digest = digest ? *digest : 0,
	};

	return client_request(client, WIRE_ACCEPT, &request);
}

static void assert_accepted(struct client *client, uint32_t tag, size_t n_keys, uint64_t digest)
{
	struct frame frame = client_expect(client, tag, WIRE_OK);
	struct wire_accepted accepted;

	assert_int_equal(frame.len, sizeof(accepted));
	memcpy(&accepted, frame.payload, sizeof(accepted));
	assert_int_equal(le64_get(accepted.n_keys), n_keys);
	assert_true(le64_get(accepted.digest) == digest);
}

static void what_is_held_stays_away_until_it_is_accepted(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_with_data(f, "billing");
	struct tree *tree = hold(f, "config/billing/", "b");
	uint64_t digest = tree->held.set->digest;
	unsigned n_resyncs = tree->feed->n_resyncs;

	fixture_turn(f, 2);
	assert_int_equal(
		le32_get(client_expect_info(client, client_open(client, "billing", 0)).state),
		WIRE_HELD);
	client_expect_value(client, client_get(client, "billing", "a"), "1");
	assert_accepted(client, accept_of(client, "billing", NULL), 1, digest);
	publish(f, "billing");
	client_expect(client, client_get(client, "billing", "a"), WIRE_NO_KEY);
	client_expect_value(client, client_get(client, "billing", "b"), "v");
	assert_int_equal(
		le32_get(client_expect_info(client, client_open(client, "billing", 0)).state),
		WIRE_LIVE);
	/* The source is asked what there is now. */
	assert_int_equal(tree->feed->n_resyncs, n_resyncs + 1);
	client_expect_text(client, accept_of(client, "billing", NULL), WIRE_NO_KEY,
		"nothing is held of billing");
	client_free(client);
}

static void the_digest_must_be_that_of_what_is_held(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_with_data(f, "billing");
	uint64_t digest = hold(f, "config/billing/", NULL)->held.set->digest, other = digest + 1;
	char expected[64];

	snprintf(expected, sizeof(expected), "has the digest %016llx", (unsigned long long)digest);
	client_expect_text(client, accept_of(client, "billing", &other), WIRE_CHANGED, expected);
	client_expect_value(client, client_get(client, "billing", "a"), "1");
	assert_accepted(client, accept_of(client, "billing", &digest), 0, digest);
	publish(f, "billing");
	client_expect(client, client_get(client, "billing", "a"), WIRE_NO_KEY);
	client_free(client);
}

static void layers_that_are_held_are_one_to_the_service(void **state)
{
	struct fixture *f = *state;
	struct kvset *sets[LIMIT_LAYERS];
	struct client *client;
	struct service *service;
	struct tree *low, *high;
	struct held held;
	uint32_t tag;

	f->rules[0].layers[1] = (char[]){ "config/{service}/" };
	f->rules[0].n_layers = 2;
	client = client_new_with_hello(f);
	tag = client_open(client, "shared-x", 5000);
	fixture_turn(f, 2);
	fake_source_apply(&f->fake, "shared/", "a=1", "b=2", NULL);
	fake_source_apply(&f->fake, "config/shared-x/", "c=3", NULL);
	client_expect_info(client, tag);
	service = services_find(f->services, "shared-x", strlen("shared-x"));
	assert_false(held_find(service, &held));
	high = hold(f, "config/shared-x/", NULL);
	/* One of them: the other goes on. */
	fake_source_apply(&f->fake, "shared/", "a=new", "b=2", NULL);
	publish(f, "shared-x");
	client_expect_value(client, client_get(client, "shared-x", "a"), "new");
	client_expect_value(client, client_get(client, "shared-x", "c"), "3");
	assert_int_equal(service_state(service), WIRE_HELD);
	assert_true(held_find(service, &held));
	assert_int_equal(held.n_layers, 1);
	assert_true(held.digest == high->held.set->digest);
	held_sets(service, sets);
	assert_ptr_equal(sets[0], service->layers[0].tree->content);
	assert_ptr_equal(sets[1], high->held.set);
	low = hold(f, "shared/", "b");
	assert_true(held_find(service, &held));
	assert_int_equal(held.n_layers, 2);
	assert_int_equal(held.n_keys, 1);
	assert_true(held.digest != high->held.set->digest && held.digest != low->held.set->digest);
	assert_accepted(client, accept_of(client, "shared-x", &held.digest), 1, held.digest);
	assert_int_equal(service_state(service), WIRE_LIVE);
	assert_null(low->held.set);
	f->rules[0].n_layers = 1;
	client_free(client);
}

static void a_layer_that_is_held_is_worse_than_one_that_loads(void **state)
{
	struct fixture *f = *state;
	struct client *client;

	f->rules[0].layers[1] = (char[]){ "config/{service}/" };
	f->rules[0].n_layers = 2;
	client = client_new_with_hello(f);
	client_expect(client, client_open(client, "shared-x", 0), WIRE_NO_DATA);
	fake_source_apply(&f->fake, "shared/", "a=1", NULL);
	hold(f, "shared/", NULL);
	client_expect(client, client_open(client, "shared-x", 0), WIRE_NO_DATA);
	assert_int_equal(service_state(services_find(f->services, "shared-x", strlen("shared-x"))),
		WIRE_HELD);
	f->rules[0].n_layers = 1;
	client_free(client);
}

static void a_resync_is_of_one_service_or_of_all(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_with_data(f, "billing"), *other = client_with_data(f, "b");
	const struct wire_request one = { .service = "billing", .service_len = 7 };
	const struct wire_request all = { .service = "" };
	struct feed *billing = fake_source_tree(&f->fake, "config/billing/")->feed;
	struct feed *b = fake_source_tree(&f->fake, "config/b/")->feed;

	client_expect(client, client_request(client, WIRE_RESYNC, &one), WIRE_OK);
	assert_int_equal(billing->n_resyncs, 1);
	assert_int_equal(b->n_resyncs, 0);
	client_expect(client, client_request(client, WIRE_RESYNC, &all), WIRE_OK);
	assert_int_equal(billing->n_resyncs, 2);
	assert_int_equal(b->n_resyncs, 1);
	client_free(client);
	client_free(other);
}

static void names_that_are_none_and_services_that_nobody_uses_are_refused(void **state)
{
	struct client *client = client_new_with_hello(*state);
	const struct wire_request unused = { .service = "unused", .service_len = 6 };
	const struct wire_request bad = { .service = "a/b", .service_len = 3 };

	client_expect(client, accept_of(client, "unused", NULL), WIRE_NO_KEY);
	client_expect(client, accept_of(client, "../x", NULL), WIRE_BAD_NAME);
	client_expect(client, accept_of(client, "", NULL), WIRE_BAD_NAME);
	client_expect(client, client_request(client, WIRE_RESYNC, &unused), WIRE_NO_KEY);
	client_expect(client, client_request(client, WIRE_RESYNC, &bad), WIRE_BAD_NAME);
	client_free(client);
}

static void others_are_denied_whoever_they_are(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_with_data(f, "billing");
	const struct wire_request all = { .service = "" };

	hold(f, "config/billing/", NULL);
	f->config.n_operators = 0;
	client_expect_text(client, accept_of(client, "billing", NULL), WIRE_DENIED,
		"is no operator: run it as root");
	client_expect_text(client, accept_of(client, "unused", NULL), WIRE_DENIED, "operators");
	client_expect_text(
		client, client_request(client, WIRE_RESYNC, &all), WIRE_DENIED, "operators");
	client_expect_value(client, client_get(client, "billing", "a"), "1");
	assert_int_equal(fake_source_tree(&f->fake, "config/billing/")->feed->n_resyncs, 0);
	client_free(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_held_stays_away_until_it_is_accepted),
		TEST(the_digest_must_be_that_of_what_is_held),
		TEST(layers_that_are_held_are_one_to_the_service),
		TEST(a_layer_that_is_held_is_worse_than_one_that_loads),
		TEST(a_resync_is_of_one_service_or_of_all),
		TEST(names_that_are_none_and_services_that_nobody_uses_are_refused),
		TEST(others_are_denied_whoever_they_are),
	};

	return cmocka_run_group_tests_name("operator", tests, NULL, NULL);
}
