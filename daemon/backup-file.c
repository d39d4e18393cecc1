#include "daemon/backup-file.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "daemon/history.h"

#define TEMPORARY BACKUP_TEMPORARY

static int fail(struct backup_job *job, const char *step, int error)
{
	job->error = error;
	job->step = step;
	return error;
}

static int write_all(int fd, struct iovec *iov, int n_iov)
{
	while (n_iov > 0) {
		ssize_t n = writev(fd, iov, n_iov);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		while (n_iov > 0 && (size_t)n >= iov->iov_len) {
			n -= (ssize_t)iov->iov_len;
			iov++;
			n_iov--;
		}
		if (n_iov > 0) {
			iov->iov_base = (uint8_t *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

static int write_content(int fd, struct backup_job *job)
{
	struct iovec iov[] = {
		{ (void *)(uintptr_t)job->image, job->image_size },
		{ (void *)(uintptr_t)job->names, job->names_size },
		{ &job->footer, sizeof(job->footer) },
	};

	return write_all(fd, iov, job->kind == BACKUP_JOB_IMAGE ? 3 : 1);
}

/* The whole file under a temporary name. Its descriptor, or -errno. */
static int create(const struct state_directory *directory, int place, const char *temporary,
	struct backup_job *job)
{
	AUTO_CLOSE int fd = -1;
	int r;

	/* Of a daemon that was killed; nobody else has it. */
	(void)unlinkat(place, temporary, 0);
	fd = openat(place, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(job, "open", -errno);
	if (job->place == STATE_OPEN &&
		(fchown(fd, (uid_t)-1, directory->gid) < 0 || fchmod(fd, 0640) < 0))
		return fail(job, "chown", -errno);
	r = write_content(fd, job);
	return r < 0 ? fail(job, "write", r) : TAKE_FD(fd);
}

/* The same on the disk. */
static int write_temporary(
	const struct state_directory *directory, int place, struct backup_job *job)
{
	AUTO_CLOSE int fd = create(directory, place, TEMPORARY, job);

	if (fd < 0)
		return fd;
	if (fsync(fd) < 0)
		return fail(job, "fsync", -errno);
	/* A network's disk may say only here what became of the writes. */
	if (close(TAKE_FD(fd)) < 0)
		return fail(job, "close", -errno);
	return 0;
}

static int is_generation(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Not alphasort(): its order is that of the locale. */
static int compare_entries(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* The oldest beyond `keep`. What cannot be removed now is so with the next write. */
static void prune(int history, unsigned keep)
{
	struct dirent **entries;
	int n = scandirat(history, ".", &entries, is_generation, compare_entries);

	for (int i = 0; i < n; i++) {
		if (n - i > (int)keep)
			(void)unlinkat(history, entries[i]->d_name, 0);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

/* What the history has stays as it was published. The same contents again are no other generation
 * to whoever looks for what was there before. */
static bool is_recorded(const struct state_directory *directory, int history, const char *name,
	struct backup_job *job)
{
	struct backup_identity identity = { .size = job->names_size };
	struct image_header header;

	if (faccessat(history, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return true;
	memcpy(identity.names, job->names, job->names_size);
	memcpy(&header, job->image, sizeof(header));
	return history_ends_with(
		directory->fds[STATE_HISTORY], job->service, &identity, le64_get(header.digest));
}

/* The same file under a second name. */
static int record(const struct state_directory *directory, int place, const char *temporary,
	bool must_sync, struct backup_job *job)
{
	AUTO_CLOSE int history = -1;
	char name[32];
	bool is_there;

	if (mkdirat(directory->fds[STATE_HISTORY], job->service, 0700) < 0 && errno != EEXIST)
		return fail(job, "mkdir", -errno);
	history = openat(directory->fds[STATE_HISTORY], job->service,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (history < 0)
		return fail(job, "open", -errno);
	(void)unlinkat(history, TEMPORARY, 0);
	snprintf(name, sizeof(name), HISTORY_NAME,
		(unsigned long long)le64_get(job->footer.generation));
	is_there = is_recorded(directory, history, name, job);
	if (!is_there && linkat(place, temporary, history, TEMPORARY, 0) < 0)
		return fail(job, "link", -errno);
	if (!is_there && renameat(history, TEMPORARY, history, name) < 0)
		return fail(job, "rename", -errno);
	prune(history, job->keep);
	return must_sync && fsync(history) < 0 ? fail(job, "fsync", -errno) : 0;
}

static int put_in_place(int place, const char *temporary, bool must_sync, struct backup_job *job)
{
	char name[BACKUP_NAME];

	snprintf(name, sizeof(name), "%s%s", job->service,
		job->kind == BACKUP_JOB_IMAGE ? BACKUP_SUFFIX : "");
	if (renameat(place, temporary, place, name) < 0)
		return fail(job, "rename", -errno);
	return must_sync && fsync(place) < 0 ? fail(job, "fsync", -errno) : 0;
}

/* Whoever may not read it any more finds nothing. */
static int remove_other(const struct state_directory *directory, struct backup_job *job)
{
	int other = directory->fds[job->place == STATE_OPEN ? STATE_PRIVATE : STATE_OPEN];
	char name[BACKUP_NAME];

	if (job->place == STATE_PINS)
		return 0;
	snprintf(name, sizeof(name), "%s" BACKUP_SUFFIX, job->service);
	if (unlinkat(other, name, 0) < 0)
		return errno == ENOENT ? 0 : fail(job, "unlink", -errno);
	return fsync(other) < 0 ? fail(job, "fsync", -errno) : 0;
}

/* From its temporary name to where it belongs. */
static int name_image(const struct state_directory *directory, int place, const char *temporary,
	bool must_sync, struct backup_job *job)
{
	int r = 0;

	if (job->is_recorded)
		r = record(directory, place, temporary, must_sync, job);
	if (r == 0 && job->is_served)
		r = put_in_place(place, temporary, must_sync, job);
	else if (r == 0)
		(void)unlinkat(place, temporary, 0);
	return r == 0 && job->is_served ? remove_other(directory, job) : r;
}

static int write_image(const struct state_directory *directory, int place, struct backup_job *job)
{
	int r = write_temporary(directory, place, job);

	return r < 0 ? r : name_image(directory, place, TEMPORARY, true, job);
}

static int unlink_file(int directory, const char *name, struct backup_job *job)
{
	if (unlinkat(directory, name, 0) < 0)
		return errno == ENOENT ? 0 : fail(job, "unlink", -errno);
	job->n_found++;
	return fsync(directory) < 0 ? fail(job, "fsync", -errno) : 0;
}

static int open_history(const struct state_directory *directory, const struct backup_job *job)
{
	return openat(directory->fds[STATE_HISTORY], job->service,
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The generations that are to go. */
static int forget(const struct state_directory *directory, struct backup_job *job)
{
	AUTO_CLOSE int history = open_history(directory, job);
	struct dirent **entries;
	char only[32];
	int n, r = 0;

	if (history < 0)
		return errno == ENOENT ? 0 : fail(job, "open", -errno);
	snprintf(only, sizeof(only), HISTORY_NAME, (unsigned long long)job->only);
	n = scandirat(history, ".", &entries, is_generation, compare_entries);
	if (n < 0)
		return fail(job, "scandir", -errno);
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;
		bool must_go = job->only != 0 ? std_streq(name, only)
					      : !history_has_digest(history, name, job->spare);

		job->n_found += must_go || job->only == 0;
		if (must_go && unlinkat(history, name, 0) < 0)
			r = fail(job, "unlink", -errno);
		free(entries[i]);
	}
	free(entries);
	(void)unlinkat(history, TEMPORARY, 0);
	if (r == 0 && fsync(history) < 0)
		return fail(job, "fsync", -errno);
	return r;
}

static int remove_history(const struct state_directory *directory, struct backup_job *job)
{
	int r = forget(directory, job);

	if (unlinkat(directory->fds[STATE_HISTORY], job->service, AT_REMOVEDIR) == 0)
		(void)fsync(directory->fds[STATE_HISTORY]);
	return r;
}

static int remove_files(
	const struct state_directory *directory, const char *name, struct backup_job *job)
{
	int r = unlink_file(directory->fds[STATE_OPEN], name, job);

	return r < 0 ? r : unlink_file(directory->fds[STATE_PRIVATE], name, job);
}

/* What was set aside may hold the same secrets, of whichever generation it was. */
static int remove_damaged(
	const struct state_directory *directory, const char *name, struct backup_job *job)
{
	unsigned n_found = job->n_found;
	int r = unlink_file(directory->fds[STATE_DAMAGED], name, job);

	if (job->only != 0)
		job->n_found = n_found;
	return r;
}

static int remove_what_is_asked(const struct state_directory *directory, struct backup_job *job)
{
	char name[BACKUP_NAME];
	int r;

	snprintf(name, sizeof(name), "%s" BACKUP_SUFFIX, job->service);
	if (job->kind == BACKUP_JOB_UNLINK)
		return unlink_file(directory->fds[job->place], name, job);
	job->n_found = 0;
	r = job->kind == BACKUP_JOB_FORGET ? forget(directory, job)
					   : remove_history(directory, job);
	if (r == 0 && (job->kind == BACKUP_JOB_REMOVE || job->has_file))
		r = remove_files(directory, name, job);
	return r < 0 ? r : remove_damaged(directory, name, job);
}

/* What those may have read who may not any more. Nobody but the daemon comes by there; all the same
 * no mode says otherwise. */
static void close_history(const struct state_directory *directory, const struct backup_job *job)
{
	AUTO_CLOSE int history = open_history(directory, job);
	struct dirent **entries;
	int n = history < 0 ? -1
			    : scandirat(history, ".", &entries, is_generation, compare_entries);

	for (int i = 0; i < n; i++) {
		(void)fchmodat(history, entries[i]->d_name, 0600, 0);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

/* Nobody may read it for a moment who may not before and after. */
static int change_mode(const struct state_directory *directory, int fd, struct backup_job *job)
{
	bool is_open = job->place == STATE_OPEN;

	if (!is_open && fchmod(fd, 0600) < 0)
		return fail(job, "chmod", -errno);
	if (is_open && (fchown(fd, (uid_t)-1, directory->gid) < 0 || fchmod(fd, 0640) < 0))
		return fail(job, "chown", -errno);
	return fsync(fd) < 0 ? fail(job, "fsync", -errno) : 0;
}

static int move(const struct state_directory *directory, struct backup_job *job)
{
	int from = directory->fds[job->from], to = directory->fds[job->place], r;
	AUTO_CLOSE int fd = -1;
	char name[BACKUP_NAME];

	snprintf(name, sizeof(name), "%s" BACKUP_SUFFIX, job->service);
	fd = state_directory_open_file(from, name);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fail(job, "open", fd);
	if (job->place == STATE_PRIVATE)
		close_history(directory, job);
	r = change_mode(directory, fd, job);
	if (r == 0 && from != to && renameat(from, name, to, name) < 0)
		r = fail(job, "rename", -errno);
	if (r == 0 && (fsync(to) < 0 || fsync(from) < 0))
		r = fail(job, "fsync", -errno);
	return r < 0 ? r : remove_other(directory, job);
}

void backup_file_write(const struct state_directory *directory, struct backup_job *job)
{
	int place = directory->fds[job->place], r = 0;

	job->error = 0;
	if (place < 0) {
		fail(job, "open", -ENOENT);
		return;
	}
	switch (job->kind) {
	case BACKUP_JOB_IMAGE:
		r = write_image(directory, place, job);
		break;
	case BACKUP_JOB_TEXT:
		r = write_temporary(directory, place, job);
		if (r == 0)
			r = put_in_place(place, TEMPORARY, true, job);
		break;
	case BACKUP_JOB_MOVE:
		(void)move(directory, job);
		return;
	case BACKUP_JOB_UNLINK:
	case BACKUP_JOB_FORGET:
	case BACKUP_JOB_REMOVE:
		(void)remove_what_is_asked(directory, job);
		return;
	}
	/* A disk that is full needs the room. */
	if (r < 0)
		(void)unlinkat(place, TEMPORARY, 0);
}

/* --- many at once ------------------------------------------------------------------------ */

static void temporary_of(unsigned i, char ret_name[32])
{
	snprintf(ret_name, 32, TEMPORARY "-%u", i);
}

static bool is_one_file_system(const struct state_directory *directory)
{
	static const enum state_place others[] = { STATE_OPEN, STATE_PRIVATE, STATE_HISTORY };
	struct stat top, other;

	if (directory->fds[STATE_TOP] < 0 || fstat(directory->fds[STATE_TOP], &top) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (directory->fds[others[i]] < 0 || fstat(directory->fds[others[i]], &other) < 0 ||
			other.st_dev != top.st_dev)
			return false;
	return true;
}

/* Contents to the disk, as far as they are the file's own: an error is this file's alone. */
static int wait_for_content(int fd)
{
	return sync_file_range(fd, 0, 0,
		       SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
			       SYNC_FILE_RANGE_WAIT_AFTER) < 0
		       ? -errno
		       : 0;
}

static int write_contents(const struct state_directory *directory, struct backup_job *const jobs[],
	unsigned n_jobs, int fds[])
{
	char name[32];
	int r = 0;

	for (unsigned i = 0; i < n_jobs && r == 0; i++) {
		temporary_of(i, name);
		fds[i] = create(directory, directory->fds[jobs[i]->place], name, jobs[i]);
		r = MIN(fds[i], 0);
		if (r == 0)
			(void)sync_file_range(fds[i], 0, 0, SYNC_FILE_RANGE_WRITE);
	}
	for (unsigned i = 0; i < n_jobs && r == 0; i++)
		r = wait_for_content(fds[i]);
	if (r == 0 && syncfs(directory->fds[STATE_TOP]) < 0)
		r = -errno;
	return r;
}

static int name_all(
	const struct state_directory *directory, struct backup_job *const jobs[], unsigned n_jobs)
{
	char name[32];
	int r = 0;

	for (unsigned i = 0; i < n_jobs && r == 0; i++) {
		temporary_of(i, name);
		r = name_image(directory, directory->fds[jobs[i]->place], name, false, jobs[i]);
	}
	if (r == 0 && syncfs(directory->fds[STATE_TOP]) < 0)
		r = -errno;
	return r;
}

int backup_file_write_many(
	const struct state_directory *directory, struct backup_job *const jobs[], unsigned n_jobs)
{
	int fds[LIMIT_BACKUP_BATCH], r;
	char name[32];

	if (!is_one_file_system(directory))
		return -EXDEV;
	for (unsigned i = 0; i < n_jobs; i++) {
		jobs[i]->error = 0;
		fds[i] = -1;
	}
	r = write_contents(directory, jobs, n_jobs, fds);
	for (unsigned i = 0; i < n_jobs; i++)
		std_closep(&fds[i]);
	if (r == 0)
		r = name_all(directory, jobs, n_jobs);
	for (unsigned i = 0; i < n_jobs && r < 0; i++) {
		temporary_of(i, name);
		(void)unlinkat(directory->fds[jobs[i]->place], name, 0);
	}
	return r;
}
