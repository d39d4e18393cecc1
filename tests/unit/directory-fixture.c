#include "directory-fixture.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "test.h"

#define DEADLINE_USEC (20 * USEC_PER_SEC)
#define DEAF_WATCH 1000000 /* far above those that the kernel gives out */

enum fixture_watches fixture_watches;
bool fixture_has_no_instance;

/* In place of the C library's. */
int inotify_init1(int flags)
{
	if (fixture_has_no_instance) {
		errno = EMFILE;
		return -1;
	}
	return (int)syscall(SYS_inotify_init1, flags);
}

int inotify_add_watch(int fd, const char *name, uint32_t mask)
{
	static int n_deaf;

	switch (fixture_watches) {
	case FIXTURE_WATCHES_WORK:
		break;
	case FIXTURE_WATCHES_FAIL:
		errno = ENOSPC;
		return -1;
	case FIXTURE_WATCHES_ARE_DEAF:
		return DEAF_WATCH + n_deaf++;
	}
	return (int)syscall(SYS_inotify_add_watch, fd, name, mask);
}

static void on_change(struct tree *tree, bool content_changed, void *userdata)
{
	struct directory_fixture *f = userdata;

	if (!content_changed)
		return;
	f->n_changes++;
	if (f->invariant && !f->invariant(tree->content))
		f->was_violated = true;
}

static void on_tick(void *userdata)
{
	struct directory_fixture *f = userdata;

	f->n_ticks++;
	f->was_met = f->condition(f, f->argument);
	if (f->was_met || f->was_violated || loop_now() > f->deadline)
		loop_stop(f->loop);
	else
		loop_timer_arm(f->tick, USEC_PER_MSEC);
}

int directory_fixture_set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");
	struct directory_fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	fixture_watches = FIXTURE_WATCHES_WORK;
	fixture_has_no_instance = false;
	snprintf(f->base, sizeof(f->base), "%s/test-directory-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->base));
	assert_return_code(chmod(f->base, 0755), errno);
	f->config = (struct config){
		.source = CONFIG_SOURCE_DIR,
		.dir = strdup(fixture_path(f, "root")),
		.wait_usec = 30 * USEC_PER_SEC,
		.resync_usec = 3600 * USEC_PER_SEC,
		.max_value = 1 << 20,
		.max_service = 64 << 20,
	};
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(loop_timer_new(f->loop, on_tick, f, &f->tick), 0);
	*state = f;
	return 0;
}

int directory_fixture_tear_down(void **state)
{
	struct directory_fixture *f = *state;

	if (f->tree) {
		tree_unobserve(&f->observer);
		tree_unref(f->tree);
	}
	trees_free(f->trees);
	directory_source_free(f->source);
	loop_timer_free(f->tick);
	loop_free(f->loop);
	fixture_delete_all(f, ".");
	free(f->config.dir);
	free(f);
	return 0;
}

void fixture_start(struct directory_fixture *f)
{
	assert_int_equal(directory_source_new(f->loop, &f->config, &f->source), 0);
	assert_int_equal(trees_new(f->loop, f->source, &f->trees), 0);
	assert_int_equal(trees_get(f->trees, PREFIX, &f->tree), 0);
	f->observer.fn = on_change;
	f->observer.userdata = f;
	tree_observe(f->tree, &f->observer);
}

const char *fixture_path(struct directory_fixture *f, const char *name)
{
	snprintf(f->path, sizeof(f->path), "%s/%s", f->base, name);
	return f->path;
}

static void require(const struct directory_fixture *f, bool is_true)
{
	if (is_true)
		return;
	perror(f->path);
	abort();
}

