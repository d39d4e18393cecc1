#include "test.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "directory-fixture.h"

#define NOBODY 65534

/* What is a key. */

static void files_below_the_prefix_are_keys(void **state)
{
	struct directory_fixture *f = *state;
	struct record record;
	int fd;

	fixture_make_dirs(f, BASE "db/pool");
	fixture_make_dirs(f, "root/config/other");
	fixture_put(f, BASE "db/url", "postgres://");
	fixture_put(f, BASE "db/pool/size", "10");
	fixture_put(f, BASE "empty", "");
	fixture_put(f, "root/config/other/key", "another prefix");
	fixture_put(f, "root/config/billing2", "another prefix");
	fd = open(fixture_path(f, BASE "binary"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(write(fd, "a\0b", 3), 3);
	close(fd);
	fixture_start(f);
	EXPECT(f, "db/url=postgres://", "db/pool/size=10", "empty=", "binary=a");
	assert_true(fixture_find(f->tree->content, "binary", &record));
	assert_int_equal(record.value_len, 3);
	assert_memory_equal(record.value, "a\0b", 3);
	assert_int_equal(record.modify_index, 0);
	assert_int_equal(record.flags, 0);
	assert_int_equal(f->tree->content->index, 0);
	assert_int_equal(f->n_changes, 1);
}

static void one_final_newline_is_dropped(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "one", "1\n");
	fixture_put(f, BASE "two", "2\n\n");
	fixture_put(f, BASE "only", "\n");
	fixture_put(f, BASE "lines", "a\nb");
	fixture_start(f);
	EXPECT(f, "one=1", "two=2\n", "only=", "lines=a\nb");
}

static void keep_newline_keeps_it(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "one", "1\n");
	f->config.keep_newline = true;
	fixture_start(f);
	EXPECT(f, "one=1\n");
}

static void hidden_names_and_backups_are_ignored(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE ".git");
	fixture_make_dirs(f, BASE "old~");
	fixture_put(f, BASE ".git/config", "x");
	fixture_put(f, BASE "old~/key", "x");
	fixture_put(f, BASE ".url.swp", "x");
	fixture_put(f, BASE "url~", "x");
	fixture_put(f, BASE "url", "x");
	fixture_link(f, "nowhere", BASE ".#url");
	fixture_start(f);
	EXPECT(f, "url=x");
	fixture_put(f, BASE ".new", "y");
	fixture_put(f, BASE "new~", "y");
	fixture_put(f, BASE "new", "y");
	EXPECT(f, "url=x", "new=y");
}

static void double_underscores_are_plain_without_flat(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "db__url", "x");
	fixture_put(f, "root/config__billing__db__name", "y");
	fixture_start(f);
	EXPECT(f, "db__url=x");
}

static void flat_names_may_lead_below_the_prefix(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE "a");
	fixture_make_dirs(f, "root/config/a__b");
	fixture_put(f, BASE "db__url", "1");
	fixture_put(f, "root/config/billing__db__name", "2");
	fixture_put(f, "root/config__billing__db__port", "3");
	fixture_put(f, "root/config__billing2__db__port", "other");
	fixture_put(f, "root/config/a__b/c", "other");
	fixture_put(f, BASE "x___y", "4");
	/* One key in four places: the deepest counts. */
	fixture_put(f, "root/config__billing__a__b", "above");
	fixture_put(f, "root/config/billing__a__b", "above");
	fixture_put(f, BASE "a__b", "beside");
	fixture_put(f, BASE "a/b", "deepest");
	f->config.flat = true;
	fixture_start(f);
	EXPECT(f, "db/url=1", "db/name=2", "db/port=3", "x/_y=4", "a/b=deepest");
	fixture_put(f, "root/config__billing__db__port", "5");
	EXPECT(f, "db/url=1", "db/name=2", "db/port=5", "x/_y=4", "a/b=deepest");
}

static void flat_works_without_the_prefix_directory(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, "root");
	fixture_put(f, "root/config__billing__key", "1");
	f->config.flat = true;
	fixture_start(f);
	EXPECT(f, "key=1");
}

static void what_is_no_file_is_no_key(void **state)
{
	struct directory_fixture *f = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	fixture_make_dirs(f, BASE);
	assert_return_code(mkfifo(fixture_path(f, BASE "fifo"), 0644), errno);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", fixture_path(f, BASE "socket"));
	assert_return_code(bind(fd, (struct sockaddr *)&address, sizeof(address)), errno);
	close(fd);
	fixture_link(f, "/dev/zero", BASE "device");
	fixture_link(f, "fifo", BASE "fifo-link");
	fixture_put(f, BASE "key", "x");
	fixture_start(f);
	EXPECT(f, "key=x");
}

