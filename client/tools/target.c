#include "client/tools/target.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>

#include "client/tools/folder.h"
#include "proto/key.h"
#include "proto/limits.h"

#define FRESH_SUFFIX ".consulcfg-new"
#define MARK_SUFFIX ".consulcfg-pending"
#define DEFAULT_MODE 0600 /* configuration holds passwords more often than not */
#define MAKE_FILE (O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW)
#define READ_FILE (O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)

PRINTF_FORMAT(3, 4)
static int fail(struct target *target, int error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(target->trouble, sizeof(target->trouble), format, arguments);
	va_end(arguments);
	return error;
}

static int fail_write(struct target *target, int error, const char *path)
{
	return fail(target, error, "cannot write %s: %s: %s stays as it was", path,
		strerror(-error), target->path);
}

/* The path of what is made beside another: hidden, so that wildcards do not find it. */
static char *beside(const char *path, const char *suffix, const char *word)
{
	const char *name = folder_name(path);
	char *made;

	if (asprintf(&made, "%.*s.%s%s%s", (int)(name - path), path, name, suffix, word) < 0)
		return NULL;
	return made;
}

/* What is at the path now is something that may be replaced. */
static int check(struct target *target)
{
	const char *path = target->path;

	if (std_streq(path, "-"))
		return fail(target, -EINVAL,
			"- is a file's name here: give another, or ./- for that one");
	target->has_old =
		fstatat(target->folder, folder_name(path), &target->old, AT_SYMLINK_NOFOLLOW) == 0;
	if (!target->has_old)
		return errno == ENOENT ? 0 : fail(target, -errno, "%s: %s", path, strerror(errno));
	if (S_ISLNK(target->old.st_mode))
		return fail(target, -EINVAL,
			"%s is a symbolic link: give the path that it points to, see realpath(1)",
			path);
	if (target->is_directory ? !S_ISDIR(target->old.st_mode) : !S_ISREG(target->old.st_mode))
		return fail(target, -EINVAL, "%s is there and is no %s: give another path", path,
			target->is_directory ? "directory" : "plain file");
	return 0;
}

int target_look(struct target *target)
{
	std_closep(&target->folder);
	target->folder = folder_of(target->path);
	if (target->folder < 0)
		return fail(target, target->folder,
			"%s: %s: give a path in a directory that is there", target->path,
			strerror(-target->folder));
	return check(target);
}

/* What a process left that has ended while it made a new one. */
static int remove_left(int folder, const char *name, void *userdata)
{
	const struct target *target = userdata;
	const char *own = folder_name(target->path);
	size_t len = strlen(own);
	AUTO_CLOSE int fd = -1;
	const char *rest;

	if (name[0] != '.' || strncmp(name + 1, own, len) != 0)
		return 0;
	rest = name + 1 + len;
	if (strncmp(rest, FRESH_SUFFIX, strlen(FRESH_SUFFIX)) != 0)
		return 0;
	rest += strlen(FRESH_SUFFIX);
	if (*rest != '\0' && *rest != '.')
		return 0;
	/* Whoever makes one holds its lock. What cannot be opened may be another user's, at work.
	 */
	fd = openat(folder, name, READ_FILE);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		(void)folder_remove(folder, name);
	return 0;
}

int target_init(struct target *target)
{
	size_t len = strlen(target->path);
	int r;

	if (len == 0 || target->path[len - 1] == '/' || len > 4000)
		return fail(
			target, -EINVAL, "'%s' is not the path of a file to write", target->path);
	target->mark = beside(target->path, MARK_SUFFIX, "");
	if (!target->mark)
		return fail(target, -ENOMEM, "%s", strerror(ENOMEM));
	r = target_look(target);
	if (r == 0)
		/* In a directory that cannot be listed there is nothing to be found. */
		(void)folder_each(target->folder, remove_left, target);
	return r;
}

void target_done(struct target *target)
{
	target_drop(target);
	std_closep(&target->folder);
	free(target->mark);
}

/* --- comparing ----------------------------------------------------------------------------------
 */

static bool holds(int folder, const char *name, const char *text, size_t len)
{
	AUTO_CLOSE int fd = openat(folder, name, READ_FILE);
	char buf[65536];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != (off_t)len)
		return false;
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		if ((size_t)n > len || memcmp(buf, text, (size_t)n) != 0)
			return false;
		text += n;
		len -= (size_t)n;
	}
	return n == 0 && len == 0;
}

bool target_is_same(const struct target *target, const char *text, size_t len)
{
	if (!target->has_old || (target->has_mode && (target->old.st_mode & 07777) != target->mode))
		return false;
	return holds(target->folder, folder_name(target->path), text, len);
}

