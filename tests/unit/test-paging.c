#include "session-fixture.h"

#include "proto/record.h"

/* What a client has put together of a list. */
struct list_result {
	unsigned n, n_pages;
	uint64_t generation;
	size_t n_bytes;
	char fill;
};

static uint64_t take_page(const struct frame *frame, struct list_result *result)
{
	size_t cursor = sizeof(struct wire_list);
	struct wire_list head;
	struct record record;
	char key[32];

	assert_true(frame->len >= sizeof(head));
	memcpy(&head, frame->payload, sizeof(head));
	result->generation = le64_get(head.generation);
	result->n_pages++;
	while (wire_next_entry(frame->payload, frame->len, &cursor, &record) > 0) {
		snprintf(key, sizeof(key), "key-%06u", result->n);
		assert_int_equal(record.key_len, strlen(key));
		assert_memory_equal(record.key, key, record.key_len);
		assert_int_equal(record.modify_index, 100 + result->n);
		assert_int_equal(record.flags, result->n % 3);
		for (uint32_t i = 0; i < record.value_len; i += 997)
			assert_int_equal(record.value[i], result->fill);
		result->n_bytes += record.value_len;
		result->n++;
	}
	assert_int_equal(cursor, frame->len);
	return le64_get(head.cursor);
}

static struct list_result list_all(struct client *client, char fill)
{
	struct list_result result = { .fill = fill };
	uint64_t cursor = 0;

	do {
		uint32_t tag = client_list(client, "billing", "key-", result.generation, cursor);
		struct frame frame = client_expect(client, tag, WIRE_OK);

		cursor = take_page(&frame, &result);
	} while (cursor != 0);
	return result;
}

static void open_billing(struct client *client, const size_t *sizes, size_t n, char fill)
{
	uint32_t tag = client_open(client, "billing", 5000);

	fixture_turn(client->f, 2);
	fixture_apply_sizes(client->f, "config/billing/", sizes, n, fill);
	client_expect_info(client, tag);
}

static uint64_t generation_of(struct client *client)
{
	return services_find(client->f->services, "billing", 7)->generation;
}

static bool is_published(void *userdata)
{
	struct client *client = userdata;

	return generation_of(client) != client->session->pinned->generation;
}

static void a_list_without_entries_is_one_empty_page(void **state)
{
	struct client *client = client_new_with_hello(*state);
	struct list_result result;

	client_expect(client, client_list(client, "billing", "", 0, 0), WIRE_NO_DATA);
	open_billing(client, NULL, 0, 'a');
	result = list_all(client, 'a');
	assert_true(result.n == 0 && result.n_pages == 1);
	assert_true(result.generation == generation_of(client));
	assert_null(client->session->pinned);
	client_free(client);
}

static void a_long_list_comes_in_pages(void **state)
{
	struct client *client = client_new_with_hello(*state);
	enum { N = 3000 };
	static size_t sizes[N];
	struct list_result result;

	for (size_t i = 0; i < N; i++)
		sizes[i] = i % 200;
	open_billing(client, sizes, N, 'a');
	result = list_all(client, 'a');
	assert_int_equal(result.n, N);
	assert_true(result.n_pages > 3);
	assert_null(client->session->pinned);
	client_free(client);
}

static void pages_are_short_where_others_wait(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	size_t sizes[60];
	struct user *other;
	struct frame frame;
	unsigned n_pages;

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
		sizes[i] = 1000;
	open_billing(client, sizes, ARRAY_SIZE(sizes), 'v');
	n_pages = list_all(client, 'v').n_pages;
	assert_int_equal(users_add_client(&f->server->users, FIXTURE_STRANGER, &other), 0);
	frame = client_expect(client, client_list(client, "billing", "key-", 0, 0), WIRE_OK);
	assert_true(frame.len <= LIMIT_SHARE_BYTES);
	assert_true(list_all(client, 'v').n_pages >= 4 * n_pages);
	user_remove_client(other);
	client_free(client);
}

