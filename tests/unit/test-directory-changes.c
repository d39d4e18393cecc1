#include "test.h"

#include <fcntl.h>
#include <limits.h>

#include "directory-fixture.h"

/* Changes. */

static void changes_are_seen(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "a", "1");
	fixture_put(f, BASE "b", "1");
	fixture_start(f);
	EXPECT(f, "a=1", "b=1");
	fixture_put(f, BASE "a", "2");
	EXPECT(f, "a=2", "b=1");
	fixture_put(f, BASE "c", "3");
	EXPECT(f, "a=2", "b=1", "c=3");
	fixture_delete(f, BASE "b");
	EXPECT(f, "a=2", "c=3");
	fixture_rename(f, BASE "c", BASE "d");
	EXPECT(f, "a=2", "d=3");
	fixture_put(f, "new", "4");
	fixture_rename(f, "new", BASE "a");
	EXPECT(f, "a=4", "d=3");
	fixture_rename(f, BASE "d", "away");
	EXPECT(f, "a=4");
	fixture_make_dirs(f, BASE "x/y");
	fixture_put(f, BASE "x/y/z", "5");
	EXPECT(f, "a=4", "x/y/z=5");
	fixture_rename(f, BASE "x", BASE "w");
	EXPECT(f, "a=4", "w/y/z=5");
	fixture_delete_all(f, BASE "w");
	EXPECT(f, "a=4");
	fixture_put(f, BASE "a", "");
	EXPECT(f, "a=");
}

static void one_change_is_seen_at_once(void **state)
{
	struct directory_fixture *f = *state;
	uint64_t best = UINT64_MAX;

	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "key", "x");
	fixture_start(f);
	EXPECT(f, "key=x");
	for (int i = 0; i < 10; i++) {
		char pair[16];
		uint64_t begin = loop_now();

		snprintf(pair, sizeof(pair), "key=%d", i);
		fixture_put(f, BASE "key", pair + 4);
		EXPECT(f, pair);
		best = MIN(best, loop_now() - begin);
	}
	assert_true(best < 15 * USEC_PER_MSEC);
}

static void a_burst_is_one_answer(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "key0", "0");
	fixture_start(f);
	EXPECT(f, "key0=0");
	for (int i = 1; i <= 3; i++) {
		char name[64];

		snprintf(name, sizeof(name), BASE "key%d", i);
		fixture_put(f, name, "1");
	}
	fixture_delete(f, BASE "key0");
	EXPECT(f, "key1=1", "key2=1", "key3=1");
	assert_int_equal(f->n_changes, 2);
}

static void a_new_hard_link_is_seen(void **state)
{
	struct directory_fixture *f = *state;
	char old[PATH_MAX];
	uint64_t begin;

	fixture_make_dirs(f, BASE);
	fixture_put(f, "file", "x");
	fixture_start(f);
	EXPECT_NOTHING(f);
	strcpy(old, fixture_path(f, "file"));
	begin = loop_now();
	assert_return_code(link(old, fixture_path(f, BASE "key")), errno);
	EXPECT(f, "key=x");
	assert_true(loop_now() - begin < LIMIT_DIRECTORY_WRITING_USEC);
}

static void a_file_that_gets_its_name_late_is_seen(void **state)
{
	struct directory_fixture *f = *state;
	char unnamed[64];
	uint64_t begin;
	int fd;

	fixture_make_dirs(f, BASE);
	fixture_start(f);
	EXPECT_NOTHING(f);
	fd = open(fixture_path(f, BASE), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0644);
	if (fd < 0)
		skip();
	assert_int_equal(write(fd, "x", 1), 1);
	snprintf(unnamed, sizeof(unnamed), "/proc/self/fd/%d", fd);
	begin = loop_now();
	assert_return_code(
		linkat(AT_FDCWD, unnamed, AT_FDCWD, fixture_path(f, BASE "key"), AT_SYMLINK_FOLLOW),
		errno);
	EXPECT(f, "key=x");
	assert_true(loop_now() - begin < LIMIT_DIRECTORY_WRITING_USEC);
	close(fd);
}

static void a_new_symbolic_link_is_seen(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE);
	fixture_put(f, "file", "x");
	fixture_start(f);
	EXPECT_NOTHING(f);
	fixture_link(f, "../../../file", BASE "key");
	EXPECT(f, "key=x");
	fixture_put(f, "file", "y");
	EXPECT(f, "key=y");
}

static void an_overflown_queue_loses_nothing(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "key", "1");
	fixture_start(f);
	EXPECT(f, "key=1");
	for (int i = 0; i < 12000; i++) {
		fixture_put(f, BASE ".noise", "");
		fixture_delete(f, BASE ".noise");
	}
	fixture_put(f, BASE "key", "2");
	EXPECT(f, "key=2");
}

/* Links that are switched. */

