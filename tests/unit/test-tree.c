#include "test.h"

#include "fake-loop.h"
#include "fake-source.h"

struct heard {
	unsigned n_content;
	unsigned n_state;
};

static void on_change(struct tree *tree, bool content_changed, void *userdata)
{
	struct heard *heard = userdata;

	(void)tree;
	if (content_changed)
		heard->n_content++;
	else
		heard->n_state++;
}

struct fixture {
	struct loop *loop;
	struct fake_source fake;
	struct trees *trees;
	struct tree *tree;
	struct heard heard;
	struct tree_observer observer;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(loop_new(&f->loop), 0);
	fake_source_init(&f->fake);
	assert_int_equal(trees_new(f->loop, &f->fake.source, &f->trees), 0);
	assert_int_equal(trees_get(f->trees, "config/a/", &f->tree), 0);
	f->observer.fn = on_change;
	f->observer.userdata = &f->heard;
	tree_observe(f->tree, &f->observer);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	tree_unobserve(&f->observer);
	tree_unref(f->tree);
	trees_free(f->trees);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void a_prefix_is_watched_once_and_until_the_last_user_leaves(void **state)
{
	struct fixture *f = *state;
	struct tree *again, *other;

	assert_int_equal(trees_get(f->trees, "config/a/", &again), 0);
	assert_ptr_equal(again, f->tree);
	assert_int_equal(trees_get(f->trees, "config/b/", &other), 0);
	assert_ptr_not_equal(other, f->tree);
	tree_unref(other);
	assert_null(fake_source_tree(&f->fake, "config/b/"));
	tree_unref(again);
	assert_non_null(fake_source_tree(&f->fake, "config/a/"));
}

static void the_same_content_again_is_no_change(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->tree->state, WIRE_LOADING);
	assert_true(fake_source_apply(&f->fake, "config/a/", "k=1", NULL));
	assert_int_equal(f->tree->state, WIRE_LIVE);
	assert_false(fake_source_apply(&f->fake, "config/a/", "k=1", NULL));
	assert_int_equal(f->heard.n_content, 1);
	assert_int_equal(f->heard.n_state, 1); /* its age is another one */
	assert_true(fake_source_apply(&f->fake, "config/a/", "k=2", NULL));
	assert_int_equal(f->heard.n_content, 2);
}

static void a_failing_source_leaves_the_last_good_content(void **state)
{
	struct fixture *f = *state;

	fake_source_apply(&f->fake, "config/a/", "k=1", NULL);
	tree_fail(f->tree, TREE_UNREACHABLE, 0, "cannot reach %s", "it");
	assert_int_equal(f->tree->state, WIRE_STALE);
	assert_int_equal(f->tree->content->records.n, 1);
	assert_string_equal(tree_error_message(&f->tree->error), "cannot reach it");
	assert_int_equal(f->heard.n_state, 1);
	/* The same failure again is no news. */
	tree_fail(f->tree, TREE_UNREACHABLE, 0, "cannot reach %s", "it");
	assert_int_equal(f->heard.n_state, 1);
	tree_confirm(f->tree);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	assert_false(f->tree->error.is_set);
	assert_int_equal(f->heard.n_state, 2);
}

static void without_content_a_failure_stays_loading(void **state)
{
	struct fixture *f = *state;

	tree_fail(f->tree, TREE_DENIED, 0, "no");
	assert_int_equal(f->tree->state, WIRE_LOADING);
	assert_null(f->tree->content);
}

static void a_source_that_cannot_start_leaves_nothing_behind(void **state)
{
	struct fixture *f = *state;
	struct tree *tree;

	f->fake.fail_start = ENOMEM;
	assert_int_equal(trees_get(f->trees, "config/b/", &tree), -ENOMEM);
	f->fake.fail_start = 0;
	assert_int_equal(trees_get(f->trees, "config/b/", &tree), 0);
	tree_unref(tree);
}

