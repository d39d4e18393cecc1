/*
 * A service of two layers, one of which is doubted: a backup knows more than the source said of it.
 */
#include "test.h"

#include "daemon/memory.h"
#include "daemon/service-publish.h"
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
	struct service *service;
	struct loop_timer *tick;
	bool (*is_reached)(struct fixture *);
	uint64_t deadline;
};

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

static void doubt(struct feed *feed)
{
	feed->n_resyncs++;
}

/* The first answers are published. */
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
	f->fake.source.doubt = doubt;
	assert_int_equal(trees_new(f->loop, &f->fake.source, &f->trees), 0);
	f->rule = (struct config_rule){ .glob = glob, .layers = { common, own }, .n_layers = 2 };
	f->config.rules = &f->rule;
	f->config.n_rules = 1;
	f->config.max_service = 1 << 20;
	f->config.max_services = 4;
	f->config.host = host;
	assert_int_equal(services_new(f->loop, f->trees, NULL, NULL, &f->config, &f->services), 0);
	assert_int_equal(services_want(f->services, "layered", 7, &f->service), 0);
	fake_source_apply(&f->fake, "common/", "k=1", NULL);
	fake_source_apply(&f->fake, "own/layered/", "x=1", NULL);
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

static const char *value_of(const struct service *service, const char *key)
{
	struct record record;

	assert_non_null(service->snapshot);
	if (!image_find(&service->snapshot->image, key, strlen(key), &record))
		return NULL;
	return record.value;
}

static struct kvset *known(void)
{
	struct kvset *set;

	assert_int_equal(kvset_new(1 << 10, NULL, &set), 0);
	assert_int_equal(kvset_add(set, "gone", 4, "1", 1, 0, 1), 0);
	assert_int_equal(kvset_finish(set), 0);
	return set;
}

static bool is_idle(struct fixture *f)
{
	return !service_publish_is_under_way(f->service);
}

static bool has_second_value(struct fixture *f)
{
	const char *value = value_of(f->service, "x");

	return value && std_streq(value, "2");
}

/* Nothing is published that the source has not said, and nothing that it said is forgotten. */
static void changes_wait_for_a_layer_that_is_doubted(void **state)
{
	struct fixture *f = *state;
	struct service *service = f->service;
	uint64_t generation;

	generation = service->generation;
	tree_doubt(service->layers[0].tree, known());
	fake_source_apply(&f->fake, "common/", "k=1", NULL);
	assert_int_equal(service->generation, generation);
	tree_doubt(service->layers[0].tree, known());
	fake_source_apply(&f->fake, "own/layered/", "x=2", NULL);
	assert_false(service_publish_is_under_way(service));
	assert_int_equal(service->generation, generation);
	fake_source_apply(&f->fake, "common/", "k=1", NULL);
	run_until(f, has_second_value);
	assert_null(value_of(service, "gone"));
}

/* A change that was told before the doubt, and was to be published a little later. */
static void changes_under_way_wait_for_a_layer_that_is_doubted(void **state)
{
	struct fixture *f = *state;
	struct service *service = f->service;

	fake_source_apply(&f->fake, "own/layered/", "x=2", NULL);
	assert_true(service_publish_is_under_way(service));
	tree_doubt(service->layers[0].tree, known());
	run_until(f, is_idle);
	assert_string_equal(value_of(service, "x"), "1");
	fake_source_apply(&f->fake, "common/", "k=1", NULL);
	run_until(f, has_second_value);
	assert_null(value_of(service, "gone"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(changes_wait_for_a_layer_that_is_doubted),
		TEST(changes_under_way_wait_for_a_layer_that_is_doubted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