void fixture_put(struct directory_fixture *f, const char *name, const char *text)
{
	int fd = open(fixture_path(f, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	require(f, fd >= 0);
	require(f, write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

void fixture_make_dirs(struct directory_fixture *f, const char *name)
{
	char part[PATH_MAX / 2];

	for (size_t i = 0; i <= strlen(name); i++) {
		if (name[i] != '/' && name[i] != '\0')
			continue;
		snprintf(part, sizeof(part), "%.*s", (int)i, name);
		require(f, mkdir(fixture_path(f, part), 0755) == 0 || errno == EEXIST);
	}
}

void fixture_rename(struct directory_fixture *f, const char *from, const char *to)
{
	char old[PATH_MAX];

	strcpy(old, fixture_path(f, from));
	require(f, rename(old, fixture_path(f, to)) == 0);
}

void fixture_link(struct directory_fixture *f, const char *target, const char *name)
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof(copy), "%s", target);
	require(f, symlink(copy, fixture_path(f, name)) == 0);
}

void fixture_delete(struct directory_fixture *f, const char *name)
{
	require(f, remove(fixture_path(f, name)) == 0);
}

static int delete_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

void fixture_delete_all(struct directory_fixture *f, const char *name)
{
	char path[PATH_MAX];

	/* "base/." is no name that can be removed. */
	strcpy(path, std_streq(name, ".") ? f->base : fixture_path(f, name));
	require(f, nftw(path, delete_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0);
}

void fixture_run(struct directory_fixture *f, fixture_condition_fn condition, const void *argument)
{
	f->condition = condition;
	f->argument = argument;
	f->deadline = loop_now() + DEADLINE_USEC;
	loop_timer_arm(f->tick, 0);
	assert_int_equal(loop_run(f->loop), 0);
	assert_false(f->was_violated);
	assert_true(f->was_met);
}

static bool time_passed(struct directory_fixture *f, const void *argument)
{
	const uint64_t *until = argument;

	(void)f;
	return loop_now() >= *until;
}

void fixture_let_pass(struct directory_fixture *f, uint64_t usec)
{
	uint64_t until = loop_now() + usec;

	fixture_run(f, time_passed, &until);
}

static bool has_count(struct directory_fixture *f, const void *argument)
{
	const size_t *n = argument;

	return f->tree->content && f->tree->content->records.n == *n;
}

void fixture_expect_count(struct directory_fixture *f, size_t n)
{
	fixture_run(f, has_count, &n);
}

struct failure {
	enum tree_error_kind kind;
	const char *text;
};

static bool has_failed(struct directory_fixture *f, const void *argument)
{
	const struct failure *failure = argument;
	const struct tree_error *error = &f->tree->error;

	return error->is_set && error->kind == failure->kind &&
	       strstr(tree_error_message(error), failure->text);
}

void fixture_expect_failure(
	struct directory_fixture *f, enum tree_error_kind kind, const char *text, const char *key)
{
	const struct failure failure = { .kind = kind, .text = text };
	struct record record;

	fixture_run(f, has_failed, &failure);
	assert_true(f->tree->error.retry_at > 0);
	assert_int_equal(fixture_find(f->tree->content, key, &record), f->tree->content != NULL);
	assert_int_equal(f->tree->state, f->tree->content ? WIRE_STALE : WIRE_LOADING);
}

static bool child_ended(struct directory_fixture *f, const void *argument)
{
	const pid_t *child = argument;
	int status;
	pid_t pid = waitpid(*child, &status, WNOHANG);

	(void)f;
	if (pid == 0)
		return false;
	assert_int_equal(pid, *child);
	assert_int_equal(status, 0);
	return true;
}

void fixture_wait_for(struct directory_fixture *f, pid_t child)
{
	assert_true(child > 0);
	fixture_run(f, child_ended, &child);
}

static bool has_pair(const struct kvset *set, const char *pair)
{
	const char *equals = strchr(pair, '=');
	char key[NAME_MAX + 1];
	struct record record;

	snprintf(key, sizeof(key), "%.*s", (int)(equals - pair), pair);
	return fixture_find(set, key, &record) && std_streq(record.value, equals + 1);
}

static bool has_pairs(struct directory_fixture *f, const void *argument)
{
	const char *const *pairs = argument;
	size_t n = 0;

	if (f->tree->state != WIRE_LIVE)
		return false;
	while (pairs[n])
		if (!has_pair(f->tree->content, pairs[n++]))
			return false;
	return f->tree->content->records.n == n;
}

void fixture_expect(struct directory_fixture *f, const char *const *pairs)
{
	fixture_run(f, has_pairs, pairs);
}

bool fixture_find(const struct kvset *set, const char *key, struct record *ret_record)
{
	size_t off = 0;

	while (set && off < set->records.size) {
		off = record_decode(set->records.data, set->records.size, off, ret_record);
		assert_true(off > 0);
		if (std_streq(ret_record->key, key))
			return true;
	}
	return false;
}
