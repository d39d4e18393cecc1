#include "test.h"

#include "daemon/log.h"
#include "daemon/trouble.h"
#include "fake-loop.h"
#include "fake-source.h"

#define N_TREES 5

/* The log of this program: lines that are no details. */
static char lines[8][400];
static unsigned n_lines;

void log_event(enum log_level level, const struct log_about *about, const char *format, ...)
{
	static const char *const names[] = { "error: ", "warning: ", "info: " };
	va_list args;
	int len;

	assert_true(!about || about->id);
	if (level == LOG_LEVEL_DEBUG)
		return;
	assert_true(n_lines < ARRAY_SIZE(lines));
	len = snprintf(lines[n_lines], sizeof(lines[0]), "%s", names[level]);
	va_start(args, format);
	vsnprintf(lines[n_lines] + len, sizeof(lines[0]) - (size_t)len, format, args);
	va_end(args);
	n_lines++;
}

struct fixture {
	struct loop *loop;
	struct fake_source fake;
	struct trees *trees;
	struct tree *tree[N_TREES];
};

static const char *const prefixes[N_TREES] = { "a/", "b/", "c/", "d/", "e/" };

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(loop_new(&f->loop), 0);
	fake_source_init(&f->fake);
	assert_int_equal(trees_new(f->loop, &f->fake.source, &f->trees), 0);
	for (unsigned i = 0; i < N_TREES; i++) {
		assert_int_equal(trees_get(f->trees, prefixes[i], &f->tree[i]), 0);
		fake_source_apply(&f->fake, prefixes[i], "k=1", NULL);
	}
	n_lines = 0;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < N_TREES; i++)
		tree_unref(f->tree[i]);
	trees_free(f->trees);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void said(const char *line)
{
	assert_true(n_lines > 0);
	assert_string_equal(lines[0], line);
	memmove(lines[0], lines[1], sizeof(lines) - sizeof(lines[0]));
	n_lines--;
}

static void meet(struct fixture *f, unsigned first, unsigned end, enum tree_error_kind kind,
	const char *words)
{
	for (unsigned i = first; i < end; i++)
		tree_fail(f->tree[i], kind, 0, "%s", words);
}

static void confirm(struct fixture *f, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++)
		tree_confirm(f->tree[i]);
}

static void hold(struct fixture *f, unsigned first, unsigned end, enum tree_doubt doubt)
{
	for (unsigned i = first; i < end; i++) {
		struct kvset *set;

		assert_int_equal(kvset_new(1 << 20, NULL, &set), 0);
		assert_int_equal(kvset_finish(set), 0);
		tree_hold(f->tree[i], set, doubt, doubt == TREE_DATA_LOST ? "lost" : "hidden");
	}
}

static void what_all_trees_meet_is_one_line_and_one_at_the_end(void **state)
{
	struct fixture *f = *state;

	meet(f, 0, N_TREES, TREE_UNREACHABLE, "away");
	said("warning: 5 of 5 prefixes: away; serving the last good contents; "
	     "consulcfg-status names them");
	for (unsigned i = 0; i < 1000; i++) {
		meet(f, 0, N_TREES, i % 2 ? TREE_UNREACHABLE : TREE_TIMEOUT, "away");
		fake_loop_advance(USEC_PER_SEC);
	}
	confirm(f, 0, 4);
	assert_int_equal(n_lines, 0);
	confirm(f, 4, 5);
	said("info: all of 5 prefixes: the source answers again");
	fake_loop_advance(10 * LIMIT_NEWS_USEC);
	assert_int_equal(n_lines, 0);
}

static void what_one_of_many_meets_names_it(void **state)
{
	struct fixture *f = *state;

	meet(f, 2, 3, TREE_LIMIT, "too large");
	assert_int_equal(n_lines, 0);
	fake_loop_advance(LIMIT_GATHER_USEC);
	said("warning: c/: too large; serving the last good contents");
	confirm(f, 2, 3);
	said("info: c/: the source answers again");
	assert_int_equal(n_lines, 0);
}

static void what_is_over_before_it_was_told_is_no_line(void **state)
{
	struct fixture *f = *state;

	meet(f, 0, 4, TREE_UNREACHABLE, "away");
	fake_loop_advance(LIMIT_GATHER_USEC - 1);
	confirm(f, 0, 4);
	fake_loop_advance(10 * LIMIT_NEWS_USEC);
	assert_int_equal(n_lines, 0);
}

static void those_that_join_are_told_together(void **state)
{
	struct fixture *f = *state;

	meet(f, 0, 1, TREE_DENIED, "403");
	fake_loop_advance(LIMIT_GATHER_USEC);
	said("warning: a/: 403; serving the last good contents");
	meet(f, 1, 3, TREE_DENIED, "403");
	fake_loop_advance(LIMIT_NEWS_USEC - 1);
	assert_int_equal(n_lines, 0);
	fake_loop_advance(1);
	said("warning: 3 of 5 prefixes: 403; serving the last good contents; "
	     "consulcfg-status names them");
	meet(f, 3, 4, TREE_DENIED, "403");
	confirm(f, 0, 2);
	fake_loop_advance(LIMIT_NEWS_USEC);
	said("info: 2 prefixes, not 2: the source answers again");
	said("warning: d/: 403; serving the last good contents");
	fake_loop_advance(10 * LIMIT_NEWS_USEC);
	assert_int_equal(n_lines, 0);
}