static bool holds_entry(int top, const struct ccfg_entry *entry)
{
	AUTO_CLOSE int folder = folder_enter(top, entry->key, false);

	return folder >= 0 &&
	       holds(folder, folder_name(entry->key), entry->value, entry->value_len);
}

bool target_is_same_view(const struct target *target, const ccfg_view *view)
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	size_t cursor = 0, n = 0, n_files;
	AUTO_CLOSE int top = -1;

	if (!target->has_old)
		return false;
	top = openat(target->folder, folder_name(target->path),
		O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (top < 0)
		return false;
	for (; ccfg_view_next(view, "", &cursor, &entry); n++)
		if (!holds_entry(top, &entry))
			return false;
	return folder_count(top, ".", &n_files) == 0 && n_files == n;
}

/* --- writing ------------------------------------------------------------------------------------
 */

/* What sets a user or a group is no part of the mode: the text is another one. */
static mode_t wanted_mode(const struct target *target)
{
	if (target->has_mode)
		return target->mode;
	return target->has_old && !target->is_directory ? target->old.st_mode & 0777 : DEFAULT_MODE;
}

/* Root replaces a file of somebody else: it stays his. NULL: that of this process. */
static const struct stat *wanted_owner(const struct target *target)
{
	return geteuid() == 0 && target->has_old ? &target->old : NULL;
}

/* As many x as r. */
static mode_t directory_mode(const struct target *target)
{
	mode_t mode = wanted_mode(target);

	return mode | (mode & 0444) >> 2;
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			return -1;
		text += MAX(n, 0);
		len -= (size_t)MAX(n, 0);
	}
	return 0;
}

static int fill_file(const struct target *target, int fd, const char *text, size_t len)
{
	const struct stat *owner = wanted_owner(target);

	if (write_all(fd, text, len) < 0 ||
		(owner && fchown(fd, owner->st_uid, owner->st_gid) < 0) ||
		fchmod(fd, wanted_mode(target)) < 0 || fdatasync(fd) < 0)
		return -errno;
	return 0;
}

/* A name that nobody has taken, whoever else may write there. */
static int choose_fresh(struct target *target)
{
	unsigned long long random = 0;
	char word[32];

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return fail(target, -errno, "no random numbers: %s", strerror(errno));
	snprintf(word, sizeof(word), ".%016llx", random);
	target->fresh = beside(target->path, FRESH_SUFFIX, word);
	return target->fresh ? 0 : fail(target, -ENOMEM, "%s", strerror(ENOMEM));
}

static void forget_fresh(struct target *target)
{
	std_closep(&target->fd);
	target->fd = -1;
	free(TAKE_PTR(target->fresh));
}

static int make_fresh(const struct target *target)
{
	const char *name = folder_name(target->fresh);
	int fd;

	if (target->is_directory)
		return folder_make(target->folder, name);
	fd = openat(target->folder, name, MAKE_FILE, DEFAULT_MODE);
	return fd < 0 ? -errno : fd;
}

/* -ESTALE: it was removed before it was locked. */
static int lock_fresh(struct target *target)
{
	struct stat st;
	int r;

	if (target->fd < 0)
		return target->fd == -ENOENT ? -ESTALE : target->fd;
	if (flock(target->fd, LOCK_EX) == 0 && fstat(target->fd, &st) == 0)
		return st.st_nlink > 0 ? 0 : -ESTALE;
	r = -errno;
	(void)folder_remove(target->folder, folder_name(target->fresh));
	return r;
}

/* The new one, empty and locked. Until it is locked a process that starts takes it for left. */
static int begin_fresh(struct target *target)
{
	int r = -ESTALE;

	for (unsigned i = 0; r == -ESTALE && i < LIMIT_FRESH_TRIES; i++) {
		r = choose_fresh(target);
		if (r < 0)
			return r;
		target->fd = make_fresh(target);
		r = lock_fresh(target);
		if (r < 0) {
			fail_write(target, r, target->fresh);
			forget_fresh(target);
		}
	}
	return r;
}

int target_write(struct target *target, const char *text, size_t len)
{
	int r;

	r = begin_fresh(target);
	if (r < 0)
		return r;
	r = fill_file(target, target->fd, text, len);
	if (r < 0) {
		fail_write(target, r, target->fresh);
		target_drop(target);
	}
	return r;
}

/* Whether it is a path below the target: no segment is empty or names another place. */
static bool is_path(const struct target *target, const char *key, size_t key_len)
{
	unsigned n = 0;

	if (strlen(target->path) + 1 + key_len >= PATH_MAX)
		return false;
	for (const char *p = key;; p++) {
		size_t len = strcspn(p, "/");

		if (len == 0 || len > NAME_MAX || ++n >= LIMIT_FOLDER_DEPTH ||
			(p[0] == '.' && (len == 1 || (len == 2 && p[1] == '.'))))
			return false;
		p += len;
		if (*p == '\0')
			return true;
	}
}

