#include "test.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "daemon/backup-load.h"
#include "daemon/backup-writer.h"
#include "proto/image-builder.h"

#define SERVICES 20
#define ROUNDS 10
#define KEEP 3
#define DEADLINE_USEC (20 * USEC_PER_SEC)

struct service {
	struct backup_job job;
	struct fixture *fixture;
	char names[64];
	void *image;
	unsigned round;
};

struct fixture {
	struct loop *loop;
	struct loop_timer *deadline;
	struct backup_writer *writer;
	struct state_directory directory; /* another one than the writer's, of the same place */
	char path[64];
	struct service services[SERVICES];
	unsigned n_left;
};

static void on_deadline(void *userdata)
{
	(void)userdata;
	fail_msg("the jobs are not done in time");
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct state_directory of_writer;

	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(loop_timer_new(f->loop, on_deadline, f, &f->deadline), 0);
	strcpy(f->path, "/tmp/test-backup-writer.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	assert_int_equal(state_directory_open(f->path, (gid_t)-1, &f->directory), 0);
	assert_int_equal(state_directory_reopen(f->path, &f->directory, &of_writer), 0);
	assert_int_equal(backup_writer_new(f->loop, f->path, &of_writer, &f->writer), 0);
	assert_int_equal(of_writer.lock, -1);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	assert_true(backup_writer_drain(f->writer));
	backup_writer_free(f->writer);
	state_directory_close(&f->directory);
	loop_timer_free(f->deadline);
	loop_free(f->loop);
	snprintf(command, sizeof(command), "rm -rf --one-file-system %s", f->path);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

/* One key, whose value is the round. */
static void make_image(struct service *service)
{
	char value[16];
	struct record record = { .key = "round", .key_len = 5, .value = value };
	struct records records = { 0 };

	record.value_len = (uint32_t)snprintf(value, sizeof(value), "%u", service->round);
	assert_int_equal(records_append(&records, &record), 0);
	assert_int_equal(image_build(&records, 1 + service->round, &service->image,
				 &service->job.image_size),
		0);
	service->job.image = service->image;
	service->job.footer.generation = le64_of(100 + service->round);
	records_done(&records);
}

static void on_done(struct backup_job *job)
{
	struct service *service = job->userdata;
	struct fixture *f = service->fixture;

	assert_int_equal(job->error, 0);
	free(service->image);
	if (++service->round < ROUNDS) {
		make_image(service);
		backup_writer_submit(f->writer, job);
	} else if (--f->n_left == 0) {
		loop_stop(f->loop);
	}
}

static void submit_all(struct fixture *f)
{
	for (unsigned i = 0; i < SERVICES; i++) {
		struct service *service = &f->services[i];

		service->fixture = f;
		/* The service, and five empty texts. */
		snprintf(service->names, sizeof(service->names), "service%u", i);
		service->job = (struct backup_job){
			.kind = BACKUP_JOB_IMAGE,
			.place = STATE_PRIVATE,
			.names = service->names,
			.is_served = true,
			.is_recorded = true,
			.keep = KEEP,
			.done = on_done,
			.userdata = service,
		};
		snprintf(service->job.service, sizeof(service->job.service), "service%u", i);
		service->job.names_size = strlen(service->names) + 6;
		make_image(service);
		backup_writer_submit(f->writer, &service->job);
	}
	f->n_left = SERVICES;
}

static void check(const struct fixture *f, unsigned i)
{
	const struct service *service = &f->services[i];
	char name[BACKUP_NAME];
	struct backup_load *load;
	struct snapshot *snapshot;
	char key[32] = "round"; /* room: the compiler looks further than a lookup does */
	struct record record;
	int r;

	snprintf(name, sizeof(name), "%s" BACKUP_SUFFIX, service->job.service);
	assert_int_equal(backup_load_new(f->directory.fds[STATE_PRIVATE], name, &load), 0);
	assert_true(backup_format_is_of(backup_load_format(load), service->job.service));
	do
		r = backup_load_step(load);
	while (r > 0);
	assert_int_equal(r, 0);
	snapshot = backup_load_take(load);
	assert_true(image_find(&snapshot->image, key, strlen(key), &record));
	assert_int_equal(strtoul(record.value, NULL, 10), ROUNDS - 1);
	snapshot_unref(snapshot);
	backup_load_free(load);
}

/* Built with the thread sanitizer, too. */
static void the_newest_of_many_is_on_the_disk(void **state)
{
	struct fixture *f = *state;

	submit_all(f);
	loop_timer_arm(f->deadline, DEADLINE_USEC);
	assert_int_equal(loop_run(f->loop), 0);
	for (unsigned i = 0; i < SERVICES; i++) {
		char name[64];

		check(f, i);
		for (unsigned j = 0; j < ROUNDS; j++) {
			snprintf(name, sizeof(name), "service%u/" HISTORY_NAME, i, 100ull + j);
			assert_int_equal(
				faccessat(f->directory.fds[STATE_HISTORY], name, F_OK, 0) == 0,
				j >= ROUNDS - KEEP);
		}
	}
}

static void a_drained_writer_has_told_everything(void **state)
{
	struct fixture *f = *state;

	submit_all(f);
	while (f->n_left > 0)
		assert_true(backup_writer_drain(f->writer));
	for (unsigned i = 0; i < SERVICES; i++)
		check(f, i);
}

static void on_failed(struct backup_job *job)
{
	assert_int_equal(job->error, -EISDIR);
	assert_string_equal(job->step, "rename");
	*(bool *)job->userdata = true;
}

static void a_failure_names_its_step(void **state)
{
	struct fixture *f = *state;
	bool is_done = false;
	struct backup_job job = {
		.kind = BACKUP_JOB_TEXT,
		.place = STATE_TOP,
		.service = "services",
		.image = "text",
		.image_size = 4,
		.done = on_failed,
		.userdata = &is_done,
	};

	assert_int_equal(mkdirat(f->directory.fds[STATE_TOP], "services", 0700), 0);
	backup_writer_submit(f->writer, &job);
	assert_true(backup_writer_drain(f->writer));
	assert_true(is_done);
	assert_int_not_equal(faccessat(f->directory.fds[STATE_TOP], ".writing", F_OK, 0), 0);
}

static void a_second_one_is_refused(void **state)
{
	struct fixture *f = *state;
	struct state_directory second;

	assert_int_equal(state_directory_open(f->path, (gid_t)-1, &second), -EADDRINUSE);
	state_directory_close(&second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			the_newest_of_many_is_on_the_disk, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_drained_writer_has_told_everything, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_failure_names_its_step, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_second_one_is_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