static void more_trees_at_a_silent_source_are_no_news_until_they_are_twice_as_many(void **state)
{
	struct fixture *f = *state;

	meet(f, 0, 2, TREE_UNREACHABLE, "away");
	fake_loop_advance(LIMIT_GATHER_USEC);
	said("warning: 2 of 5 prefixes: away; serving the last good contents; "
	     "consulcfg-status names them");
	meet(f, 2, 3, TREE_UNREACHABLE, "away");
	fake_loop_advance(10 * LIMIT_NEWS_USEC);
	assert_int_equal(n_lines, 0);
	meet(f, 3, 4, TREE_UNREACHABLE, "away");
	fake_loop_advance(LIMIT_NEWS_USEC);
	said("warning: 4 of 5 prefixes: away; serving the last good contents; "
	     "consulcfg-status names them");
}

static void each_of_two_addresses_has_its_words_once(void **state)
{
	struct fixture *f = *state;

	meet(f, 0, N_TREES, TREE_UNREACHABLE, "one is away");
	n_lines = 0;
	for (unsigned i = 0; i < 600; i++) {
		meet(f, 0, N_TREES, TREE_UNREACHABLE, i % 7 ? "one is away" : "two is away");
		fake_loop_advance(USEC_PER_SEC);
	}
	said("warning: 5 of 5 prefixes: two is away; serving the last good contents; "
	     "consulcfg-status names them");
	assert_int_equal(n_lines, 0);
}

static void a_trouble_that_becomes_another_is_not_over(void **state)
{
	struct fixture *f = *state;

	meet(f, 0, N_TREES, TREE_UNREACHABLE, "away");
	n_lines = 0;
	meet(f, 0, N_TREES, TREE_DENIED, "403");
	said("warning: 5 of 5 prefixes: 403; serving the last good contents; "
	     "consulcfg-status names them");
	confirm(f, 0, N_TREES);
	said("info: all of 5 prefixes: the source answers again");
	assert_int_equal(n_lines, 0);
}

static void trees_without_contents_are_told_apart(void **state)
{
	struct fixture *f = *state;
	struct tree *bare;

	assert_int_equal(trees_get(f->trees, "f/", &bare), 0);
	meet(f, 0, N_TREES, TREE_UNREACHABLE, "away");
	tree_fail(bare, TREE_UNREACHABLE, 0, "away");
	said("warning: 6 of 6 prefixes: away; serving the last good contents of 5, "
	     "no contents yet of 1; consulcfg-status names them");
	confirm(f, 0, N_TREES);
	/* The last one goes while it is in trouble: nobody waits for the end of that. */
	tree_unref(bare);
	fake_loop_advance(10 * LIMIT_NEWS_USEC);
	assert_int_equal(n_lines, 0);
	meet(f, 0, N_TREES, TREE_UNREACHABLE, "away");
	assert_int_equal(n_lines, 1);
}

static void what_is_held_everywhere_is_one_line(void **state)
{
	struct fixture *f = *state;

	hold(f, 0, N_TREES, TREE_ACCESS_LOST);
	hold(f, 0, N_TREES, TREE_ACCESS_LOST);
	said("error: 5 of 5 prefixes: HELD: hidden; serving the last good contents; "
	     "consulcfg-status names them");
	confirm(f, 0, N_TREES);
	said("warning: all of 5 prefixes: no longer held: the source says again what is served");
	hold(f, 4, 5, TREE_ACCESS_LOST);
	fake_loop_advance(LIMIT_GATHER_USEC);
	said("error: e/: HELD: hidden; serving the last good contents of 1 keys instead of 0");
	assert_true(tree_accept(f->tree[4]));
	said("warning: e/: no longer held: an operator accepted what the source says");
	assert_int_equal(n_lines, 0);
}

static void another_doubt_is_told_again(void **state)
{
	struct fixture *f = *state;

	hold(f, 0, 1, TREE_UNCLEAR);
	fake_loop_advance(LIMIT_GATHER_USEC);
	said("error: a/: HELD: hidden; serving the last good contents of 1 keys instead of 0");
	hold(f, 0, 1, TREE_DATA_LOST);
	fake_loop_advance(LIMIT_GATHER_USEC);
	said("error: a/: HELD: lost; serving the last good contents of 1 keys instead of 0");
	assert_int_equal(n_lines, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_all_trees_meet_is_one_line_and_one_at_the_end),
		TEST(what_one_of_many_meets_names_it),
		TEST(what_is_over_before_it_was_told_is_no_line),
		TEST(those_that_join_are_told_together),
		TEST(more_trees_at_a_silent_source_are_no_news_until_they_are_twice_as_many),
		TEST(each_of_two_addresses_has_its_words_once),
		TEST(a_trouble_that_becomes_another_is_not_over),
		TEST(trees_without_contents_are_told_apart),
		TEST(what_is_held_everywhere_is_one_line),
		TEST(another_doubt_is_told_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
