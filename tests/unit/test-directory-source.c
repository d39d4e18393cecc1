#include "test.h"

#include <fcntl.h>

#include "directory-fixture.h"

/* Without inotify. */

static void without_watches_it_polls(void **state)
{
	struct directory_fixture *f = *state;

	fixture_watches = FIXTURE_WATCHES_FAIL;
	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "key", "1");
	fixture_start(f);
	EXPECT(f, "key=1");
	fixture_put(f, BASE "key", "2");
	EXPECT(f, "key=2");
	/* Watches are free again: the next look takes them. */
	fixture_watches = FIXTURE_WATCHES_WORK;
	fixture_put(f, BASE "key", "3");
	EXPECT(f, "key=3");
	fixture_put(f, BASE "key", "4");
	EXPECT(f, "key=4");
}

static void without_inotify_it_polls(void **state)
{
	struct directory_fixture *f = *state;

	fixture_has_no_instance = true;
	fixture_start(f);
	fixture_expect_failure(f, TREE_UNREACHABLE, "/root: ", "key");
	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "key", "1");
	EXPECT(f, "key=1");
	fixture_put(f, BASE "key", "2");
	EXPECT(f, "key=2");
}

static void the_resync_finds_what_no_notice_told(void **state)
{
	struct directory_fixture *f = *state;

	fixture_watches = FIXTURE_WATCHES_ARE_DEAF;
	f->config.resync_usec = 300 * USEC_PER_MSEC;
	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "key", "1");
	fixture_start(f);
	EXPECT(f, "key=1");
	fixture_put(f, BASE "key", "2");
	EXPECT(f, "key=2");
	assert_int_equal(f->n_changes, 2);
}

static void a_resync_can_be_asked_for(void **state)
{
	struct directory_fixture *f = *state;

	fixture_watches = FIXTURE_WATCHES_ARE_DEAF;
	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "key", "1");
	fixture_start(f);
	EXPECT(f, "key=1");
	fixture_put(f, BASE "key", "2");
	tree_resync(f->tree);
	EXPECT(f, "key=2");
}

static bool is_confirmed_after(struct directory_fixture *f, const void *argument)
{
	const uint64_t *after = argument;

	return f->tree->confirmed_at > *after;
}

static void quiet_contents_are_confirmed(void **state)
{
	struct directory_fixture *f = *state;
	uint64_t first;

	fixture_watches = FIXTURE_WATCHES_ARE_DEAF;
	f->config.wait_usec = 50 * USEC_PER_MSEC;
	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "key", "1");
	fixture_start(f);
	EXPECT(f, "key=1");
	first = f->tree->confirmed_at;
	fixture_run(f, is_confirmed_after, &first);
	assert_int_equal(f->n_changes, 1);
	/* Even a root whose loss nobody told is not confirmed any more. */
	fixture_rename(f, "root", "gone");
	fixture_expect_failure(f, TREE_UNREACHABLE, "/root: ", "key");
}

/* The whole source. */

static void a_reload_may_change_the_root(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE);
	fixture_make_dirs(f, "other/config/billing");
	fixture_put(f, BASE "key", "1\n");
	fixture_put(f, "other/config/billing/key", "2\n");
	fixture_start(f);
	EXPECT(f, "key=1");
	assert_int_equal(directory_source_reconfigure(f->source, &f->config), 0);
	free(f->config.dir);
	f->config.dir = strdup(fixture_path(f, "other"));
	f->config.resync_usec = 60 * USEC_PER_SEC;
	assert_int_equal(directory_source_reconfigure(f->source, &f->config), 0);
	assert_non_null(f->tree->content);
	EXPECT(f, "key=2");
	fixture_put(f, "other/config/billing/key", "3\n");
	EXPECT(f, "key=3");
	f->config.keep_newline = true;
	assert_int_equal(directory_source_reconfigure(f->source, &f->config), 0);
	EXPECT(f, "key=3\n");
	assert_int_equal(f->n_changes, 4);
}