static void large_values_are_pages_of_their_own(void **state)
{
	static const size_t sizes[] = { 10, LIMIT_INLINE_VALUE, LIMIT_INLINE_VALUE + 1, 3 << 20, 0,
		LIMIT_INLINE_VALUE, LIMIT_INLINE_VALUE, LIMIT_INLINE_VALUE, LIMIT_INLINE_VALUE,
		1 << 20 };
	struct client *client = client_new_with_hello(*state);
	struct list_result result;
	size_t n_bytes = 0;

	open_billing(client, sizes, ARRAY_SIZE(sizes), 'b');
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		n_bytes += sizes[i];
	result = list_all(client, 'b');
	assert_int_equal(result.n, ARRAY_SIZE(sizes));
	assert_int_equal(result.n_bytes, n_bytes);
	assert_null(client->session->large);
	client_free(client);
}

static void a_list_stays_in_the_generation_it_began_in(void **state)
{
	struct client *client = client_new_with_hello(*state);
	struct list_result result = { .fill = 'a' };
	static size_t sizes[1000];
	struct frame frame;
	uint64_t cursor, first;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		sizes[i] = 1000;
	open_billing(client, sizes, ARRAY_SIZE(sizes), 'a');
	frame = client_expect(client, client_list(client, "billing", "key-", 0, 0), WIRE_OK);
	cursor = take_page(&frame, &result);
	first = result.generation;
	fixture_apply_sizes(client->f, "config/billing/", sizes, ARRAY_SIZE(sizes), 'b');
	fixture_until(client->f, is_published, client);
	while (cursor != 0) {
		uint32_t tag = client_list(client, "billing", "key-", first, cursor);

		frame = client_expect(client, tag, WIRE_OK);
		cursor = take_page(&frame, &result);
		assert_true(result.generation == first);
	}
	assert_int_equal(result.n, ARRAY_SIZE(sizes));
	/* It has been read to its end: the old generation is gone. */
	assert_null(client->session->pinned);
	client_expect(client, client_list(client, "billing", "key-", first, 0), WIRE_CHANGED);
	assert_true(list_all(client, 'b').generation > first);
	client_free(client);
}

static void a_pinned_generation_goes_with_its_time_and_with_close(void **state)
{
	struct client *client = client_new_with_hello(*state);
	static size_t sizes[1000];
	uint64_t first;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		sizes[i] = 1000;
	open_billing(client, sizes, ARRAY_SIZE(sizes), 'a');
	first = generation_of(client);
	client->f->server->pins.delay_usec = 30000;
	client_expect(client, client_list(client, "billing", "key-", 0, 0), WIRE_OK);
	assert_non_null(client->session->pinned);
	fixture_apply_sizes(client->f, "config/billing/", sizes, ARRAY_SIZE(sizes), 'b');
	fixture_until(client->f, is_published, client);
	while (client->session->pinned)
		fixture_turn(client->f, 1);
	client_expect(client, client_list(client, "billing", "key-", first, 8), WIRE_CHANGED);
	client_expect(client, client_list(client, "billing", "key-", 0, 0), WIRE_OK);
	assert_non_null(client->session->pinned);
	client_expect(client, client_close(client, "billing"), WIRE_OK);
	assert_null(client->session->pinned);
	client_free(client);
}

static void a_prefix_selects(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	uint32_t tag = client_open(client, "billing", 5000);
	size_t cursor = sizeof(struct wire_list);
	struct record record;
	struct frame frame;

	fixture_turn(f, 2);
	fake_source_apply(
		&f->fake, "config/billing/", "a=1", "db/url=x", "db/user=y", "dbx=2", NULL);
	client_expect_info(client, tag);
	frame = client_expect(client, client_list(client, "billing", "db/", 0, 0), WIRE_OK);
	assert_int_equal(wire_next_entry(frame.payload, frame.len, &cursor, &record), 1);
	assert_memory_equal(record.key, "db/url", record.key_len);
	assert_memory_equal(record.value, "x", record.value_len);
	assert_int_equal(wire_next_entry(frame.payload, frame.len, &cursor, &record), 1);
	assert_memory_equal(record.key, "db/user", record.key_len);
	assert_int_equal(wire_next_entry(frame.payload, frame.len, &cursor, &record), 0);
	frame = client_expect(client, client_list(client, "billing", "zz", 0, 0), WIRE_OK);
	assert_int_equal(frame.len, sizeof(struct wire_list));
	client_free(client);
}

