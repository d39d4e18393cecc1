/*
 * Backups of strangers' making, from the files of tests/corpus/backup: the daemon and the library
 * believe the same ones.
 */
#include "test.h"

#include <fcntl.h>
#include <unistd.h>

#include "client/lib/fallback.h"
#include "daemon/backup-load.h"
#include "tests/unit/corpus.h"

#define SERVICE "billing"
#define FILE_NAME SERVICE BACKUP_SUFFIX

struct fixture {
	char path[64]; /* of a runtime directory */
	struct state_directory directory;
	unsigned n_damaged; /* offsets */
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char path[128];

	strcpy(f->path, "/tmp/test-backup-corpus.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	snprintf(path, sizeof(path), "%s/state", f->path);
	assert_int_equal(state_directory_open(path, (gid_t)-1, &f->directory), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	state_directory_close(&f->directory);
	snprintf(command, sizeof(command), "rm -rf --one-file-system %s", f->path);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static void put(const struct fixture *f, const uint8_t *data, size_t size)
{
	int fd = openat(f->directory.fds[STATE_PRIVATE], FILE_NAME,
		O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	assert_int_equal(close(fd), 0);
}

/* The generation, and 0 for a file that was refused. */
static uint64_t as_the_library(const struct fixture *f)
{
	struct fallback fallback;
	uint64_t generation;
	char socket[128];
	int r;

	snprintf(socket, sizeof(socket), "%s/socket", f->path);
	r = fallback_read(socket, SERVICE, &fallback);
	if (r == -ENOENT)
		return 0;
	assert_int_equal(r, 0);
	generation = fallback.view->generation;
	view_unref(fallback.view);
	return generation;
}

static uint64_t as_the_daemon(const struct fixture *f)
{
	struct backup_load *load;
	struct snapshot *snapshot;
	uint64_t generation = 0;
	int r = backup_load_new(f->directory.fds[STATE_PRIVATE], FILE_NAME, &load);

	if (r < 0) {
		assert_int_equal(r, -EBADMSG);
		return 0;
	}
	/* A daemon asks for all names, of which the service's is the first. */
	r = backup_format_is_of(backup_load_format(load), SERVICE) ? 1 : -EBADMSG;
	while (r > 0)
		r = backup_load_step(load);
	assert_true(r == 0 || r == -EBADMSG);
	snapshot = r == 0 ? backup_load_take(load) : NULL;
	if (snapshot) {
		generation = snapshot->generation;
		assert_int_equal(image_verify(&snapshot->image), 0);
		snapshot_unref(snapshot);
	}
	backup_load_free(load);
	return generation;
}

static void judge(const char *name, const uint8_t *data, size_t size, bool is_good, void *userdata)
{
	const struct fixture *f = userdata;
	uint64_t expected = is_good ? 1700000000000001 : 0;

	put(f, data, size);
	if (as_the_library(f) != expected)
		fail_msg("the library: %s was judged wrongly", name);
	if (as_the_daemon(f) != expected)
		fail_msg("the daemon: %s was judged wrongly", name);
}

static void the_corpus_is_judged_by_its_names(void **state)
{
	corpus_each("backup", 8, 30, judge, *state);
}

static void must_be_refused(
	const struct fixture *f, const char *name, const uint8_t *data, size_t size, size_t at)
{
	put(f, data, size);
	if (as_the_library(f) != 0)
		fail_msg("the library believes %s, damaged at %zu", name, at);
	if (as_the_daemon(f) != 0)
		fail_msg("the daemon believes %s, damaged at %zu", name, at);
}

/* Cut in front of each byte, and with a bit of it flipped. */
static void damage(const char *name, const uint8_t *data, size_t size, bool is_good, void *userdata)
{
	bool is_wanted = is_good && std_streq(name, "ok-one.bin"); /* each takes a second */
	uint8_t *copy = is_wanted ? test_copy(data, size) : NULL;
	struct fixture *f = userdata;

	for (size_t at = 0; is_wanted && at < size; at++) {
		must_be_refused(f, name, data, at, at);
		copy[at] ^= (uint8_t)(1u << at % 8);
		must_be_refused(f, name, copy, size, at);
		copy[at] = data[at];
		f->n_damaged++;
	}
	free(copy);
}

static void a_file_damaged_at_any_offset_is_not_believed(void **state)
{
	struct fixture *f = *state;

	corpus_each("backup", 8, 30, damage, f);
	assert_true(f->n_damaged > sizeof(struct backup_footer));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			the_corpus_is_judged_by_its_names, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_file_damaged_at_any_offset_is_not_believed, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
