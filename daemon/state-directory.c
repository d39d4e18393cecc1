#include "daemon/state-directory.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#define LOCK_NAME "lock"
#define LINK_NAME "state"
#define PROBE_NAME ".group"
#define HAS_GROUP(gid) ((gid) != (gid_t)-1)

/* Owner and mode as they must be; whatever stood there may have been somebody else's. */
static int claim(int fd, bool is_for_group, gid_t gid)
{
	mode_t mode = is_for_group && HAS_GROUP(gid) ? 0710 : 0700;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid())
		return -EPERM;
	if (HAS_GROUP(gid) && is_for_group && st.st_gid != gid && fchown(fd, (uid_t)-1, gid) < 0)
		return -errno;
	if ((st.st_mode & 07777) != mode && fchmod(fd, mode) < 0)
		return -errno;
	return 0;
}

/*
 * Whether files may be given to that group: a user who is no member must not. The kernel's answer
 * alone counts, which capabilities and file systems have a say in; other troubles come up later,
 * and are others'.
 */
static bool may_give(int directory, gid_t gid)
{
	AUTO_CLOSE int fd = -1;
	bool may;

	(void)unlinkat(directory, PROBE_NAME, 0);
	fd = openat(
		directory, PROBE_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return true;
	may = fchown(fd, (uid_t)-1, gid) == 0 || errno != EPERM;
	(void)unlinkat(directory, PROBE_NAME, 0);
	return may;
}

static int make_directory(int parent, const char *name, bool is_for_group, gid_t gid)
{
	AUTO_CLOSE int fd = -1;
	int r;

	if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP || errno == ENOTDIR ? -EPERM : -errno;
	r = claim(fd, is_for_group, gid);
	return r < 0 ? r : TAKE_FD(fd);
}

static int open_backups(struct state_directory *directory)
{
	AUTO_CLOSE int fd =
		make_directory(directory->fds[STATE_TOP], "backup", true, directory->gid);

	if (fd < 0)
		return fd;
	directory->fds[STATE_OPEN] = make_directory(fd, "open", true, directory->gid);
	if (directory->fds[STATE_OPEN] < 0)
		return directory->fds[STATE_OPEN];
	directory->fds[STATE_PRIVATE] = make_directory(fd, "private", false, directory->gid);
	return MIN(directory->fds[STATE_PRIVATE], 0);
}

static int open_places(const char *path, struct state_directory *directory)
{
	static const struct {
		enum state_place place;
		const char *name;
	} others[] = { { STATE_HISTORY, "history" }, { STATE_PINS, "pins" },
		{ STATE_DAMAGED, "damaged" } };
	int r;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	directory->fds[STATE_TOP] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory->fds[STATE_TOP] < 0)
		return -errno;
	if (HAS_GROUP(directory->gid) && !may_give(directory->fds[STATE_TOP], directory->gid))
		directory->gid = (gid_t)-1;
	r = claim(directory->fds[STATE_TOP], true, directory->gid);
	if (r == 0)
		r = open_backups(directory);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(others); i++) {
		int fd = make_directory(
			directory->fds[STATE_TOP], others[i].name, false, directory->gid);

		directory->fds[others[i].place] = fd;
		r = MIN(fd, 0);
	}
	return r;
}

static int take_lock(struct state_directory *directory)
{
	AUTO_CLOSE int fd = openat(directory->fds[STATE_TOP], LOCK_NAME,
		O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return errno == ELOOP ? -EPERM : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
	directory->lock = TAKE_FD(fd);
	return 0;
}

int state_directory_open(const char *path, gid_t gid, struct state_directory *directory)
{
	int r;

	*directory = (struct state_directory)STATE_DIRECTORY_NONE;
	directory->gid = gid;
	r = open_places(path, directory);
	return r < 0 ? r : take_lock(directory);
}

static bool is_same(const struct state_directory *a, const struct state_directory *b)
{
	struct stat one, other;

	return fstat(a->fds[STATE_TOP], &one) == 0 && fstat(b->fds[STATE_TOP], &other) == 0 &&
	       one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

/* What lasts beyond the one before must not be given up with it. */
static int share_lock(const struct state_directory *before, struct state_directory *directory)
{
	directory->lock = fcntl(before->lock, F_DUPFD_CLOEXEC, 0);
	return directory->lock < 0 ? -errno : 0;
}

int state_directory_reopen(
	const char *path, const struct state_directory *before, struct state_directory *directory)
{
	int r;

	*directory = (struct state_directory)STATE_DIRECTORY_NONE;
	directory->gid = before->gid;
	r = open_places(path, directory);
	if (r < 0)
		return r;
	return is_same(before, directory) ? share_lock(before, directory) : take_lock(directory);
}

void state_directory_close(struct state_directory *directory)
{
	for (unsigned i = 0; i < STATE_PLACES; i++)
		std_closep(&directory->fds[i]);
	std_closep(&directory->lock);
	*directory = (struct state_directory)STATE_DIRECTORY_NONE;
}

int state_directory_link(const char *path, const char *runtime_directory)
{
	AUTO_CLOSE int fd = -1;
	char absolute[PATH_MAX], old[PATH_MAX];
	ssize_t n;

	if (!realpath(path, absolute))
		return -errno;
	fd = open(runtime_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = readlinkat(fd, LINK_NAME, old, sizeof(old));
	if (n == (ssize_t)strlen(absolute) && memcmp(old, absolute, (size_t)n) == 0)
		return 0;
	(void)unlinkat(fd, LINK_NAME, 0);
	return symlinkat(absolute, fd, LINK_NAME) < 0 ? -errno : 0;
}

int state_directory_open_file(int directory, const char *name)
{
	AUTO_CLOSE int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return errno == ELOOP ? -EPERM : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022) != 0)
		return -EPERM;
	return TAKE_FD(fd);
}

int state_directory_set_aside(const struct state_directory *directory, int from, const char *name)
{
	if (renameat(from, name, directory->fds[STATE_DAMAGED], name) < 0)
		return -errno;
	return 0;
}
