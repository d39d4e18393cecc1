#include "test.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "daemon/genfile.h"

#define N_SLOTS 4

static int set_up(void **state)
{
	char *directory = strdup("/tmp/test-genfile-XXXXXX");

	assert_non_null(directory);
	assert_non_null(mkdtemp(directory));
	*state = directory;
	return 0;
}

static int tear_down(void **state)
{
	static const char *const names[] = { "generations", "generations.lock" };
	char path[64];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", (char *)*state, names[i]);
		unlink(path);
	}
	assert_int_equal(rmdir(*state), 0);
	free(*state);
	return 0;
}

static struct genfile *start(const char *directory)
{
	struct genfile *genfile;
	bool is_lasting;

	assert_int_equal(genfile_new(directory, N_SLOTS, &genfile, &is_lasting), 0);
	assert_true(is_lasting);
	return genfile;
}

static void a_new_daemon_raises_the_slots_that_were_in_use(void **state)
{
	struct genfile *genfile = start(*state);
	uint32_t used = genfile_take_slot(genfile);
	uint64_t change = genfile_change(genfile, used);

	genfile_free(genfile);
	genfile = start(*state);
	assert_true(genfile_change(genfile, used) > change);
	assert_int_equal(genfile_change(genfile, used + 1), 0);
	genfile_free(genfile);
}

static void a_slot_given_back_is_raised_and_taken_again(void **state)
{
	struct genfile *genfile = start(*state);
	uint32_t slot = genfile_take_slot(genfile);
	uint64_t change = genfile_change(genfile, slot);

	genfile_free_slot(genfile, slot);
	assert_int_equal(genfile_take_slot(genfile), slot);
	assert_true(genfile_change(genfile, slot) > change);
	for (unsigned i = 1; i < N_SLOTS; i++)
		assert_true(genfile_take_slot(genfile) != GENFILE_NO_SLOT);
	assert_true(genfile_take_slot(genfile) == GENFILE_NO_SLOT);
	genfile_free(genfile);
}

static void one_daemon_at_a_time(void **state)
{
	struct genfile *genfile = start(*state), *second;
	bool is_lasting;

	assert_int_equal(genfile_new(*state, N_SLOTS, &second, &is_lasting), -EADDRINUSE);
	genfile_free(genfile);
	genfile_free(start(*state));
}

static void what_clients_lock_keeps_no_daemon_from_starting(void **state)
{
	struct genfile *genfile = start(*state);
	int client = genfile_open_fd(genfile);

	assert_true(client >= 0);
	assert_int_equal(flock(client, LOCK_EX | LOCK_NB), 0);
	genfile_free(genfile);
	genfile_free(start(*state));
	close(client);
}

static void assert_is_for_reading(struct genfile *genfile)
{
	int client = genfile_open_fd(genfile);
	struct stat st;

	assert_true(client >= 0);
	assert_int_equal(write(client, "x", 1), -1);
	assert_int_equal(ftruncate(client, 0), -1);
	assert_true(mmap(NULL, 64, PROT_WRITE, MAP_SHARED, client, 0) == MAP_FAILED);
	/* Nor may others open /proc/self/fd/… anew, to write. */
	assert_int_equal(fstat(client, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	close(client);
}

static void clients_cannot_write(void **state)
{
	struct genfile *genfile = start(*state);

	assert_is_for_reading(genfile);
	genfile_free(genfile);
}

static void an_anonymous_file_stands_in_where_there_is_no_room(void **state)
{
	struct genfile *genfile;
	bool is_lasting;

	(void)state;
	assert_int_equal(genfile_new("/proc/self/nowhere", N_SLOTS, &genfile, &is_lasting), 0);
	assert_false(is_lasting);
	assert_int_equal(genfile_take_slot(genfile), 0);
	assert_is_for_reading(genfile);
	genfile_free(genfile);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_new_daemon_raises_the_slots_that_were_in_use),
		TEST(a_slot_given_back_is_raised_and_taken_again),
		TEST(one_daemon_at_a_time),
		TEST(what_clients_lock_keeps_no_daemon_from_starting),
		TEST(clients_cannot_write),
		TEST(an_anonymous_file_stands_in_where_there_is_no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