static struct kvset *make_set(const char *key, uint64_t modify_index)
{
	struct kvset *set;

	assert_int_equal(kvset_new(1 << 10, NULL, &set), 0);
	if (key)
		assert_int_equal(kvset_add(set, key, 1, "v", 1, 0, modify_index), 0);
	assert_int_equal(kvset_finish(set), 0);
	return set;
}

/* Each service knows those keys of a shared layer that no higher layer of its own had. */
static void what_services_know_of_a_tree_is_put_together(void **state)
{
	struct fixture *f = *state;
	struct record record;

	tree_restore(f->tree, make_set("k", 7), 1);
	tree_restore(f->tree, make_set(NULL, 0), 1);
	assert_int_equal(f->tree->content->records.n, 1);
	tree_restore(f->tree, make_set("a", 9), 1);
	assert_int_equal(f->tree->content->records.n, 2);
	assert_true(kvset_find(f->tree->content, "a", 1, &record));
	assert_true(kvset_find(f->tree->content, "k", 1, &record));
	assert_int_equal(f->tree->state, WIRE_BACKUP);
}

/* What ends the hold is compared with what any of them knows. */
static void what_is_held_back_from_one_service_is_from_the_next(void **state)
{
	struct fixture *f = *state;

	tree_restore(f->tree, make_set("k", 7), 1);
	tree_hold(f->tree, make_set(NULL, 0), TREE_ACCESS_LOST, "of a reason");
	tree_restore(f->tree, make_set("a", 9), 1);
	assert_int_equal(f->tree->state, WIRE_HELD);
	assert_int_equal(f->tree->held.set->records.n, 0);
	assert_int_equal(f->tree->content->records.n, 2);
}

static void doubt(struct feed *feed)
{
	feed->n_resyncs++;
}

/* Observers have what was said before, and go by that. */
static void a_doubted_answer_counts_when_it_comes_again(void **state)
{
	struct fixture *f = *state;
	uint64_t confirmed_at;

	f->fake.source.doubt = doubt;
	assert_false(tree_may_be_doubted(f->tree));
	tree_apply(f->tree, make_set("k", 7));
	assert_true(tree_may_be_doubted(f->tree));
	confirmed_at = f->tree->confirmed_at;
	tree_doubt(f->tree, make_set("a", 9));
	assert_false(f->tree->has_answered);
	assert_int_equal(f->fake.feeds[0].n_resyncs, 1);
	tree_restore(f->tree, make_set("b", 9), 1);
	assert_int_equal(f->tree->content->records.n, 3);
	assert_int_equal(f->tree->state, WIRE_LIVE);
	assert_int_equal(f->tree->confirmed_at, confirmed_at);
	tree_apply(f->tree, make_set("k", 7));
	assert_true(f->tree->has_answered);
	assert_int_equal(f->heard.n_content, 1);
}

static void keys_that_come_back_after_a_doubt_are_a_change(void **state)
{
	struct fixture *f = *state;

	f->fake.source.doubt = doubt;
	tree_apply(f->tree, make_set(NULL, 0));
	tree_doubt(f->tree, make_set("a", 9));
	tree_confirm(f->tree);
	assert_int_equal(f->tree->content->records.n, 1);
	assert_int_equal(f->heard.n_content, 2);
	tree_confirm(f->tree);
	assert_int_equal(f->heard.n_content, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_prefix_is_watched_once_and_until_the_last_user_leaves),
		TEST(the_same_content_again_is_no_change),
		TEST(a_failing_source_leaves_the_last_good_content),
		TEST(without_content_a_failure_stays_loading),
		TEST(what_services_know_of_a_tree_is_put_together),
		TEST(what_is_held_back_from_one_service_is_from_the_next),
		TEST(a_doubted_answer_counts_when_it_comes_again),
		TEST(keys_that_come_back_after_a_doubt_are_a_change),
		TEST(a_source_that_cannot_start_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
