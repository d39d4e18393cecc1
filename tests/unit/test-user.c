#include "test.h"

#include "daemon/user.h"
#include "proto/limits.h"

static struct users users;
static struct service services[LIMIT_LOADING_PER_USER + LIMIT_ABSENT_PER_USER + 1];
static struct absent_opener openers[ARRAY_SIZE(services)];
static struct snapshot empty, filled = { .image = { .n_entries = 1 } };

static int set_up(void **state)
{
	(void)state;
	users_init(&users);
	memset(services, 0, sizeof(services));
	for (unsigned i = 0; i < ARRAY_SIZE(services); i++)
		list_init(&services[i].waiters);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (unsigned i = 0; i < USERS_BUCKETS; i++)
		assert_true(list_is_empty(&users.buckets[i]));
	return 0;
}

static struct user *add_client(uid_t uid)
{
	struct user *user;

	assert_int_equal(users_add_client(&users, uid, &user), 0);
	return user;
}

static void clients_of_one_user_are_counted_together(void **state)
{
	struct user *user = add_client(1000);

	(void)state;
	assert_int_equal(user->uid, 1000);
	assert_int_equal(user->n_clients, 1);
	assert_ptr_equal(add_client(1000), user);
	assert_int_equal(user->n_clients, 2);
	user_remove_client(user);
	assert_int_equal(user->n_clients, 1);
	user_remove_client(user);
}

static void users_of_one_bucket_are_told_apart(void **state)
{
	struct user *a = add_client(1), *b = add_client(1 + USERS_BUCKETS),
		    *c = add_client((uid_t)-1);

	(void)state;
	assert_ptr_not_equal(a, b);
	assert_ptr_equal(add_client(1 + USERS_BUCKETS), b);
	assert_ptr_equal(add_client(1), a);
	assert_int_equal(c->uid, (uid_t)-1);
	assert_int_equal(a->n_clients, 2);
	assert_int_equal(b->n_clients, 2);
	for (unsigned i = 0; i < 2; i++) {
		user_remove_client(a);
		user_remove_client(b);
	}
	user_remove_client(c);
}

static void a_user_begins_anew_when_its_last_client_went(void **state)
{
	struct user *user = add_client(1000);

	(void)state;
	user->n_buffered = 5;
	user_remove_client(user);
	user = add_client(1000);
	assert_int_equal(user->n_clients, 1);
	assert_int_equal(user->n_buffered, 0);
	user_remove_client(user);
}

/* As a publication does it. */
static void publish(struct service *service, struct snapshot *snapshot)
{
	struct list waiting = LIST_INIT(waiting);

	service->snapshot = snapshot;
	list_splice(&waiting, &service->waiters);
	while (!list_is_empty(&waiting)) {
		struct service_waiter *waiter =
			LIST_ENTRY(waiting.next, struct service_waiter, link);

		list_unlink(&waiter->link);
		list_append(&service->waiters, &waiter->link);
		waiter->fn(service, waiter->userdata);
	}
}

/* The next n services, which are loading. */
static void open_some(struct user *user, unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++) {
		assert_true(user_may_open_absent(user, &services[i]));
		assert_true(user_may_open_absent(user, NULL));
		assert_int_equal(user_add_absent(user, &services[i], &openers[i]), 0);
	}
}

static void close_some(unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++)
		user_remove_absent(&openers[i]);
}

static void publish_some(unsigned first, unsigned n, struct snapshot *snapshot)
{
	for (unsigned i = first; i < first + n; i++)
		publish(&services[i], snapshot);
}

static void a_service_without_keys_or_none_yet_is_absent(void **state)
{
	(void)state;
	assert_true(user_is_absent(&services[0]));
	services[0].snapshot = &empty;
	assert_true(user_is_absent(&services[0]));
	services[0].snapshot = &filled;
	assert_false(user_is_absent(&services[0]));
}

static void sessions_of_one_absent_service_count_once(void **state)
{
	struct user *user = add_client(1000);
	struct absent_opener first = { 0 }, second = { 0 };

	(void)state;
	user_remove_absent(&first);
	assert_int_equal(user_add_absent(user, &services[0], &first), 0);
	assert_int_equal(user_add_absent(user, &services[0], &second), 0);
	assert_ptr_equal(first.absent, second.absent);
	assert_int_equal(user->n_loading, 1);
	user_remove_absent(&first);
	assert_int_equal(user->n_loading, 1);
	user_remove_absent(&second);
	assert_int_equal(user->n_loading, 0);
	assert_true(list_is_empty(&services[0].waiters));
	user_remove_client(user);
}