static void a_large_tree_leaves_the_loop_free(void **state)
{
	struct directory_fixture *f = *state;
	size_t n = 0;

	for (int i = 0; i < 20; i++) {
		char dir[32];

		snprintf(dir, sizeof(dir), BASE "%d", i);
		fixture_make_dirs(f, dir);
		for (int k = 0; k < 200; k++, n++) {
			char name[64];

			snprintf(name, sizeof(name), "%s/%d", dir, k);
			fixture_put(f, name, "value");
		}
	}
	fixture_start(f);
	fixture_expect_count(f, n);
	assert_true(f->n_ticks >= n / 512);
	fixture_put(f, BASE "0/0", "other");
	fixture_put(f, BASE "more", "1");
	fixture_expect_count(f, n + 1);
	assert_int_equal(f->n_changes, 2);
}

static unsigned count_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

struct many {
	struct tree *trees[3 * LIMIT_DIRECTORY_SCANS];
	unsigned most_descriptors;
};

static bool all_loaded(struct directory_fixture *f, const void *argument)
{
	struct many *many = (struct many *)(uintptr_t)argument;

	(void)f;
	many->most_descriptors = MAX(many->most_descriptors, count_descriptors());
	for (size_t i = 0; i < ARRAY_SIZE(many->trees); i++)
		if (!many->trees[i]->content)
			return false;
	return true;
}

static void many_trees_take_turns(void **state)
{
	struct directory_fixture *f = *state;
	struct many many = { 0 };
	unsigned n_before;

	fixture_make_dirs(f, BASE);
	for (size_t i = 0; i < ARRAY_SIZE(many.trees); i++) {
		char name[64];

		snprintf(name, sizeof(name), "root/config/s%zu", i);
		fixture_make_dirs(f, name);
		for (int k = 0; k < 20; k++) {
			snprintf(name, sizeof(name), "root/config/s%zu/%d", i, k);
			fixture_put(f, name, "x");
		}
	}
	fixture_start(f);
	n_before = count_descriptors();
	for (size_t i = 0; i < ARRAY_SIZE(many.trees); i++) {
		char prefix[64];

		snprintf(prefix, sizeof(prefix), "config/s%zu/", i);
		assert_int_equal(trees_get(f->trees, prefix, &many.trees[i]), 0);
	}
	fixture_run(f, all_loaded, &many);
	assert_true(many.most_descriptors <= n_before + 2 * LIMIT_DIRECTORY_SCANS);
	for (size_t i = 0; i < ARRAY_SIZE(many.trees); i++) {
		assert_int_equal(many.trees[i]->content->records.n, 20);
		tree_unref(many.trees[i]);
	}
	fixture_put(f, BASE "key", "1");
	EXPECT(f, "key=1");
}

static bool is_called_again(struct directory_fixture *f, const void *argument)
{
	const unsigned *n = argument;

	return f->n_ticks >= *n;
}

static void a_tree_may_go_while_it_is_read(void **state)
{
	struct directory_fixture *f = *state;
	unsigned n_ticks;

	fixture_make_dirs(f, BASE);
	for (int i = 0; i < 3000; i++) {
		char name[64];

		snprintf(name, sizeof(name), BASE "%d", i);
		fixture_put(f, name, "x");
	}
	/* Old enough to be read without waiting. */
	fixture_let_pass(f, 2 * LIMIT_DIRECTORY_FRESH_USEC);
	fixture_start(f);
	n_ticks = f->n_ticks + 2;
	fixture_run(f, is_called_again, &n_ticks);
	assert_null(f->tree->content);
	tree_unobserve(&f->observer);
	f->tree = tree_unref(f->tree);
}

#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, directory_fixture_set_up, directory_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_watches_it_polls),
		TEST(without_inotify_it_polls),
		TEST(the_resync_finds_what_no_notice_told),
		TEST(a_resync_can_be_asked_for),
		TEST(quiet_contents_are_confirmed),
		TEST(a_reload_may_change_the_root),
		TEST(a_large_tree_leaves_the_loop_free),
		TEST(many_trees_take_turns),
		TEST(a_tree_may_go_while_it_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
