#include "test.h"

#include <sys/mman.h>
#include <time.h>

#include "daemon/memory.h"
#include "daemon/service-state.h"
#include "fake-source.h"

/* The loop runs until a condition holds; a test that waits longer than this has failed. */
#define DEADLINE_USEC (10 * USEC_PER_SEC)

struct fixture {
	struct loop *loop;
	struct fake_source fake;
	struct trees *trees;
	struct config config;
	struct config_rule rule;
	struct services *services;
	struct service_waiter waiter;
	unsigned n_told;
	uint64_t last_generation;
	struct loop_timer *tick;
	bool (*is_reached)(struct fixture *);
	uint64_t deadline;
};

static void on_told(struct service *service, void *userdata)
{
	struct fixture *f = userdata;

	f->n_told++;
	f->last_generation = service->generation;
}

static void on_tick(void *userdata)
{
	struct fixture *f = userdata;

	if (f->is_reached(f) || loop_now() > f->deadline)
		loop_stop(f->loop);
	else
		loop_timer_arm(f->tick, 1000);
}

static void run_until(struct fixture *f, bool (*is_reached)(struct fixture *))
{
	f->is_reached = is_reached;
	f->deadline = loop_now() + DEADLINE_USEC;
	loop_timer_arm(f->tick, 0);
	assert_int_equal(loop_run(f->loop), 0);
	assert_true(is_reached(f));
}

static int set_up(void **state)
{
	static char glob[] = "layered", common[] = "common/", own[] = "own/{service}/",
		    host[] = "here";
	struct fixture *f = calloc(1, sizeof(*f));

	/* The first time it reads files of the kernel, longer than a turn of the loop may take. */
	(void)memory_take(0);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(loop_timer_new(f->loop, on_tick, f, &f->tick), 0);
	fake_source_init(&f->fake);
	assert_int_equal(trees_new(f->loop, &f->fake.source, &f->trees), 0);
	f->rule = (struct config_rule){ .glob = glob, .layers = { common, own }, .n_layers = 2 };
	f->config.rules = &f->rule;
	f->config.n_rules = 1;
	f->config.max_service = 1 << 20;
	f->config.max_services = 4;
	f->config.linger_usec = 1000;
	f->config.host = host;
	assert_int_equal(services_new(f->loop, f->trees, NULL, NULL, &f->config, &f->services), 0);
	f->waiter.fn = on_told;
	f->waiter.userdata = f;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	services_free(f->services);
	trees_free(f->trees);
	loop_timer_free(f->tick);
	loop_free(f->loop);
	free(f);
	return 0;
}

static struct service *want(struct fixture *f, const char *name)
{
	struct service *service;

	assert_int_equal(services_want(f->services, name, strlen(name), &service), 0);
	return service;
}

static const char *value_of(const struct service *service, const char *key)
{
	struct record record;

	assert_non_null(service->snapshot);
	if (!image_find(&service->snapshot->image, key, strlen(key), &record))
		return NULL;
	return record.value;
}

static bool is_republished(struct fixture *f)
{
	return f->n_told > 0;
}

static bool is_gone(struct fixture *f)
{
	return services_count(f->services) == 0;
}

static void the_first_answer_is_published_at_once(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "billing");

	assert_int_equal(service_state(service), WIRE_LOADING);
	service_add_waiter(service, &f->waiter);
	fake_source_apply(&f->fake, "config/billing/", "db/url=x", NULL);
	assert_int_equal(f->n_told, 1);
	assert_int_equal(service_state(service), WIRE_LIVE);
	assert_string_equal(value_of(service, "db/url"), "x");
	service_remove_waiter(&f->waiter);
	service_unwant(service);
}

static void an_empty_answer_is_data(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "billing");

	fake_source_apply(&f->fake, "config/billing/", NULL);
	assert_int_equal(service_state(service), WIRE_LIVE);
	assert_int_equal(service->snapshot->image.n_entries, 0);
	service_unwant(service);
}

