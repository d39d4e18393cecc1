#include "client/tools/target.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>

#include "proto/key.h"
#include "proto/limits.h"

#define FRESH_SUFFIX ".consulcfg-new" /* always the same: what a crash left is used again */
#define DEFAULT_MODE 0600 /* configuration holds passwords more often than not */
#define PATH_SIZE (LIMIT_KEY + 4096)

PRINTF_FORMAT(3, 4)
static int fail(struct target *target, int error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(target->trouble, sizeof(target->trouble), format, arguments);
	va_end(arguments);
	return error;
}

/* The path of the file that is made beside another: hidden, so that wildcards do not find it. */
static char *fresh_beside(const char *path)
{
	const char *slash = strrchr(path, '/');
	int directory_len = slash ? (int)(slash - path) + 1 : 0;
	char *fresh;

	if (asprintf(&fresh, "%.*s.%s%s", directory_len, path, path + directory_len, FRESH_SUFFIX) <
		0)
		return NULL;
	return fresh;
}

/* What is at the path now is something that may be replaced. */
static int check(struct target *target)
{
	struct stat st;

	if (lstat(target->path, &st) < 0)
		return errno == ENOENT
			       ? 0
			       : fail(target, -errno, "%s: %s", target->path, strerror(errno));
	if (S_ISLNK(st.st_mode))
		return fail(target, -EINVAL,
			"%s is a symbolic link: give the path that it points to, see realpath(1)",
			target->path);
	if (target->is_directory ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode))
		return fail(target, -EINVAL, "%s is there and is no %s: give another path",
			target->path, target->is_directory ? "directory" : "plain file");
	return 0;
}

int target_init(struct target *target)
{
	size_t len = strlen(target->path);

	if (len == 0 || target->path[len - 1] == '/' || len > 4000)
		return fail(
			target, -EINVAL, "'%s' is not the path of a file to write", target->path);
	target->fresh = fresh_beside(target->path);
	if (!target->fresh)
		return fail(target, -ENOMEM, "%s", strerror(ENOMEM));
	return check(target);
}

void target_done(struct target *target)
{
	free(target->fresh);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_all(const char *path)
{
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* --- comparing ----------------------------------------------------------------------------------
 */

static bool holds(const char *path, const char *text, size_t len)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
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

static bool has_wanted_mode(const struct target *target)
{
	struct stat st;

	return !target->has_mode ||
	       (lstat(target->path, &st) == 0 && (st.st_mode & 07777) == target->mode);
}

bool target_is_same(const struct target *target, const char *text, size_t len)
{
	return has_wanted_mode(target) && holds(target->path, text, len);
}

static size_t n_files; /* nftw() has no place for userdata */

static int count_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path;
	(void)st;
	(void)ftw;
	n_files += type != FTW_D;
	return 0;
}

bool target_is_same_view(const struct target *target, const ccfg_view *view)
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	size_t cursor = 0, n = 0;
	char path[PATH_SIZE];
	struct stat st;

	if (lstat(target->path, &st) < 0)
		return false;
	for (; ccfg_view_next(view, "", &cursor, &entry); n++) {
		snprintf(path, sizeof(path), "%s/%s", target->path, entry.key);
		if (!holds(path, entry.value, entry.value_len))
			return false;
	}
	n_files = 0;
	return nftw(target->path, count_entry, 16, FTW_PHYS) == 0 && n_files == n;
}

/* --- writing ------------------------------------------------------------------------------------
 */

static mode_t wanted_mode(const struct target *target)
{
	struct stat st;

	if (target->has_mode)
		return target->mode;
	if (!target->is_directory && lstat(target->path, &st) == 0)
		return st.st_mode & 07777;
	return DEFAULT_MODE;
}

