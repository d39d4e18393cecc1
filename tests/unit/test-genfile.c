#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "client/lib/genmap.h"
#include "daemon/genfile.h"

#define N_SLOTS 8

static char directory[] = "/tmp/genfile-XXXXXX";
static char path[64], lock_path[64];

static int set_up(void **state)
{
	(void)state;
	strcpy(directory, "/tmp/genfile-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/generations", directory);
	snprintf(lock_path, sizeof(lock_path), "%s/generations.lock", directory);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	rmdir(path);
	unlink(lock_path);
	assert_int_equal(rmdir(directory), 0);
	return 0;
}

static struct genfile *open_file(bool *ret_is_lasting)
{
	struct genfile *genfile;

	assert_int_equal(genfile_new(directory, N_SLOTS, &genfile, ret_is_lasting), 0);
	return genfile;
}

static struct genfile *open_lasting(void)
{
	bool is_lasting;
	struct genfile *genfile = open_file(&is_lasting);

	assert_true(is_lasting);
	return genfile;
}

static struct genmap *map_of(const struct genfile *genfile, struct genmap *older)
{
	AUTO_CLOSE int fd = genfile_open_fd(genfile);
	struct genmap *map;

	assert_true(fd >= 0);
	assert_int_equal(genmap_new(fd, older, &map), 0);
	return map;
}

static uint64_t seen(const struct genmap *map, uint32_t slot)
{
	return atomic_load(&genmap_slot(map, slot)->change);
}

static void clients_see_what_is_raised(void **state)
{
	struct genfile *genfile = open_lasting();
	struct genmap *map = map_of(genfile, NULL);
	uint32_t a = genfile_take_slot(genfile), b = genfile_take_slot(genfile);
	uint64_t before_a = seen(map, a), before_b = seen(map, b);

	(void)state;
	assert_int_not_equal(a, b);
	genfile_raise(genfile, a);
	assert_int_not_equal(seen(map, a), before_a);
	assert_int_equal(seen(map, a), genfile_change(genfile, a));
	assert_int_equal(seen(map, b), before_b);
	genfile_set(genfile, b, 0, 77, 3);
	assert_int_equal(atomic_load(&genmap_slot(map, b)->index), 77);
	assert_int_equal(atomic_load(&genmap_slot(map, b)->state), 3);
	assert_int_not_equal(atomic_load(&genmap_slot(map, b)->confirmed_at), 0);
	assert_null(genmap_slot(map, N_SLOTS));
	assert_null(genmap_slot(map, GENFILE_NO_SLOT));
	genmap_free(map);
	genfile_free(genfile);
}

static void a_slot_given_back_is_raised_and_used_again(void **state)
{
	struct genfile *genfile = open_lasting();
	uint32_t slots[N_SLOTS];
	uint64_t before;

	(void)state;
	for (unsigned i = 0; i < N_SLOTS; i++)
		slots[i] = genfile_take_slot(genfile);
	assert_int_equal(genfile_take_slot(genfile), GENFILE_NO_SLOT);
	before = genfile_change(genfile, slots[5]);
	genfile_free_slot(genfile, slots[5]);
	assert_int_not_equal(genfile_change(genfile, slots[5]), before);
	assert_int_equal(genfile_take_slot(genfile), slots[5]);
	assert_int_equal(genfile_take_slot(genfile), GENFILE_NO_SLOT);
	genfile_free_slot(genfile, GENFILE_NO_SLOT);
	genfile_free_slot(NULL, 0);
	assert_int_equal(genfile_take_slot(NULL), GENFILE_NO_SLOT);
	genfile_free(genfile);
}

static void a_restart_raises_every_used_slot_in_place(void **state)
{
	struct genfile *genfile = open_lasting();
	struct genmap *map = map_of(genfile, NULL), *again;
	uint64_t before[N_SLOTS];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		genfile_raise(genfile, genfile_take_slot(genfile));
	for (unsigned i = 0; i < N_SLOTS; i++)
		before[i] = seen(map, i);
	genfile_free(genfile);
	genfile = open_lasting();
	for (unsigned i = 0; i < N_SLOTS; i++)
		assert_int_equal(seen(map, i) != before[i], i < 3);
	/* The mapping that clients have is the one they would get. */
	again = map_of(genfile, map);
	assert_ptr_equal(again, map);
	genmap_free(map);
	genfile_free(genfile);
}