static bool is_at_last_value(struct fixture *f)
{
	struct service *service = services_find(f->services, "billing", 7);
	const char *value = value_of(service, "k");

	return value && std_streq(value, "100");
}

static bool is_inside(const void *p, const struct image *image)
{
	return (const uint8_t *)p >= (const uint8_t *)image->data &&
	       (const uint8_t *)p < (const uint8_t *)image->data + image->size;
}

/* The records of a tree that is all of a service are those that clients have. */
static void the_contents_of_an_only_layer_are_in_memory_once(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "billing");
	struct tree *tree = service->layers[0].tree;

	fake_source_apply(&f->fake, "config/billing/", "a=1", "k=1", NULL);
	assert_true(is_inside(tree->content->records.data, &service->snapshot->image));
	assert_int_equal(tree->content->records.n, 2);
	fake_source_apply(&f->fake, "config/billing/", "a=1", "k=100", NULL);
	run_until(f, is_at_last_value);
	assert_true(is_inside(tree->content->records.data, &service->snapshot->image));
	service_unwant(service);
}

static void layers_that_are_merged_keep_contents_of_their_own(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "layered");

	fake_source_apply(&f->fake, "common/", "k=1", NULL);
	fake_source_apply(&f->fake, "own/layered/", "k=1", NULL);
	assert_non_null(service->snapshot);
	for (unsigned i = 0; i < service->n_layers; i++)
		assert_false(is_inside(
			service->layers[i].tree->content->records.data, &service->snapshot->image));
	service_unwant(service);
}

/* So that a later time is another one. */
static void pause_ms(unsigned ms)
{
	const struct timespec pause = { .tv_nsec = (long)ms * 1000000 };

	nanosleep(&pause, NULL);
}

static void clients_that_only_read_see_each_confirmation(void **state)
{
	struct fixture *f = *state;
	const struct genfile_slot *slot;
	struct service *service;
	struct services *services;
	struct genfile *genfile;
	uint64_t first;
	bool is_lasting;
	int fd;

	assert_int_equal(genfile_new("/proc/self/nowhere", 4, &genfile, &is_lasting), 0);
	fd = genfile_open_fd(genfile);
	slot = mmap(NULL, genfile_size(4), PROT_READ, MAP_SHARED, fd, 0);
	assert_true(slot != MAP_FAILED);
	slot++; /* behind the header, which is as large */
	assert_int_equal(services_new(f->loop, f->trees, genfile, NULL, &f->config, &services), 0);
	assert_int_equal(services_want(services, "billing", 7, &service), 0);
	assert_int_equal(service->announcement.slot, 0);
	fake_source_apply(&f->fake, "config/billing/", "k=1", NULL);
	first = slot->confirmed_at;
	assert_true(first > 0);
	service_add_waiter(service, &f->waiter);
	pause_ms(2);
	fake_source_apply(&f->fake, "config/billing/", "k=1", NULL);
	assert_true(slot->confirmed_at > first);
	first = slot->confirmed_at;
	pause_ms(2);
	tree_confirm(fake_source_tree(&f->fake, "config/billing/"));
	assert_true(slot->confirmed_at > first);
	assert_int_equal(f->n_told, 0);
	service_remove_waiter(&f->waiter);
	service_unwant(service);
	services_free(services);
	munmap((void *)(uintptr_t)(slot - 1), genfile_size(4));
	close(fd);
	genfile_free(genfile);
}

static void a_storm_is_coalesced_and_its_last_value_is_published(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "billing");

	service_add_waiter(service, &f->waiter);
	for (unsigned i = 1; i <= 100; i++) {
		char pair[32];

		snprintf(pair, sizeof(pair), "k=%u", i);
		fake_source_apply(&f->fake, "config/billing/", pair, NULL);
	}
	run_until(f, is_at_last_value);
	assert_true(f->n_told < 50);
	service_remove_waiter(&f->waiter);
	service_unwant(service);
}

