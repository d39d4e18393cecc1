#include "test.h"

#include <grp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "daemon/access.h"

/* Ids that no host gives to anybody. */
#define STRANGER 3999999991u
#define STRANGE_GROUP 3999999992u
#define OTHER_GROUP 3999999993u

static const struct access_peer stranger = { .uid = STRANGER, .gid = STRANGE_GROUP };

/* A file of groups, or of users, that exists as long as the test. */
struct group_file {
	char path[64];
};

static int new_names(const char *users, const char *groups, struct config *config)
{
	const struct access_files files = {
		.users = users ? users : "/nonexistent/passwd",
		.groups = groups ? groups : "/nonexistent/group",
		.dynamic_users = "/nonexistent/users",
	};

	return access_names_new(&files, &config->names);
}

static int set_up(void **state)
{
	struct group_file *file = calloc(1, sizeof(*file));
	int fd;

	strcpy(file->path, "/tmp/test-access.XXXXXX");
	fd = mkstemp(file->path);
	assert_true(fd >= 0);
	close(fd);
	*state = file;
	return 0;
}

static int tear_down(void **state)
{
	struct group_file *file = *state;

	unlink(file->path);
	free(file);
	return 0;
}

/* Replaces the file the way tools do: by a new one under its name. */
static void write_groups(const struct group_file *file, const char *text)
{
	char path[80];
	FILE *out;

	snprintf(path, sizeof(path), "%s.new", file->path);
	out = fopen(path, "w");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
	assert_int_equal(rename(path, file->path), 0);
}

/* The group of the stranger decides, with nothing but the default rule. */
static bool may_read_by_group(const char *groups, const char *service, void **state)
{
	struct config config = { 0 };
	bool may;

	write_groups(*state, groups);
	assert_int_equal(new_names(NULL, ((struct group_file *)*state)->path, &config), 0);
	may = access_may_read(&config, &stranger, service);
	access_names_free(config.names);
	return may;
}