static void one_daemon_at_a_time_has_it(void **state)
{
	struct genfile *genfile = open_lasting(), *other;
	bool is_lasting;

	(void)state;
	assert_int_equal(genfile_new(directory, N_SLOTS, &other, &is_lasting), -EADDRINUSE);
	genfile_free(genfile);
}

static void what_clients_lock_keeps_no_daemon_from_starting(void **state)
{
	struct genfile *genfile = open_lasting();
	int client = genfile_open_fd(genfile);

	(void)state;
	assert_true(client >= 0);
	assert_int_equal(flock(client, LOCK_EX | LOCK_NB), 0);
	genfile_free(genfile);
	genfile_free(open_lasting());
	close(client);
}

static void the_file_only_grows(void **state)
{
	struct genfile *genfile;
	bool is_lasting;
	struct stat st;

	(void)state;
	assert_int_equal(genfile_new(directory, 100, &genfile, &is_lasting), 0);
	genfile_free(genfile);
	genfile = open_lasting();
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, genfile_size(100));
	/* No hole: on a full tmpfs it would be SIGBUS. */
	assert_true((size_t)st.st_blocks * 512 >= genfile_size(100));
	genfile_free(genfile);
}

static void descriptors_are_read_only(void **state)
{
	struct genfile *genfile = open_lasting();
	AUTO_CLOSE int fd = genfile_open_fd(genfile);

	(void)state;
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_true(write(fd, "x", 1) < 0);
	assert_ptr_equal(mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(genfile_open_fd(NULL), -ENODEV);
	genfile_free(genfile);
}

static void write_file(const void *data, size_t size)
{
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, data, size), (ssize_t)size);
}

static void what_stands_in_a_strange_file_is_not_trusted(void **state)
{
	static const uint8_t magic[] = GENFILE_MAGIC_BYTES;
	struct genfile_header strange[4] = { 0 };
	uint8_t noise[300];

	(void)state;
	memset(noise, 0x5a, sizeof(noise));
	for (size_t i = 0; i < ARRAY_SIZE(strange); i++) {
		memcpy(strange[i].magic, magic, sizeof(magic));
		strange[i].major = GENFILE_MAJOR;
		strange[i].header_size = sizeof(strange[i]);
		strange[i].slot_size = sizeof(struct genfile_slot);
		atomic_init(&strange[i].n_slots, 1);
		atomic_init(&strange[i].n_used, 1);
	}
	strange[0].major++;
	atomic_init(&strange[1].n_used, UINT32_MAX);
	atomic_init(&strange[2].n_slots, UINT32_MAX);
	strange[3].slot_size = 0;
	for (size_t i = 0; i <= ARRAY_SIZE(strange); i++) {
		struct genfile *genfile;
		struct genmap *map;

		if (i < ARRAY_SIZE(strange))
			write_file(&strange[i], sizeof(strange[i]));
		else
			write_file(noise, sizeof(noise));
		genfile = open_lasting();
		map = map_of(genfile, NULL);
		assert_non_null(genmap_slot(map, N_SLOTS - 1));
		assert_int_not_equal(seen(map, 0), 0);
		genmap_free(map);
		genfile_free(genfile);
	}
}

static void expect_stand_in(void)
{
	bool is_lasting = true;
	struct genfile *genfile = open_file(&is_lasting);
	AUTO_CLOSE int fd = genfile_open_fd(genfile);
	struct genmap *map = map_of(genfile, NULL);
	struct stat st;

	assert_false(is_lasting);
	assert_non_null(genmap_slot(map, N_SLOTS - 1));
	/* A client that opens it again through /proc must not write to it, or cut it. */
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	genmap_free(map);
	genfile_free(genfile);
}