static void generations_only_rise(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "billing");
	uint64_t first;

	fake_source_apply(&f->fake, "config/billing/", "k=1", NULL);
	first = service->generation;
	assert_true(first > 0);
	fake_source_apply(&f->fake, "config/billing/", "k=100", NULL);
	run_until(f, is_at_last_value);
	assert_true(service->generation > first);
	service_unwant(service);
}

static void upper_layers_win_and_what_they_delete_shows_through(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "layered");

	fake_source_apply(&f->fake, "common/", "a=common", "b=common", NULL);
	assert_int_equal(service_state(service), WIRE_LOADING);
	fake_source_apply(&f->fake, "own/layered/", "b=own", "c=own", NULL);
	assert_string_equal(value_of(service, "a"), "common");
	assert_string_equal(value_of(service, "b"), "own");
	assert_string_equal(value_of(service, "c"), "own");
	service_add_waiter(service, &f->waiter);
	fake_source_apply(&f->fake, "own/layered/", NULL);
	run_until(f, is_republished);
	assert_string_equal(value_of(service, "b"), "common");
	assert_null(value_of(service, "c"));
	service_remove_waiter(&f->waiter);
	service_unwant(service);
}

static void it_lingers_after_the_last_user_and_then_closes(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "billing");

	service_unwant(service);
	assert_int_equal(services_count(f->services), 1);
	run_until(f, is_gone);
	assert_null(fake_source_tree(&f->fake, "config/billing/"));
}

static void a_name_too_many_and_a_bad_name_are_refused(void **state)
{
	struct fixture *f = *state;
	struct service *services[4], *service;
	char name[] = "a";

	assert_int_equal(services_want(f->services, "../x", 4, &service), -EINVAL);
	assert_int_equal(services_want(f->services, "", 0, &service), -EINVAL);
	for (unsigned i = 0; i < 4; i++) {
		services[i] = want(f, name);
		name[0]++;
	}
	assert_int_equal(services_want(f->services, name, 1, &service), -ENOBUFS);
	for (unsigned i = 0; i < 4; i++)
		service_unwant(services[i]);
}

static void services_that_nobody_uses_make_room(void **state)
{
	struct fixture *f = *state;
	struct service *with_keys = want(f, "a"), *kept = want(f, "b"), *without = want(f, "c");

	fake_source_apply(&f->fake, "config/a/", "k=1", NULL);
	fake_source_apply(&f->fake, "config/c/", NULL);
	service_unwant(with_keys);
	service_unwant(without);
	service_unwant(want(f, "d"));
	want(f, "e");
	assert_null(services_find(f->services, "d", 1));
	want(f, "f");
	assert_null(services_find(f->services, "c", 1));
	assert_non_null(services_find(f->services, "a", 1));
	want(f, "g");
	assert_null(services_find(f->services, "a", 1));
	assert_ptr_equal(services_find(f->services, "b", 1), kept);
}

static void an_image_over_the_limit_keeps_the_last_good_one(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "layered");
	uint64_t generation;

	fake_source_apply(&f->fake, "common/", "a=1", NULL);
	fake_source_apply(&f->fake, "own/layered/", "b=1", NULL);
	generation = service->generation;
	f->config.max_service = 64;
	service_add_waiter(service, &f->waiter);
	fake_source_apply(&f->fake, "own/layered/", "b=2", NULL);
	run_until(f, is_republished);
	service_remove_waiter(&f->waiter);
	assert_int_equal(service->generation, generation);
	assert_string_equal(value_of(service, "b"), "1");
	assert_int_equal(service_state_error(service)->kind, TREE_LIMIT);
	service_unwant(service);
}

static void a_first_image_over_the_limit_is_no_data(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "layered");

	f->config.max_service = 64;
	fake_source_apply(&f->fake, "common/", "a=1", NULL);
	fake_source_apply(&f->fake, "own/layered/", "b=1", NULL);
	assert_int_equal(service_state_error(service)->kind, TREE_LIMIT);
	assert_int_equal(service_state(service), WIRE_LOADING);
	service_unwant(service);
}