static void link_targets_are_followed(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, "root/config");
	fixture_make_dirs(f, "shared/deep");
	fixture_make_dirs(f, "other");
	fixture_put(f, "shared/deep/key", "1");
	fixture_put(f, "other/file", "1");
	fixture_link(f, "../../shared", "root/config/billing");
	fixture_link(f, "../../other/file", "shared/deep/link");
	fixture_start(f);
	EXPECT(f, "deep/key=1", "deep/link=1");
	fixture_put(f, "shared/deep/key", "2");
	EXPECT(f, "deep/key=2", "deep/link=1");
	fixture_put(f, "other/file", "2");
	EXPECT(f, "deep/key=2", "deep/link=2");
	fixture_link(f, "../other", "shared/dir");
	EXPECT(f, "deep/key=2", "deep/link=2", "dir/file=2");
	fixture_put(f, "other/more", "3");
	EXPECT(f, "deep/key=2", "deep/link=2", "dir/file=2", "dir/more=3");
}

static void a_root_that_is_switched_is_followed(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, "releases/1/config/billing");
	fixture_make_dirs(f, "releases/2/config/billing");
	fixture_put(f, "releases/1/config/billing/key", "1");
	fixture_put(f, "releases/2/config/billing/key", "2");
	fixture_link(f, "releases/1", "root");
	fixture_start(f);
	EXPECT(f, "key=1");
	fixture_link(f, "releases/2", "root.new");
	fixture_rename(f, "root.new", "root");
	EXPECT(f, "key=2");
	fixture_put(f, "releases/2/config/billing/key", "3");
	EXPECT(f, "key=3");
	fixture_rename(f, "releases/2", "releases/3");
	fixture_rename(f, "releases/1", "releases/2");
	EXPECT(f, "key=1");
}

/* What Kubernetes does to a ConfigMap volume, in its order. */
static void publish_config_map(struct directory_fixture *f, const char *volume, int n)
{
	static const char *const keys[] = { "a", "b", "c" };
	char name[64], from[64], value[16];

	snprintf(value, sizeof(value), "%d", n);
	snprintf(name, sizeof(name), "%s..%d", volume, n);
	fixture_make_dirs(f, name);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		snprintf(name, sizeof(name), "%s..%d/%s", volume, n, keys[i]);
		fixture_put(f, name, value);
	}
	snprintf(value, sizeof(value), "..%d", n);
	snprintf(from, sizeof(from), "%s..data_tmp", volume);
	fixture_link(f, value, from);
	snprintf(name, sizeof(name), "%s..data", volume);
	fixture_rename(f, from, name);
	for (size_t i = 0; i < ARRAY_SIZE(keys) && n == 0; i++) {
		char target[16];

		snprintf(target, sizeof(target), "..data/%s", keys[i]);
		snprintf(name, sizeof(name), "%s%s", volume, keys[i]);
		fixture_link(f, target, name);
	}
	snprintf(name, sizeof(name), "%s..%d", volume, n - 1);
	if (n > 0)
		fixture_delete_all(f, name);
}

static bool is_one_generation(const struct kvset *content)
{
	struct record a, b, c;

	return content->records.n == 3 && fixture_find(content, "a", &a) &&
	       fixture_find(content, "b", &b) && fixture_find(content, "c", &c) &&
	       std_streq(a.value, b.value) && std_streq(b.value, c.value);
}

static void a_config_map_changes_as_one(void **state)
{
	struct directory_fixture *f = *state;
	pid_t child;

	fixture_make_dirs(f, BASE);
	publish_config_map(f, BASE, 0);
	f->invariant = is_one_generation;
	fixture_start(f);
	EXPECT(f, "a=0", "b=0", "c=0");
	publish_config_map(f, BASE, 1);
	EXPECT(f, "a=1", "b=1", "c=1");
	child = fork();
	if (child == 0) {
		for (int i = 2; i < 200; i++) {
			publish_config_map(f, BASE, i);
			usleep(2000 + 500 * (unsigned)(i % 20));
		}
		_exit(0);
	}
	fixture_wait_for(f, child);
	EXPECT(f, "a=199", "b=199", "c=199");
	assert_true(f->n_changes > 3);
}

static void a_key_leaves_a_config_map_without_a_failure(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE);
	publish_config_map(f, BASE, 0);
	fixture_start(f);
	EXPECT(f, "a=0", "b=0", "c=0");
	publish_config_map(f, BASE, 1);
	fixture_delete(f, BASE "..1/c");
	fixture_delete(f, BASE "c");
	EXPECT(f, "a=1", "b=1");
	assert_false(f->tree->error.is_set);
}

/* Files that are being written. */

static bool slow_is_whole(const struct kvset *content)
{
	struct record record;

	return !fixture_find(content, "slow", &record) || std_streq(record.value, "old") ||
	       std_streq(record.value, "whole");
}