static void an_anonymous_file_stands_in(void **state)
{
	(void)state;
	assert_int_equal(symlink("/etc/passwd", path), 0);
	expect_stand_in();
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	expect_stand_in();
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_stand_in();
}

/* --- the client's end -------------------------------------------------------------------- */

static int map_bytes(const void *data, size_t size, struct genmap *older, struct genmap **ret_map)
{
	AUTO_CLOSE int fd = memfd_create("test", MFD_CLOEXEC);

	assert_int_equal(write(fd, data, size), (ssize_t)size);
	return genmap_new(fd, older, ret_map);
}

static void a_client_checks_the_header(void **state)
{
	static const uint8_t magic[] = GENFILE_MAGIC_BYTES;
	struct {
		struct genfile_header header;
		struct genfile_slot slots[2];
	} good = { .header = { .major = GENFILE_MAJOR,
			   .header_size = sizeof(good.header),
			   .slot_size = sizeof(good.slots[0]) } },
	  bad;
	struct genmap *map = NULL;

	(void)state;
	memcpy(good.header.magic, magic, sizeof(magic));
	atomic_init(&good.header.n_slots, 9); /* more than there are */
	assert_int_equal(map_bytes(&good, sizeof(good), NULL, &map), 0);
	assert_non_null(genmap_slot(map, 1));
	assert_null(genmap_slot(map, 2));
	map = genmap_free(map);
	assert_int_equal(map_bytes(&good, sizeof(good.header) - 1, NULL, &map), -EBADMSG);
	assert_int_equal(map_bytes(&good, 0, NULL, &map), -EBADMSG);
#define BAD(change, error)                                                                         \
	do {                                                                                       \
		memcpy(&bad, &good, sizeof(bad));                                                  \
		bad.header.change;                                                                 \
		assert_int_equal(map_bytes(&bad, sizeof(bad), NULL, &map), error);                 \
	} while (0)
	BAD(magic[0] ^= 1, -EBADMSG);
	BAD(major++, -EPROTONOSUPPORT);
	BAD(header_size = 0, -EBADMSG);
	BAD(header_size += 4, -EBADMSG); /* not aligned */
	BAD(header_size = UINT32_MAX - 7, -EBADMSG);
	BAD(slot_size = 0, -EBADMSG);
	BAD(slot_size += 1, -EBADMSG);
	assert_null(map);
}

static void a_client_keeps_a_bounded_number_of_files(void **state)
{
	struct genmap *map = NULL;
	unsigned n = 0;
	int r = 0;

	(void)state;
	while (r == 0 && n < 1000) {
		struct genfile *genfile = open_lasting();
		AUTO_CLOSE int fd = genfile_open_fd(genfile);

		r = genmap_new(fd, map, &map);
		n += r == 0;
		genfile_free(genfile);
		unlink(path);
	}
	assert_int_equal(r, -EMFILE);
	assert_in_range(n, 8, 64);
	genmap_free(map);
}

static void a_heartbeat_is_believed_for_its_time(void **state)
{
	struct genfile *genfile = open_lasting();
	struct genmap *map = map_of(genfile, NULL);
	uint64_t at;

	(void)state;
	genfile_beat(genfile, 1000000);
	at = atomic_load(&map->header->alive_at);
	assert_true(genmap_is_alive(map, at - 1));
	assert_true(genmap_is_alive(map, at + 999999999));
	assert_false(genmap_is_alive(map, at + 1000000001));
	genfile_beat(NULL, 1);
	genmap_free(map);
	genfile_free(genfile);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(clients_see_what_is_raised),
		TEST(a_slot_given_back_is_raised_and_used_again),
		TEST(a_restart_raises_every_used_slot_in_place),
		TEST(one_daemon_at_a_time_has_it),
		TEST(what_clients_lock_keeps_no_daemon_from_starting),
		TEST(the_file_only_grows),
		TEST(descriptors_are_read_only),
		TEST(what_stands_in_a_strange_file_is_not_trusted),
		TEST(an_anonymous_file_stands_in),
		TEST(a_client_checks_the_header),
		TEST(a_client_keeps_a_bounded_number_of_files),
		TEST(a_heartbeat_is_believed_for_its_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