static void a_reload_changes_layers_and_keeps_trees_that_stay(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "layered");
	struct config_rule rule = {
		.glob = (char[]){ "*" }, .layers = { (char[]){ "common/" } }, .n_layers = 1
	};
	struct config config = f->config;
	struct tree *common;

	fake_source_apply(&f->fake, "common/", "a=common", NULL);
	fake_source_apply(&f->fake, "own/layered/", "a=own", NULL);
	common = fake_source_tree(&f->fake, "common/");
	config.rules = &rule;
	service_add_waiter(service, &f->waiter);
	assert_int_equal(services_configure(f->services, &config), 0);
	assert_ptr_equal(fake_source_tree(&f->fake, "common/"), common);
	assert_null(fake_source_tree(&f->fake, "own/layered/"));
	run_until(f, is_republished);
	assert_string_equal(value_of(service, "a"), "common");
	service_remove_waiter(&f->waiter);
	service_unwant(service);
	services_configure(f->services, &f->config);
}

static void a_reload_while_a_publication_is_due_waits_for_the_new_layers(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "layered");
	struct config_rule rule = {
		.glob = (char[]){ "*" }, .layers = { (char[]){ "new/" } }, .n_layers = 1
	};
	struct config config = f->config;

	fake_source_apply(&f->fake, "common/", "a=1", NULL);
	fake_source_apply(&f->fake, "own/layered/", "b=1", NULL);
	/* So soon after the last one that it is put off. */
	fake_source_apply(&f->fake, "own/layered/", "b=2", NULL);
	config.rules = &rule;
	assert_int_equal(services_configure(f->services, &config), 0);
	f->deadline = loop_now() + 3 * LIMIT_COALESCE_USEC;
	f->is_reached = is_republished;
	loop_timer_arm(f->tick, 0);
	assert_int_equal(loop_run(f->loop), 0);
	assert_string_equal(value_of(service, "b"), "1");
	service_add_waiter(service, &f->waiter);
	fake_source_apply(&f->fake, "new/", "c=1", NULL);
	run_until(f, is_republished);
	assert_string_equal(value_of(service, "c"), "1");
	assert_null(value_of(service, "b"));
	service_remove_waiter(&f->waiter);
	service_unwant(service);
	services_configure(f->services, &f->config);
}

static void a_reload_that_fails_for_one_reaches_all_others(void **state)
{
	struct fixture *f = *state;
	struct service *first = want(f, "first"), *second = want(f, "second");
	char lock[] = "a", *locks[] = { lock };
	struct config_rule rules[] = {
		{ .glob = (char[]){ "first" }, .layers = { (char[]){ "new/" } }, .n_layers = 1 },
		{ .glob = (char[]){ "*" }, .lock = locks, .n_lock = 1 },
	};
	struct config config = f->config;

	config.rules = rules;
	config.n_rules = ARRAY_SIZE(rules);
	f->fake.fail_start = EMFILE;
	assert_int_equal(services_configure(f->services, &config), -EMFILE);
	/* The one before is freed. */
	assert_ptr_equal(first->config, &config);
	assert_ptr_equal(second->config, &config);
	assert_int_equal(second->locks.n, 1);
	f->fake.fail_start = 0;
	service_unwant(first);
	service_unwant(second);
	services_configure(f->services, &f->config);
}

static void a_reload_locks_keys(void **state)
{
	struct fixture *f = *state;
	struct service *service = want(f, "layered");
	char lock[] = "a", *locks[] = { lock };
	struct config_rule rule = f->rule;
	struct config config = f->config;

	fake_source_apply(&f->fake, "common/", "a=common", "b=common", NULL);
	fake_source_apply(&f->fake, "own/layered/", "a=own", "b=own", NULL);
	assert_string_equal(value_of(service, "a"), "own");
	rule.lock = locks;
	rule.n_lock = 1;
	config.rules = &rule;
	service_add_waiter(service, &f->waiter);
	assert_int_equal(services_configure(f->services, &config), 0);
	run_until(f, is_republished);
	assert_string_equal(value_of(service, "a"), "common");
	assert_string_equal(value_of(service, "b"), "own");
	f->n_told = 0;
	assert_int_equal(services_configure(f->services, &config), 0);
	assert_int_equal(services_configure(f->services, &f->config), 0);
	run_until(f, is_republished);
	assert_string_equal(value_of(service, "a"), "own");
	service_remove_waiter(&f->waiter);
	service_unwant(service);
}