static int write_entry(struct target *target, const struct ccfg_entry *entry)
{
	AUTO_CLOSE int folder = -1, fd = -1;
	char key[128];
	int r;

	key_escape(entry->key, entry->key_len, key, sizeof(key));
	if (!is_path(target, entry->key, entry->key_len))
		return fail(target, -EINVAL,
			"key %s is not the path of a file: %s stays as it was; rename the key", key,
			target->path);
	folder = folder_enter(target->fd, entry->key, true);
	if (folder >= 0)
		fd = openat(folder, folder_name(entry->key), MAKE_FILE, DEFAULT_MODE);
	r = folder < 0 ? folder : fd < 0 ? -errno : 0;
	if (r == -ENOTDIR || r == -EEXIST)
		return fail(target, -EINVAL,
			"key %s would be a file and a directory: %s stays as it was; rename the key",
			key, target->path);
	if (r == 0)
		r = fill_file(target, fd, entry->value, entry->value_len);
	if (r < 0)
		return fail(target, r, "cannot write key %s to %s: %s: %s stays as it was", key,
			target->fresh, strerror(-r), target->path);
	return 0;
}

static int write_entries(struct target *target, const ccfg_view *view)
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	size_t cursor = 0;
	int r;

	while (ccfg_view_next(view, "", &cursor, &entry)) {
		r = write_entry(target, &entry);
		if (r < 0)
			return r;
	}
	/* Only now may somebody else enter it. */
	r = folder_give(target->fd, wanted_owner(target), directory_mode(target));
	return r < 0 ? fail_write(target, r, target->fresh) : 0;
}

int target_write_view(struct target *target, const ccfg_view *view)
{
	int r;

	r = begin_fresh(target);
	if (r < 0)
		return r;
	r = write_entries(target, view);
	if (r < 0)
		target_drop(target);
	return r;
}

/* Nobody has put something else in the place of the new one. */
static bool is_fresh(const struct target *target)
{
	struct stat made, found;

	return fstat(target->fd, &made) == 0 &&
	       fstatat(target->folder, folder_name(target->fresh), &found, AT_SYMLINK_NOFOLLOW) ==
		       0 &&
	       made.st_dev == found.st_dev && made.st_ino == found.st_ino;
}

/* 1: what was there is where the new one was. */
static int put_in_place(const struct target *target)
{
	const char *from = folder_name(target->fresh), *to = folder_name(target->path);

	/* A directory may have come there meanwhile. */
	if ((!target->is_directory || !target->has_old) &&
		renameat2(target->folder, from, target->folder, to, 0) == 0)
		return 0;
	if (!target->is_directory || (!target->has_old && errno != ENOTEMPTY))
		return -errno;
	return renameat2(target->folder, from, target->folder, to, RENAME_EXCHANGE) < 0 ? -errno
											: 1;
}

int target_commit(struct target *target)
{
	int r;

	if (!is_fresh(target)) {
		r = fail(target, -ESTALE, "somebody else has moved %s away: %s stays as it was",
			target->fresh, target->path);
	} else {
		r = put_in_place(target);
		if (r < 0)
			fail(target, r, "cannot replace %s: %s: it stays as it was", target->path,
				strerror(-r));
	}
	/* What was there, or what could not go there. */
	if (r != 0) {
		target_drop(target);
		return MIN(r, 0);
	}
	forget_fresh(target);
	return 0;
}

void target_drop(struct target *target)
{
	if (!target->fresh)
		return;
	/* What cannot be removed is tried again at the next start. */
	(void)folder_remove(target->folder, folder_name(target->fresh));
	forget_fresh(target);
}

/* --- what is owed -------------------------------------------------------------------------------
 */

bool target_is_owed(const struct target *target)
{
	struct stat st;

	/* Of somebody else it says nothing: directories are shared. */
	return fstatat(target->folder, folder_name(target->mark), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st.st_mode) && st.st_uid == geteuid();
}

int target_owe(struct target *target)
{
	AUTO_CLOSE int fd =
		openat(target->folder, folder_name(target->mark), MAKE_FILE, DEFAULT_MODE);

	if (fd < 0 && !(errno == EEXIST && target_is_owed(target)))
		return fail_write(target, -errno, target->mark);
	/* EBADF: a directory that cannot be listed cannot be synced either. */
	if (fsync(target->folder) < 0 && errno != EBADF && errno != EINVAL)
		return fail_write(target, -errno, target->mark);
	return 0;
}

int target_settle(struct target *target)
{
	if (unlinkat(target->folder, folder_name(target->mark), 0) < 0 && errno != ENOENT)
		return fail(target, -errno,
			"cannot remove %s: %s: the command will be run again at the next change",
			target->mark, strerror(errno));
	return 0;
}