static void a_subject_is_a_user_a_group_or_anyone(void **state)
{
	static const char *const good[] = { "anyone", "user:root", "group:root", "user:0",
		"user:DOMAIN\\name", "group:a:b" };
	static const char *const bad[] = { "", "root", "user", "user:", "group:", "users:root",
		"Anyone", "anyone:", "everyone", ":root", " user:root" };
	struct access_subject subject;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(access_subject_is_valid(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_false(access_subject_is_valid(bad[i]));
		assert_int_equal(access_subject_resolve(bad[i], &subject), -EINVAL);
	}
}

static void a_subject_is_looked_up_by_name_or_number(void **state)
{
	static const struct {
		const char *text;
		int result;
		enum access_kind kind;
		uint32_t id;
	} rows[] = {
		{ "anyone", 0, ACCESS_ANYONE, 0 },
		{ "user:root", 0, ACCESS_USER, 0 },
		{ "group:root", 0, ACCESS_GROUP, 0 },
		{ "user:3999999991", 0, ACCESS_USER, STRANGER },
		{ "group:3999999992", 0, ACCESS_GROUP, STRANGE_GROUP },
		{ "user:no-such-user-here", -ENOENT, 0, 0 },
		{ "group:no-such-group-here", -ENOENT, 0, 0 },
		{ "user:-1", -ENOENT, 0, 0 },
		{ "user:4294967295", -ENOENT, 0, 0 },
		{ "user:4294967296", -ENOENT, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct access_subject subject = { ACCESS_NOBODY, 4711 };
		int r = access_subject_resolve(rows[i].text, &subject);

		if (r != rows[i].result)
			fail_msg("%s: %d", rows[i].text, r);
		assert_int_equal(subject.kind, r == 0 ? rows[i].kind : ACCESS_NOBODY);
		assert_int_equal(subject.id, r == 0 ? rows[i].id : 4711);
	}
}

static void root_and_the_daemons_user_read_without_a_rule(void **state)
{
	const struct config config = { 0 };
	const struct access_peer root = { .uid = 0, .gid = STRANGE_GROUP };
	const struct access_peer self = { .uid = geteuid(), .gid = STRANGE_GROUP };

	(void)state;
	assert_true(access_may_read(&config, &root, "billing"));
	assert_true(access_may_read(&config, &self, "billing"));
	assert_false(access_may_read(&config, &stranger, "billing"));
}

static void the_group_consulcfg_reads_without_a_rule(void **state)
{
	assert_true(may_read_by_group("consulcfg:x:3999999992:\n", "billing", state));
	assert_false(may_read_by_group("consulcfg:x:3999999993:\n", "billing", state));
	assert_false(may_read_by_group("consulcfgd:x:3999999992:\n", "billing", state));
}

static void the_group_named_like_the_service_reads_without_a_rule(void **state)
{
	static const char groups[] = "root:x:0:\n"
				     "zebra:x:3999999993:\n"
				     "billing:x:3999999992:alice,bob\n"
				     "apple:x:3999999993:\n";

	assert_true(may_read_by_group(groups, "billing", state));
	assert_false(may_read_by_group(groups, "zebra", state));
	assert_false(may_read_by_group(groups, "bill", state));
	assert_false(may_read_by_group(groups, "billings", state));
}

static void odd_lines_of_the_group_file_let_nobody_in(void **state)
{
	static const char *const rows[] = { "", "\n", "billing", "billing\n", "billing:x\n",
		"billing:x:\n", "billing:x:y\n", "billing:x:-3999999992:\n",
		"billing:x:3999999992x:\n", "billing:x:4294967295:\n", " billing:x:3999999992:\n",
		"+billing:x:3999999992:\n", "#billing:x:3999999992:\n", ":x:3999999992:\n",
		"billing/:x:3999999992:\n" };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (may_read_by_group(rows[i], "billing", state))
			fail_msg("row %zu", i);
	assert_true(may_read_by_group("junk\nbilling:x:3999999992", "billing", state));
}

static void without_a_group_file_there_are_no_groups(void **state)
{
	struct config config = { 0 };

	(void)state;
	assert_int_equal(new_names(NULL, NULL, &config), 0);
	assert_false(access_may_read(&config, &stranger, "billing"));
	access_names_free(config.names);
	assert_null(access_names_free(NULL));
}

static void a_changed_group_file_is_read_again(void **state)
{
	const struct group_file *file = *state;
	struct config config = { 0 };
	bool may = false;

	write_groups(file, "billing:x:3999999993:\n");
	assert_int_equal(new_names(NULL, file->path, &config), 0);
	assert_false(access_may_read(&config, &stranger, "billing"));
	write_groups(file, "billing:x:3999999992:\n");
	for (int i = 0; i < 500 && !may; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
		may = access_may_read(&config, &stranger, "billing");
	}
	assert_true(may);
	unlink(file->path); /* a moment in which it is being replaced */
	nanosleep(&(struct timespec){ .tv_sec = 1, .tv_nsec = 100000000 }, NULL);
	assert_true(access_may_read(&config, &stranger, "billing"));
	access_names_free(config.names);
}

static void the_user_named_like_the_service_reads_without_a_rule(void **state)
{
	const struct group_file *file = *state;
	struct config config = { 0 };

	write_groups(file, "root:x:0:0:root:/root:/bin/sh\n"
			   "billing:x:3999999991:100:a user:/home:/bin/sh\n"
			   "web:x:3999999992:100::/:/bin/sh\n");
	assert_int_equal(new_names(file->path, NULL, &config), 0);
	assert_true(access_may_read(&config, &stranger, "billing"));
	assert_false(access_may_read(&config, &stranger, "web"));
	assert_false(access_may_read(&config, &stranger, "some-other-service"));
	access_names_free(config.names);
}

static void a_dynamic_user_named_like_the_service_reads_as_long_as_it_exists(void **state)
{
	char directory[] = "/tmp/test-access.XXXXXX", path[80];
	const struct access_files files = { "/nonexistent/passwd", "/nonexistent/group",
		directory };
	struct config config = { 0 };

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/direct:%u", directory, STRANGER);
	assert_int_equal(access_names_new(&files, &config.names), 0);
	assert_false(access_may_read(&config, &stranger, "billing"));
	assert_int_equal(symlink("billing", path), 0);
	assert_true(access_may_read(&config, &stranger, "billing"));
	assert_false(access_may_read(&config, &stranger, "bill"));
	assert_false(access_may_read(&config, &stranger, "billings"));
	assert_int_equal(unlink(path), 0);
	assert_false(access_may_read(&config, &stranger, "billing"));
	assert_int_equal(rmdir(directory), 0);
	access_names_free(config.names);
}

static void with_a_rule_only_those_it_names_read(void **state)
{
	static const struct {
		struct access_subject subjects[2];
		unsigned n_subjects;
		bool root, user, group, supplementary;
	} rows[] = {
		{ { { ACCESS_ANYONE, 0 } }, 1, true, true, true, true },
		{ { { ACCESS_NOBODY, 0 } }, 1, false, false, false, false },
		{ { { ACCESS_USER, STRANGER } }, 1, false, true, false, false },
		{ { { ACCESS_USER, 0 } }, 1, true, false, false, false },
		{ { { ACCESS_GROUP, STRANGE_GROUP } }, 1, false, false, true, true },
		{ { { ACCESS_USER, 0 }, { ACCESS_USER, STRANGER } }, 2, true, true, false, false },
		{ { { ACCESS_NOBODY, 0 }, { ACCESS_USER, 0 } }, 2, true, false, false, false },
	};
	const struct access_peer root = { .uid = 0, .gid = OTHER_GROUP };
	const struct access_peer user = { .uid = STRANGER, .gid = OTHER_GROUP };
	const struct access_peer group = { .uid = 1, .gid = STRANGE_GROUP };
	const struct access_peer supplementary = {
		.uid = 1,
		.gid = OTHER_GROUP,
		.groups = { 7, STRANGE_GROUP },
		.n_groups = 2,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct access_subject subjects[2];
		struct config_rule rule = {
			.glob = (char[]){ "b*" },
			.access_subjects = subjects,
			.n_access = rows[i].n_subjects,
		};
		const struct config config = { .rules = &rule, .n_rules = 1 };

		memcpy(subjects, rows[i].subjects, sizeof(subjects));
		assert_int_equal(access_may_read(&config, &root, "billing"), rows[i].root);
		assert_int_equal(access_may_read(&config, &user, "billing"), rows[i].user);
		assert_int_equal(access_may_read(&config, &group, "billing"), rows[i].group);
		assert_int_equal(
			access_may_read(&config, &supplementary, "billing"), rows[i].supplementary);
		/* No rule for this one. */
		assert_true(access_may_read(&config, &root, "web"));
		assert_false(access_may_read(&config, &user, "web"));
	}
}

static void operators_are_those_named(void **state)
{
	struct access_subject subjects[] = { { ACCESS_USER, 0 }, { ACCESS_GROUP, STRANGE_GROUP } };
	const struct access_peer root = { .uid = 0, .gid = OTHER_GROUP };
	struct config config = { .operator_subjects = subjects, .n_operators = 1 };

	(void)state;
	assert_true(access_is_operator(&config, &root));
	assert_false(access_is_operator(&config, &stranger));
	config.n_operators = 2;
	assert_true(access_is_operator(&config, &stranger));
	config.n_operators = 0;
	assert_false(access_is_operator(&config, &root));
}

static void a_peer_is_known_by_its_credentials(void **state)
{
	struct access_peer peer;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(access_peer_of(fds[0], &peer), 0);
	assert_int_equal(peer.uid, geteuid());
	assert_int_equal(peer.gid, getegid());
	assert_int_equal(peer.n_groups, MIN(getgroups(0, NULL), ACCESS_MAX_GROUPS));
	close(fds[0]);
	close(fds[1]);
}

static void what_has_no_credentials_is_no_peer(void **state)
{
	struct access_peer peer;
	AUTO_CLOSE int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	AUTO_CLOSE int unconnected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(access_peer_of(fds[0], &peer), -ENOTSOCK);
	close(fds[0]);
	close(fds[1]);
	assert_true(access_peer_of(tcp, &peer) < 0);
	assert_true(access_peer_of(unconnected, &peer) < 0);
	assert_int_equal(access_peer_of(-1, &peer), -EBADF);
}

/* Exits 0 when a peer of 100 groups is taken with its first 64. */
static void be_in_many_groups(void)
{
	struct access_peer peer;
	gid_t groups[100];
	int fds[2];

	for (unsigned i = 0; i < ARRAY_SIZE(groups); i++)
		groups[i] = 1000 + i;
	if (setgroups(ARRAY_SIZE(groups), groups) < 0)
		_exit(errno == EPERM ? 0 : 1); /* not root: nothing to see */
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 || access_peer_of(fds[0], &peer) < 0)
		_exit(2);
	_exit(peer.n_groups == ACCESS_MAX_GROUPS && peer.groups[63] == 1063 ? 0 : 3);
}

static void a_peer_of_too_many_groups_has_its_first_ones(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		be_in_many_groups();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_subject_is_a_user_a_group_or_anyone),
		TEST(a_subject_is_looked_up_by_name_or_number),
		TEST(root_and_the_daemons_user_read_without_a_rule),
		TEST(the_group_consulcfg_reads_without_a_rule),
		TEST(the_group_named_like_the_service_reads_without_a_rule),
		TEST(odd_lines_of_the_group_file_let_nobody_in),
		TEST(without_a_group_file_there_are_no_groups),
		TEST(a_changed_group_file_is_read_again),
		TEST(the_user_named_like_the_service_reads_without_a_rule),
		TEST(a_dynamic_user_named_like_the_service_reads_as_long_as_it_exists),
		TEST(with_a_rule_only_those_it_names_read),
		TEST(operators_are_those_named),
		TEST(a_peer_is_known_by_its_credentials),
		TEST(what_has_no_credentials_is_no_peer),
		TEST(a_peer_of_too_many_groups_has_its_first_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