static void keys_that_are_not_utf8_are_skipped_and_counted(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "\xff", "x");
	fixture_put(f, BASE "key", "x");
	fixture_start(f);
	EXPECT(f, "key=x");
	assert_int_equal(f->tree->content->n_skipped, 1);
}

static void prefixes_do_not_lead_out_of_the_root(void **state)
{
	struct directory_fixture *f = *state;
	struct tree *tree;

	fixture_make_dirs(f, "root/config");
	fixture_make_dirs(f, "outside");
	fixture_put(f, "outside/key", "secret");
	fixture_start(f);
	assert_int_equal(trees_get(f->trees, "config/../../outside/", &tree), 0);
	EXPECT_NOTHING(f);
	tree_unobserve(&f->observer);
	tree_unref(f->tree);
	f->tree = tree;
	tree_observe(f->tree, &f->observer);
	EXPECT_NOTHING(f);
}

/* Missing things. */

static void a_missing_root_is_a_source_that_is_away(void **state)
{
	struct directory_fixture *f = *state;

	fixture_start(f);
	fixture_expect_failure(f, TREE_UNREACHABLE, "/root: ", "key");
	assert_null(f->tree->content);
	fixture_make_dirs(f, "new/config/billing");
	fixture_put(f, "new/config/billing/key", "1");
	fixture_rename(f, "new", "root");
	EXPECT(f, "key=1");
	fixture_rename(f, "root", "gone");
	fixture_expect_failure(f, TREE_UNREACHABLE, "/root: ", "key");
	fixture_rename(f, "gone", "root");
	EXPECT(f, "key=1");
	fixture_delete_all(f, "root");
	fixture_expect_failure(f, TREE_UNREACHABLE, "/root: ", "key");
	fixture_put(f, "root", "a file");
	fixture_expect_failure(f, TREE_UNREACHABLE, "/root: Not a directory", "key");
	assert_int_equal(f->n_changes, 1);
}

static void a_root_that_is_far_from_being_there_is_found(void **state)
{
	struct directory_fixture *f = *state;

	free(f->config.dir);
	f->config.dir = strdup(fixture_path(f, "a/b/c"));
	fixture_start(f);
	fixture_expect_failure(f, TREE_UNREACHABLE, "/a/b/c: ", "key");
	fixture_make_dirs(f, "a/b/c/config/billing");
	fixture_put(f, "a/b/c/config/billing/key", "1");
	EXPECT(f, "key=1");
}

static void a_missing_prefix_is_empty(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, "root");
	fixture_start(f);
	EXPECT_NOTHING(f);
	fixture_make_dirs(f, BASE "db");
	fixture_put(f, BASE "db/url", "1");
	EXPECT(f, "db/url=1");
	fixture_delete_all(f, "root/config");
	EXPECT_NOTHING(f);
	fixture_put(f, "root/config", "a file");
	fixture_make_dirs(f, "new/billing");
	fixture_put(f, "new/billing/key", "2");
	fixture_delete(f, "root/config");
	fixture_rename(f, "new", "root/config");
	EXPECT(f, "key=2");
}

static void an_unmounted_root_deletes_nothing(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, "root");
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("test", fixture_path(f, "root"), "tmpfs", 0, "size=1m") < 0)
		skip();
	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "key", "1");
	fixture_start(f);
	EXPECT(f, "key=1");
	assert_return_code(umount2(fixture_path(f, "root"), MNT_DETACH), errno);
	fixture_expect_failure(f, TREE_UNREACHABLE, "mounted", "key");
	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "key", "2");
	EXPECT(f, "key=2");
}

/* What cannot be read. */

static void become(uid_t uid)
{
	assert_return_code(seteuid(uid), errno);
	/* Else /proc/self/fd belongs to root. */
	assert_return_code(prctl(PR_SET_DUMPABLE, 1), errno);
}

/* Runs the loop without root's right to read everything. */
static void expect_denied(struct directory_fixture *f, const char *text)
{
	bool is_root = geteuid() == 0;

	if (is_root)
		become(NOBODY);
	fixture_expect_failure(f, TREE_DENIED, text, "key");
	if (is_root)
		become(0);
}

