#include "client/tools/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>

#include "proto/limits.h"

#define OPEN_FOLDER (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

int folder_of(const char *path)
{
	size_t len = (size_t)(folder_name(path) - path);
	AUTO_FREE char *directory = len == 0 ? strdup(".") : strndup(path, len);
	int fd;

	if (!directory)
		return -ENOMEM;
	fd = open(directory, OPEN_FOLDER);
	/* Files can be replaced in a directory that cannot be listed. */
	if (fd < 0 && errno == EACCES)
		fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

const char *folder_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int folder_enter(int folder, const char *path, bool makes)
{
	AUTO_CLOSE int at = openat(folder, ".", OPEN_FOLDER);
	char name[NAME_MAX + 1];

	for (const char *slash; at >= 0 && (slash = strchr(path, '/')); path = slash + 1) {
		size_t len = (size_t)(slash - path);
		int next;

		if (len >= sizeof(name))
			return -ENAMETOOLONG;
		memcpy(name, path, len);
		name[len] = '\0';
		if (makes && mkdirat(at, name, 0700) < 0 && errno != EEXIST)
			return -errno;
		next = openat(at, name, OPEN_FOLDER | O_NOFOLLOW);
		if (next < 0)
			return -errno;
		close(at);
		at = next;
	}
	return at < 0 ? -errno : TAKE_FD(at);
}

static int refuse_entry(int folder, const char *name, void *userdata)
{
	(void)folder;
	(void)name;
	(void)userdata;
	return -ENOTEMPTY;
}

int folder_make(int folder, const char *name)
{
	AUTO_CLOSE int fd = -1;
	struct stat st;
	int r;

	if (mkdirat(folder, name, 0700) < 0)
		return -errno;
	fd = openat(folder, name, OPEN_FOLDER | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	/* The owner of the folder may have put another one there meanwhile. What is ours, empty and
	 * shut is as good as what was made. */
	if (st.st_uid != geteuid() || (st.st_mode & 0077) != 0)
		return -EPERM;
	r = folder_each(fd, refuse_entry, NULL);
	return r < 0 ? r : TAKE_FD(fd);
}

/* --- all that is below --------------------------------------------------------------------------
 */

struct walk {
	int (*on_file)(struct walk *walk, int folder, const char *name);
	int (*on_folder)(struct walk *walk, int folder); /* before what is in it, or NULL */
	int (*on_left)(struct walk *walk, int folder, const char *name, int left); /* or NULL */
	unsigned depth;
	const struct stat *owner;
	mode_t mode;
	size_t n_files;
};

int folder_each(int folder, int (*fn)(int folder, const char *name, void *userdata), void *userdata)
{
	/* Its own place in the list of names. */
	int fd = openat(folder, ".", OPEN_FOLDER), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!dir) {
		r = -errno;
		std_closep(&fd);
		return r;
	}
	while (r == 0 && (errno = 0, entry = readdir(dir)))
		if (!std_streq(entry->d_name, ".") && !std_streq(entry->d_name, ".."))
			r = fn(folder, entry->d_name, userdata);
	if (r == 0)
		r = -errno;
	closedir(dir);
	return r;
}

static int walk_entry(int folder, const char *name, void *userdata)
{
	AUTO_CLOSE int fd = openat(folder, name, OPEN_FOLDER | O_NOFOLLOW);
	struct walk *walk = userdata;
	struct stat here, there;
	int r;

	if (fd < 0)
		return errno == ENOTDIR || errno == ELOOP ? walk->on_file(walk, folder, name)
							  : -errno;
	/* What is mounted there is not ours. */
	if (fstat(folder, &here) < 0 || fstat(fd, &there) < 0)
		return -errno;
	if (here.st_dev != there.st_dev)
		return -EXDEV;
	if (walk->depth >= LIMIT_FOLDER_DEPTH)
		return -ENAMETOOLONG;
	r = walk->on_folder ? walk->on_folder(walk, fd) : 0;
	walk->depth++;
	if (r == 0)
		r = folder_each(fd, walk_entry, walk);
	walk->depth--;
	if (r == 0 && walk->on_left)
		r = walk->on_left(walk, folder, name, fd);
	return r;
}

/* --- giving ------------------------------------------------------------------------------------
 */

static int leave_file(struct walk *walk, int folder, const char *name)
{
	(void)walk;
	(void)folder;
	(void)name;
	return 0;
}

static int give_left(struct walk *walk, int folder, const char *name, int left)
{
	(void)folder;
	(void)name;
	if (walk->owner && fchown(left, walk->owner->st_uid, walk->owner->st_gid) < 0)
		return -errno;
	return fchmod(left, walk->mode) < 0 || fsync(left) < 0 ? -errno : 0;
}

int folder_give(int folder, const struct stat *owner, mode_t mode)
{
	struct walk walk = {
		.on_file = leave_file, .on_left = give_left, .owner = owner, .mode = mode
	};

	return walk_entry(folder, ".", &walk);
}

/* --- counting ----------------------------------------------------------------------------------
 */

static int count_file(struct walk *walk, int folder, const char *name)
{
	(void)folder;
	(void)name;
	walk->n_files++;
	return 0;
}

int folder_count(int folder, const char *name, size_t *ret_n)
{
	struct walk walk = { .on_file = count_file };
	int r = walk_entry(folder, name, &walk);

	if (r == 0)
		*ret_n = walk.n_files;
	return r;
}

/* --- removing ----------------------------------------------------------------------------------
 */

static int remove_file(struct walk *walk, int folder, const char *name)
{
	(void)walk;
	return unlinkat(folder, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* A directory of ours may be read-only, for others and for us. */
static int unlock(struct walk *walk, int folder)
{
	(void)walk;
	if (geteuid() != 0)
		(void)fchmod(folder, 0700);
	return 0;
}

static int remove_left(struct walk *walk, int folder, const char *name, int left)
{
	(void)walk;
	(void)left;
	return unlinkat(folder, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int folder_remove(int folder, const char *name)
{
	struct walk walk = { .on_file = remove_file, .on_folder = unlock, .on_left = remove_left };
	int r = walk_entry(folder, name, &walk);

	return r == -ENOENT ? 0 : r;
}