static void a_file_counts_when_it_is_closed(void **state)
{
	struct directory_fixture *f = *state;
	int fd;

	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "key", "1");
	f->invariant = slow_is_whole;
	fixture_start(f);
	EXPECT(f, "key=1");
	fd = open(fixture_path(f, BASE "slow"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	fixture_put(f, BASE "key", "2");
	fixture_let_pass(f, 100 * USEC_PER_MSEC);
	assert_int_equal(write(fd, "who", 3), 3);
	fixture_put(f, BASE "key", "3");
	fixture_let_pass(f, 100 * USEC_PER_MSEC);
	assert_int_equal(write(fd, "le", 2), 2);
	assert_int_equal(f->n_changes, 1);
	close(fd);
	EXPECT(f, "key=3", "slow=whole");
	assert_int_equal(f->n_changes, 2);
}

static void a_file_that_is_rewritten_is_never_seen_empty(void **state)
{
	struct directory_fixture *f = *state;
	int fd;

	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "slow", "old");
	f->invariant = slow_is_whole;
	fixture_start(f);
	EXPECT(f, "slow=old");
	fd = open(fixture_path(f, BASE "slow"), O_WRONLY | O_TRUNC | O_CLOEXEC);
	fixture_put(f, BASE "key", "1");
	fixture_let_pass(f, 100 * USEC_PER_MSEC);
	assert_int_equal(write(fd, "whole", 5), 5);
	close(fd);
	EXPECT(f, "key=1", "slow=whole");
}

static void a_file_in_a_new_directory_is_never_seen_empty(void **state)
{
	struct directory_fixture *f = *state;
	int fd;

	fixture_make_dirs(f, BASE);
	f->invariant = slow_is_whole;
	fixture_start(f);
	EXPECT_NOTHING(f);
	fixture_make_dirs(f, "new");
	fd = open(fixture_path(f, "new/slow"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	fixture_rename(f, "root/config/billing", "old");
	fixture_rename(f, "new", "root/config/billing");
	fixture_let_pass(f, 100 * USEC_PER_MSEC);
	assert_int_equal(write(fd, "whole", 5), 5);
	close(fd);
	EXPECT(f, "slow=whole");
}

static void a_file_that_stays_open_counts_in_the_end(void **state)
{
	struct directory_fixture *f = *state;
	int fd;

	fixture_make_dirs(f, BASE);
	fixture_start(f);
	EXPECT_NOTHING(f);
	fd = open(fixture_path(f, BASE "log"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(write(fd, "line", 4), 4);
	EXPECT(f, "log=line");
	close(fd);
}

static bool is_uniform(const struct kvset *content)
{
	struct record record;

	if (!fixture_find(content, "file", &record) || record.value_len != 200000)
		return false;
	for (uint32_t i = 1; i < record.value_len; i++)
		if (record.value[i] != record.value[0])
			return false;
	return true;
}

static void write_uniform(
	struct directory_fixture *f, const char *name, int letter, bool is_in_place)
{
	static char text[200000];
	int fd = open(fixture_path(f, name),
		O_WRONLY | O_CREAT | O_CLOEXEC | (is_in_place ? 0 : O_TRUNC), 0644);

	memset(text, letter, sizeof(text));
	for (size_t off = 0; off < sizeof(text); off += 20000)
		assert_int_equal(write(fd, text + off, 20000), 20000);
	close(fd);
}

static void a_file_is_never_seen_half_written(void **state)
{
	struct directory_fixture *f = *state;
	pid_t child;

	fixture_make_dirs(f, BASE);
	write_uniform(f, BASE "file", 'a', false);
	f->invariant = is_uniform;
	fixture_start(f);
	fixture_expect_count(f, 1);
	child = fork();
	if (child == 0) {
		for (int i = 0; i < 200; i++) {
			write_uniform(f, BASE "file", 'a' + i % 26, i % 2 == 0);
			usleep(1000 + 500 * (unsigned)(i % 20));
		}
		write_uniform(f, "new", 'z', false);
		fixture_rename(f, "new", BASE "file");
		_exit(0);
	}
	fixture_wait_for(f, child);
	assert_true(f->n_changes > 3);
	fixture_put(f, BASE "end", "1");
	fixture_expect_count(f, 2);
}

#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, directory_fixture_set_up, directory_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(changes_are_seen),
		TEST(one_change_is_seen_at_once),
		TEST(a_burst_is_one_answer),
		TEST(a_new_hard_link_is_seen),
		TEST(a_file_that_gets_its_name_late_is_seen),
		TEST(a_new_symbolic_link_is_seen),
		TEST(an_overflown_queue_loses_nothing),
		TEST(link_targets_are_followed),
		TEST(a_root_that_is_switched_is_followed),
		TEST(a_config_map_changes_as_one),
		TEST(a_key_leaves_a_config_map_without_a_failure),
		TEST(a_file_counts_when_it_is_closed),
		TEST(a_file_that_is_rewritten_is_never_seen_empty),
		TEST(a_file_in_a_new_directory_is_never_seen_empty),
		TEST(a_file_that_stays_open_counts_in_the_end),
		TEST(a_file_is_never_seen_half_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