#define N_SHARING 1000

static unsigned count_published(struct fixture *f, const char *value)
{
	unsigned n = 0;

	for (struct service *s = services_next(f->services, NULL); s;
		s = services_next(f->services, s->name))
		n += s->snapshot && std_streq(value_of(s, "a"), value);
	return n;
}

static bool are_all_published(struct fixture *f)
{
	return count_published(f, "2") == N_SHARING;
}

/* The tree tells all of them in one callback: most have to wait for their turn of the loop. */
static void a_layer_of_many_services_is_published_in_turns(void **state)
{
	struct fixture *f = *state;
	struct service *services[N_SHARING];
	unsigned n_at_once;

	f->rule.glob = (char[]){ "*" };
	f->rule.n_layers = 1;
	f->config.max_services = N_SHARING;
	for (unsigned i = 0; i < N_SHARING; i++) {
		char name[16];

		snprintf(name, sizeof(name), "s%u", i);
		services[i] = want(f, name);
	}
	fake_source_apply(&f->fake, "common/", "a=2", NULL);
	n_at_once = count_published(f, "2");
	assert_in_range(n_at_once, 1, N_SHARING / 2);
	run_until(f, are_all_published);
	for (unsigned i = 0; i < N_SHARING; i++)
		service_unwant(services[i]);
}

static void preloaded_services_live_without_users(void **state)
{
	struct fixture *f = *state;
	char *names[] = { (char[]){ "billing" } };
	struct config config = f->config;

	config.preload = names;
	config.n_preload = 1;
	assert_int_equal(services_configure(f->services, &config), 0);
	assert_int_equal(services_count(f->services), 1);
	service_unwant(want(f, "billing"));
	assert_non_null(services_find(f->services, "billing", 7));
	assert_int_equal(services_configure(f->services, &f->config), 0);
	run_until(f, is_gone);
}

static void services_are_listed_in_name_order(void **state)
{
	struct fixture *f = *state;
	struct service *b = want(f, "b"), *a = want(f, "a"), *c = want(f, "c");

	assert_ptr_equal(services_next(f->services, NULL), a);
	assert_ptr_equal(services_next(f->services, "a"), b);
	assert_ptr_equal(services_next(f->services, "bb"), c);
	assert_null(services_next(f->services, "c"));
	service_unwant(a);
	service_unwant(b);
	service_unwant(c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_first_answer_is_published_at_once),
		TEST(the_contents_of_an_only_layer_are_in_memory_once),
		TEST(layers_that_are_merged_keep_contents_of_their_own),
		TEST(an_empty_answer_is_data),
		TEST(clients_that_only_read_see_each_confirmation),
		TEST(a_storm_is_coalesced_and_its_last_value_is_published),
		TEST(generations_only_rise),
		TEST(upper_layers_win_and_what_they_delete_shows_through),
		TEST(it_lingers_after_the_last_user_and_then_closes),
		TEST(a_name_too_many_and_a_bad_name_are_refused),
		TEST(services_that_nobody_uses_make_room),
		TEST(a_first_image_over_the_limit_is_no_data),
		TEST(an_image_over_the_limit_keeps_the_last_good_one),
		TEST(a_reload_changes_layers_and_keeps_trees_that_stay),
		TEST(a_reload_while_a_publication_is_due_waits_for_the_new_layers),
		TEST(a_reload_that_fails_for_one_reaches_all_others),
		TEST(a_reload_locks_keys),
		TEST(a_layer_of_many_services_is_published_in_turns),
		TEST(preloaded_services_live_without_users),
		TEST(services_are_listed_in_name_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