/* Root replaces a file of somebody else: it stays his. */
static int keep_owner(const struct target *target, int fd)
{
	struct stat st;

	if (geteuid() != 0 || lstat(target->path, &st) < 0)
		return 0;
	return fchown(fd, st.st_uid, st.st_gid);
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

static int write_file(struct target *target, const char *path, const char *text, size_t len)
{
	AUTO_CLOSE int fd =
		open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, DEFAULT_MODE);

	if (fd < 0 || write_all(fd, text, len) < 0 || keep_owner(target, fd) < 0 ||
		fchmod(fd, wanted_mode(target)) < 0 || fdatasync(fd) < 0)
		return fail(target, -errno, "cannot write %s: %s: %s stays as it was", path,
			strerror(errno), target->path);
	return 0;
}

int target_write(struct target *target, const char *text, size_t len)
{
	int r;

	r = check(target);
	if (r < 0)
		return r;
	remove_all(target->fresh);
	r = write_file(target, target->fresh, text, len);
	if (r < 0)
		target_drop(target);
	return r;
}

/* As many x as r. */
static mode_t directory_mode(const struct target *target)
{
	mode_t mode = wanted_mode(target);

	return mode | (mode & 0444) >> 2;
}

/* A segment that names another place, or none. */
static bool leads_away(const char *key)
{
	for (const char *p = key;; p++) {
		size_t len = strcspn(p, "/");

		if (len == 0 || len > 255 ||
			(p[0] == '.' && (len == 1 || (len == 2 && p[1] == '.'))))
			return true;
		p += len;
		if (*p == '\0')
			return false;
	}
}

static int make_parents(const struct target *target, char *path)
{
	for (char *slash = path + strlen(target->fresh) + 1; (slash = strchr(slash, '/'));
		slash++) {
		int r;

		*slash = '\0';
		r = mkdir(path, directory_mode(target));
		*slash = '/';
		if (r < 0 && errno != EEXIST)
			return -1;
	}
	return 0;
}

static int write_entry(struct target *target, const struct ccfg_entry *entry)
{
	char path[PATH_SIZE], key[128];

	key_escape(entry->key, entry->key_len, key, sizeof(key));
	if (leads_away(entry->key))
		return fail(target, -EINVAL,
			"key %s is not the path of a file: %s stays as it was; rename the key", key,
			target->path);
	snprintf(path, sizeof(path), "%s/%s", target->fresh, entry->key);
	if (make_parents(target, path) < 0 && errno != ENOTDIR)
		return fail(target, -errno,
			"cannot make a directory for key %s: %s: %s stays as it was", key,
			strerror(errno), target->path);
	if (access(path, F_OK) == 0 || errno == ENOTDIR)
		return fail(target, -EINVAL,
			"key %s would be a file and a directory: %s stays as it was; rename the key",
			key, target->path);
	return write_file(target, path, entry->value, entry->value_len);
}

static int write_entries(struct target *target, const ccfg_view *view)
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	size_t cursor = 0;

	while (ccfg_view_next(view, "", &cursor, &entry)) {
		int r = write_entry(target, &entry);

		if (r < 0)
			return r;
	}
	return 0;
}

int target_write_view(struct target *target, const ccfg_view *view)
{
	mode_t old_mask;
	int r;

	r = check(target);
	if (r < 0)
		return r;
	remove_all(target->fresh);
	old_mask = umask(0);
	r = mkdir(target->fresh, directory_mode(target));
	if (r < 0)
		r = fail(target, -errno, "cannot make %s: %s: %s stays as it was", target->fresh,
			strerror(errno), target->path);
	else
		r = write_entries(target, view);
	umask(old_mask);
	if (r < 0)
		target_drop(target);
	return r;
}

int target_commit(struct target *target)
{
	unsigned flags = target->is_directory && access(target->path, F_OK) == 0
				 ? (unsigned)RENAME_EXCHANGE
				 : 0;
	int r = 0;

	if (renameat2(AT_FDCWD, target->fresh, AT_FDCWD, target->path, flags) < 0)
		r = fail(target, -errno, "cannot replace %s: %s: it stays as it was", target->path,
			strerror(errno));
	/* What was there, or what could not go there. */
	if (r < 0 || flags != 0)
		target_drop(target);
	return r;
}

void target_drop(struct target *target)
{
	remove_all(target->fresh);
}