static void a_service_that_has_keys_leaves_nothing_behind(void **state)
{
	struct user *user = add_client(1000);
	struct absent_opener before = { 0 }, after = { 0 };

	(void)state;
	assert_int_equal(user_add_absent(user, &services[0], &before), 0);
	publish(&services[0], &filled);
	assert_null(before.absent);
	assert_true(list_is_empty(&services[0].waiters));
	/* It has none again: the opener of before stays alone. */
	publish(&services[0], &empty);
	assert_int_equal(user_add_absent(user, &services[0], &after), 0);
	assert_int_equal(user->n_absent, 1);
	user_remove_absent(&before);
	assert_int_equal(user->n_absent, 1);
	user_remove_absent(&after);
	assert_int_equal(user->n_absent, 0);
	user_remove_client(user);
}

static void at_the_limit_only_what_is_open_may_be_opened(void **state)
{
	struct user *user = add_client(1000), *other = add_client(1001);
	struct service *next = &services[LIMIT_ABSENT_PER_USER];

	(void)state;
	open_some(user, 0, LIMIT_ABSENT_PER_USER);
	publish_some(0, LIMIT_ABSENT_PER_USER, &empty);
	assert_int_equal(user->n_absent, LIMIT_ABSENT_PER_USER);
	assert_int_equal(user->n_loading, 0);
	assert_false(user_may_open_absent(user, next));
	assert_false(user_may_open_absent(user, NULL));
	assert_true(user_may_open_absent(user, &services[7]));
	assert_true(user_may_open_absent(other, next));
	user_remove_absent(&openers[0]);
	assert_true(user_may_open_absent(user, next));
	close_some(1, LIMIT_ABSENT_PER_USER - 1);
	assert_int_equal(user->n_absent, 0);
	user_remove_client(user);
	user_remove_client(other);
}

static void services_that_load_have_a_limit_of_their_own(void **state)
{
	struct user *user = add_client(1000);
	struct service *next = &services[LIMIT_LOADING_PER_USER];

	(void)state;
	open_some(user, 0, LIMIT_LOADING_PER_USER);
	assert_false(user_may_open_absent(user, next));
	assert_false(user_may_open_absent(user, NULL));
	assert_true(user_may_open_absent(user, &services[7]));
	next->snapshot = &empty; /* of somebody else */
	assert_true(user_may_open_absent(user, next));
	publish(&services[0], &filled);
	assert_true(user_may_open_absent(user, NULL));
	/* More turn out to have no keys than may be opened: these stay, no other one comes. */
	publish_some(1, LIMIT_LOADING_PER_USER - 1, &empty);
	assert_int_equal(user->n_loading, 0);
	assert_false(user_may_open_absent(user, NULL));
	assert_false(user_may_open_absent(user, next));
	close_some(0, LIMIT_LOADING_PER_USER);
	assert_int_equal(user->n_absent, 0);
	user_remove_client(user);
}

static void services_that_got_keys_make_room(void **state)
{
	struct user *user = add_client(1000);
	struct service *next = &services[LIMIT_ABSENT_PER_USER];

	(void)state;
	open_some(user, 0, LIMIT_ABSENT_PER_USER);
	publish_some(0, LIMIT_ABSENT_PER_USER, &empty);
	publish(&services[0], &filled);
	publish(&services[500], &filled);
	publish(&services[501], &filled);
	publish(&services[1], &empty);
	assert_true(user_may_open_absent(user, next));
	assert_int_equal(user->n_absent, LIMIT_ABSENT_PER_USER - 3);
	/* Those that count no more are not counted down again when their sessions go. */
	publish(&services[0], &empty);
	close_some(0, LIMIT_ABSENT_PER_USER);
	assert_int_equal(user->n_absent, 0);
	assert_true(list_is_empty(&user->absent));
	user_remove_client(user);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(clients_of_one_user_are_counted_together),
		TEST(users_of_one_bucket_are_told_apart),
		TEST(a_user_begins_anew_when_its_last_client_went),
		TEST(a_service_without_keys_or_none_yet_is_absent),
		TEST(sessions_of_one_absent_service_count_once),
		TEST(a_service_that_has_keys_leaves_nothing_behind),
		TEST(at_the_limit_only_what_is_open_may_be_opened),
		TEST(services_that_load_have_a_limit_of_their_own),
		TEST(services_that_got_keys_make_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