static void what_is_unreadable_loses_nothing(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE "dir");
	fixture_put(f, BASE "key", "1");
	fixture_put(f, BASE "dir/key", "1");
	fixture_start(f);
	EXPECT(f, "key=1", "dir/key=1");
	assert_return_code(chmod(fixture_path(f, BASE "key"), 0), errno);
	expect_denied(f, "/billing/key: ");
	assert_return_code(chmod(fixture_path(f, BASE "key"), 0644), errno);
	EXPECT(f, "key=1", "dir/key=1");
	assert_return_code(chmod(fixture_path(f, BASE "dir"), 0), errno);
	expect_denied(f, "/billing/dir: ");
	assert_return_code(chmod(fixture_path(f, BASE "dir"), 0755), errno);
	EXPECT(f, "key=1", "dir/key=1");
	assert_return_code(chmod(fixture_path(f, "root"), 0), errno);
	expect_denied(f, "/root");
	assert_return_code(chmod(fixture_path(f, "root"), 0755), errno);
	EXPECT(f, "key=1", "dir/key=1");
	assert_int_equal(f->n_changes, 1);
}

static void a_link_to_nothing_loses_nothing(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE);
	fixture_make_dirs(f, "volume");
	fixture_put(f, "volume/file", "1");
	fixture_link(f, fixture_path(f, "volume/file"), BASE "key");
	fixture_start(f);
	EXPECT(f, "key=1");
	fixture_rename(f, "volume", "away");
	fixture_expect_failure(f, TREE_UNREACHABLE, "/billing/key: ", "key");
	fixture_rename(f, "away", "volume");
	EXPECT(f, "key=1");
	fixture_rename(f, "root/config/billing", "volume/billing");
	fixture_link(f, fixture_path(f, "volume/billing"), "root/config/billing");
	EXPECT(f, "key=1");
	fixture_rename(f, "volume/billing", "volume/elsewhere");
	fixture_expect_failure(f, TREE_UNREACHABLE, "/config/billing: ", "key");
	assert_int_equal(f->n_changes, 1);
}

static void links_that_lead_to_each_other_end(void **state)
{
	struct directory_fixture *f = *state;

	fixture_make_dirs(f, BASE "dir");
	fixture_put(f, BASE "key", "1");
	fixture_start(f);
	EXPECT(f, "key=1");
	fixture_link(f, "loop", BASE "loop");
	fixture_expect_failure(f, TREE_INVALID, "/billing/loop: ", "key");
	fixture_delete(f, BASE "loop");
	EXPECT(f, "key=1");
	fixture_link(f, "..", BASE "dir/up");
	fixture_link(f, "..", BASE "dir/again");
	fixture_expect_failure(f, TREE_LIMIT, "too deep", "key");
	fixture_delete(f, BASE "dir/up");
	fixture_delete(f, BASE "dir/again");
	EXPECT(f, "key=1");
}

static void too_much_is_refused(void **state)
{
	struct directory_fixture *f = *state;

	f->config.max_value = 100;
	f->config.max_service = 400;
	fixture_make_dirs(f, BASE);
	fixture_put(f, BASE "key", "1");
	fixture_start(f);
	EXPECT(f, "key=1");
	fixture_put(f, "large", "");
	assert_return_code(truncate(fixture_path(f, "large"), 101), errno);
	fixture_rename(f, "large", BASE "large");
	fixture_expect_failure(f, TREE_LIMIT, "/billing/large: larger than max_value", "key");
	fixture_delete(f, BASE "large");
	EXPECT(f, "key=1");
	for (int i = 0; i < 8; i++) {
		char name[64];

		snprintf(name, sizeof(name), BASE "part%d", i);
		fixture_put(f, "part", "");
		assert_return_code(truncate(fixture_path(f, "part"), 90), errno);
		fixture_rename(f, "part", name);
	}
	fixture_expect_failure(f, TREE_LIMIT, "max_service", "key");
	assert_int_equal(f->n_changes, 1);
}

#define TEST(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, directory_fixture_set_up, directory_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(files_below_the_prefix_are_keys),
		TEST(one_final_newline_is_dropped),
		TEST(keep_newline_keeps_it),
		TEST(hidden_names_and_backups_are_ignored),
		TEST(double_underscores_are_plain_without_flat),
		TEST(flat_names_may_lead_below_the_prefix),
		TEST(flat_works_without_the_prefix_directory),
		TEST(what_is_no_file_is_no_key),
		TEST(keys_that_are_not_utf8_are_skipped_and_counted),
		TEST(prefixes_do_not_lead_out_of_the_root),
		TEST(a_missing_root_is_a_source_that_is_away),
		TEST(a_root_that_is_far_from_being_there_is_found),
		TEST(a_missing_prefix_is_empty),
		TEST(what_is_unreadable_loses_nothing),
		TEST(a_link_to_nothing_loses_nothing),
		TEST(links_that_lead_to_each_other_end),
		TEST(too_much_is_refused),
		/* Last: it leaves the process in a mount namespace of its own. */
		TEST(an_unmounted_root_deletes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