/* A cursor may be anything: the reply is a page, and nothing outside of the image is read. */
static void invented_cursors_do_no_harm(void **state)
{
	struct client *client = client_new_with_hello(*state);
	static const size_t sizes[] = { 5, 5000, 20000, 0, 77 };
	static const uint64_t far[] = { UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 32,
		UINT64_C(1) << 63 };
	uint64_t generation, size;

	open_billing(client, sizes, ARRAY_SIZE(sizes), '\x08');
	generation = generation_of(client);
	size = services_find(client->f->services, "billing", 7)->snapshot->image.size;
	for (uint64_t cursor = 1; cursor < size + 64; cursor++)
		client_expect(
			client, client_list(client, "billing", "", generation, cursor), WIRE_OK);
	for (size_t i = 0; i < ARRAY_SIZE(far); i++) {
		struct frame frame = client_expect(
			client, client_list(client, "billing", "", generation, far[i]), WIRE_OK);

		assert_int_equal(frame.len, sizeof(struct wire_list));
	}
	client_expect(client, client_list(client, "billing", "", 0, 128), WIRE_CHANGED);
	client_expect(client, client_list(client, "billing", "", 1, 128), WIRE_CHANGED);
	client_free(client);
}

static void a_large_value_is_sent_whole_and_later_replies_follow_it(void **state)
{
	static const size_t sizes[] = { 9 << 20, 3 };
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f), *other = client_new_with_hello(f);
	uint32_t large, small;
	struct frame frame;

	open_billing(client, sizes, ARRAY_SIZE(sizes), 'q');
	large = client_get(client, "billing", "key-000000");
	small = client_get(client, "billing", "key-000001");
	fixture_turn(f, 3);
	/* The socket holds a part of it; the snapshot is kept, not a copy. */
	assert_non_null(client->session->large);
	assert_true(client->session->output.allocated < 4096);
	client_expect_value(other, client_get(other, "billing", "key-000001"), "qqq");
	/* The service moves on while the old value is on its way. */
	fixture_apply_sizes(f, "config/billing/", sizes, ARRAY_SIZE(sizes), 'r');
	frame = client_expect(client, large, WIRE_OK);
	assert_int_equal(frame.len, sizeof(le64) + sizes[0]);
	for (size_t i = sizeof(le64); i < frame.len; i++)
		if (frame.payload[i] != 'q')
			fail_msg("byte %zu is of another generation", i);
	client_expect(client, small, WIRE_OK);
	assert_null(client->session->large);
	client_free(client);
	client_free(other);
}

static void a_watch_is_answered_behind_a_large_value(void **state)
{
	static const size_t sizes[] = { 4 << 20 };
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	uint32_t large, watch;

	open_billing(client, sizes, 1, 'q');
	watch = client_watch(client, "billing", generation_of(client));
	large = client_get(client, "billing", "key-000000");
	fixture_turn(f, 3);
	assert_non_null(client->session->large);
	fixture_apply_sizes(f, "config/billing/", sizes, 1, 'r');
	client_expect(client, large, WIRE_OK);
	client_expect_info(client, watch);
	client_free(client);
}

static void an_mget_beyond_its_limit_is_refused(void **state)
{
	static const size_t sizes[] = { 300000, 300000, 300000, 300000 };
	static const char keys[] = "\12\0key-000000\12\0key-000001\12\0key-000002\12\0key-000003";
	struct client *client = client_new_with_hello(*state);
	struct wire_request request = {
		.service = "billing", .service_len = 7, .key = keys, .key_len = 3 * 12
	};

	open_billing(client, sizes, ARRAY_SIZE(sizes), 'a');
	client_expect(client, client_request(client, WIRE_MGET, &request), WIRE_OK);
	request.key_len = 4 * 12;
	client_expect_text(
		client, client_request(client, WIRE_MGET, &request), WIRE_LIMIT, "GET each");
	request.key_len = 1 * 12;
	client_expect(client, client_request(client, WIRE_MGET, &request), WIRE_OK);
	client_free(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_list_without_entries_is_one_empty_page),
		TEST(a_long_list_comes_in_pages),
		TEST(pages_are_short_where_others_wait),
		TEST(large_values_are_pages_of_their_own),
		TEST(a_list_stays_in_the_generation_it_began_in),
		TEST(a_pinned_generation_goes_with_its_time_and_with_close),
		TEST(a_prefix_selects),
		TEST(invented_cursors_do_no_harm),
		TEST(a_large_value_is_sent_whole_and_later_replies_follow_it),
		TEST(a_watch_is_answered_behind_a_large_value),
		TEST(an_mget_beyond_its_limit_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
