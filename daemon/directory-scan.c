#include "daemon/directory-scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "daemon/directory-file.h"
#include "daemon/directory-walk.h"
#include "daemon/loop.h"
#include "proto/hash.h"
#include "proto/key.h"
#include "proto/limits.h"

#define SLICE_ENTRIES (LIMIT_SLICE_ENTRIES / 8) /* a file costs more than an entry of an answer */
#define SHOWN_PATH 100 /* bytes of a path in a message, its end */

/* One directory. At its end the scan looks whether it is still the one that was read. */
struct level {
	struct level *next; /* scan::pending, then scan::done */
	unsigned depth; /* below the prefix */
	bool is_above; /* the prefix: only files whose flat name leads below it count */
	bool is_optional; /* above the prefix or the prefix itself */
	struct stat st;
	char path[]; /* relative to the root; empty: the root */
};

struct directory_scan {
	const struct directory_scan_settings *settings;
	struct directory_follower *follower;
	const char *prefix;
	struct kvset *set;
	int root_fd;
	struct stat root;
	struct level *pending, *done; /* last in, first out: few wait at a time */
	unsigned n_levels;
	struct level *level; /* being read */
	DIR *dir; /* of level */
	int token; /* of level */
	struct directory_file file;
	char key[PATH_MAX + NAME_MAX + 2]; /* of the entry at hand, from the root */
	uint64_t empties;
	bool is_cutting;
	bool is_mixed;
	bool is_bare;
	char message[150];
};

/* Keeps a message for people; returns r. */
static int fail(struct directory_scan *scan, int r, const char *name, const char *reason)
{
	const char *level = scan->level ? scan->level->path : "";
	char path[2 * PATH_MAX], shown[SHOWN_PATH + 4];
	const char *end;

	snprintf(path, sizeof(path), "%s%s%s%s%s", scan->settings->root, level[0] ? "/" : "", level,
		name ? "/" : "", name ? name : "");
	end = strlen(path) > SHOWN_PATH ? path + strlen(path) - SHOWN_PATH + 3 : path;
	key_escape(end, strlen(end), shown, sizeof(shown));
	snprintf(scan->message, sizeof(scan->message), "%s%s: %s", end == path ? "" : "...", shown,
		reason);
	return r;
}

static int fail_errno(struct directory_scan *scan, const char *name)
{
	return fail(scan, -errno, name, strerror(errno));
}

static int changing(struct directory_scan *scan, const char *name)
{
	return fail(scan, -EAGAIN, name, "comes, goes or changes while it is read");
}

static int push_level(struct directory_scan *scan, const char *path, size_t path_len,
	const char *name, unsigned depth, bool is_above)
{
	size_t size = path_len + strlen(name) + 2;
	struct level *level;

	if (depth > LIMIT_DIRECTORY_DEPTH)
		return fail(scan, -E2BIG, name, "too deep, or a link that leads back");
	if (++scan->n_levels > LIMIT_DIRECTORY_COUNT)
		return fail(scan, -E2BIG, name, "too many directories, or links that lead back");
	level = calloc(1, sizeof(*level) + size);
	if (!level)
		return fail_errno(scan, name);
	snprintf(level->path, size, "%.*s%s%s", (int)path_len, path,
		path_len > 0 && name[0] ? "/" : "", name);
	level->depth = depth;
	level->is_above = is_above;
	level->is_optional = depth == 0;
	level->next = scan->pending;
	scan->pending = level;
	return 1;
}

/* The length of the leading part of the prefix that directories can be named after. */
static size_t nameable_len(const char *prefix)
{
	size_t len = 0;

	while (prefix[len] != '\0') {
		size_t start = len > 0 ? len + 1 : 0;
		size_t end = start + strcspn(prefix + start, "/");
		char name[NAME_MAX + 1];

		if (prefix[start] == '\0' || end - start > NAME_MAX)
			break;
		snprintf(name, sizeof(name), "%.*s", (int)(end - start), prefix + start);
		if (!directory_notify_is_visible(name))
			break;
		len = end;
	}
	return len;
}

static size_t parent_len(const char *path, size_t len)
{
	while (len > 0 && path[--len] != '/')
		;
	return len;
}

/* The prefix's directory and, where flat names may lead below it, those above. */
static int push_prefix(struct directory_scan *scan)
{
	const char *prefix = scan->prefix;
	size_t len = nameable_len(prefix);
	bool is_above = prefix[len] != '\0' && !std_streq(prefix + len, "/");
	char path[PATH_MAX];
	struct directory_place place;
	int r = 1;

	if (len >= sizeof(path))
		return 1;
	snprintf(path, sizeof(path), "%.*s", (int)len, prefix);
	directory_walk(scan->follower, scan->root_fd, path, DIRECTORY_STEP, &place);
	/* The root is pushed last and so read first. */
	while (r > 0 && (!is_above || scan->settings->flat)) {
		r = push_level(scan, prefix, len, "", 0, is_above);
		if (len == 0 || !scan->settings->flat)
			break;
		len = parent_len(prefix, len);
		is_above = true;
	}
	return r;
}

static int open_root(struct directory_scan *scan)
{
	const char *root = scan->settings->root;
	struct directory_place place;

	directory_walk(scan->follower, AT_FDCWD, root, DIRECTORY_STEP, &place);
	scan->root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (scan->root_fd < 0 || fstat(scan->root_fd, &scan->root) < 0)
		return fail_errno(scan, NULL);
	return push_prefix(scan);
}

static const char *path_or_dot(const struct level *level)
{
	return level->path[0] ? level->path : ".";
}

/* Whether a step of the path is a link whose target is missing: that is no deletion. */
static bool has_dangling_link(const struct directory_scan *scan, const char *path)
{
	char step[PATH_MAX];
	struct stat st;

	for (size_t len = 0; path[len] != '\0';) {
		len += strspn(path + len, "/");
		len += strcspn(path + len, "/");
		snprintf(step, sizeof(step), "%.*s", (int)len, path);
		if (fstatat(scan->root_fd, step, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return false;
		if (S_ISLNK(st.st_mode) && fstatat(scan->root_fd, step, &st, 0) < 0)
			return true;
	}
	return false;
}

static int level_is_missing(struct directory_scan *scan)
{
	if (has_dangling_link(scan, scan->level->path))
		return fail(scan, -ENOENT, NULL, "a link on the way leads nowhere");
	if (!scan->level->is_optional)
		return changing(scan, NULL);
	free(scan->level);
	scan->level = NULL;
	return 1;
}

static int open_level(struct directory_scan *scan)
{
	AUTO_CLOSE int fd = -1;

	scan->level = scan->pending;
	scan->pending = scan->level->next;
	fd = openat(scan->root_fd, path_or_dot(scan->level), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return level_is_missing(scan);
	if (fd < 0)
		return fail_errno(scan, NULL);
	scan->token = directory_notify_add(scan->follower, fd, DIRECTORY_ENTRIES, NULL);
	if (fstat(fd, &scan->level->st) < 0)
		return fail_errno(scan, NULL);
	scan->dir = fdopendir(fd);
	if (!scan->dir)
		return fail_errno(scan, NULL);
	TAKE_FD(fd);
	return 1;
}

static void close_level(struct directory_scan *scan)
{
	closedir(TAKE_PTR(scan->dir));
	scan->level->next = scan->done;
	scan->done = TAKE_PTR(scan->level);
}

/* Writes the key of a file from the root; false when it is not below the prefix. */
static bool build_key(struct directory_scan *scan, const char *name)
{
	const char *path = scan->level->path;
	size_t len = (size_t)snprintf(
		scan->key, sizeof(scan->key), "%s%s", path, path[0] != '\0' ? "/" : "");

	while (*name != '\0') {
		bool is_slash = scan->settings->flat && name[0] == '_' && name[1] == '_';

		scan->key[len++] = is_slash ? '/' : *name;
		name += is_slash ? 2 : 1;
	}
	scan->key[len] = '\0';
	return strncmp(scan->key, scan->prefix, strlen(scan->prefix)) == 0;
}

static int push_child(struct directory_scan *scan, const char *name)
{
	const struct level *level = scan->level;

	/* No key below could be short enough. */
	if (strlen(level->path) + strlen(name) + 2 > PATH_MAX) {
		scan->set->n_skipped++;
		return 1;
	}
	return push_level(scan, level->path, strlen(level->path), name, level->depth + 1, false);
}

static int add_value(struct directory_scan *scan, const char *name)
{
	const char *key = scan->key + strlen(scan->prefix);
	size_t len = scan->file.len;
	int r;

	scan->is_cutting = scan->is_cutting || scan->file.is_cut;
	if (len == 0)
		scan->empties += hash_key(key, strlen(key), 0);
	else if (!scan->settings->keep_newline && scan->file.data[len - 1] == '\n')
		len--;
	r = kvset_add(scan->set, key, strlen(key), scan->file.data, len, 0, 0);
	if (r == -EFBIG)
		return fail(scan, r, name, "the prefix exceeds max_service");
	return r < 0 ? fail(scan, r, name, strerror(-r)) : 1;
}

static int read_file(
	struct directory_scan *scan, const char *name, const struct directory_place *place)
{
	int r = directory_file_read(&scan->file, dirfd(scan->dir), name, place);

	if (r == 0)
		return add_value(scan, name);
	if (r == -EAGAIN)
		return changing(scan, name);
	return fail(scan, r, name, r == -EFBIG ? "larger than max_value" : strerror(-r));
}

static int find_target(struct directory_scan *scan, const char *name, unsigned char *ret_type,
	struct directory_place *ret_place)
{
	int fd = dirfd(scan->dir);
	struct stat st;

	directory_walk(scan->follower, fd, name, DIRECTORY_FILE, ret_place);
	if (fstatat(fd, name, &st, 0) == 0) {
		*ret_type = IFTODT(st.st_mode);
		return 0;
	}
	if (errno != ENOENT && errno != ENOTDIR)
		return fail_errno(scan, name);
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return changing(scan, name);
	return fail(scan, -ENOENT, name, "a link that leads nowhere");
}

/* Finds what an entry is, a link's target for a link, and where that was found. */
static int find_entry(struct directory_scan *scan, const struct dirent *entry,
	unsigned char *ret_type, struct directory_place *ret_place)
{
	unsigned char type = entry->d_type;
	struct stat st;

	if (type == DT_UNKNOWN) {
		if (fstatat(dirfd(scan->dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return errno == ENOENT ? changing(scan, entry->d_name)
					       : fail_errno(scan, entry->d_name);
		type = IFTODT(st.st_mode);
	}
	if (type == DT_LNK)
		return find_target(scan, entry->d_name, ret_type, ret_place);
	ret_place->token = scan->token;
	ret_place->is_link = false;
	strcpy(ret_place->name, entry->d_name);
	*ret_type = type;
	return 0;
}

static int handle_entry(struct directory_scan *scan, const struct dirent *entry)
{
	const char *name = entry->d_name;
	struct directory_place place;
	unsigned char type = DT_UNKNOWN;
	int r;

	if (!directory_notify_is_visible(name))
		return 1;
	if (!build_key(scan, name) && scan->level->is_above)
		return 1;
	r = find_entry(scan, entry, &type, &place);
	if (r < 0)
		return r;
	if (type == DT_DIR)
		return scan->level->is_above ? 1 : push_child(scan, name);
	/* FIFOs, sockets and devices hold no value. */
	return type == DT_REG ? read_file(scan, name, &place) : 1;
}

static int read_entry(struct directory_scan *scan)
{
	const struct dirent *entry;

	errno = 0;
	entry = readdir(scan->dir);
	if (entry)
		return handle_entry(scan, entry);
	if (errno != 0)
		return fail_errno(scan, NULL);
	close_level(scan);
	return 1;
}

/* Looks whether a directory that was read is still the one that its path leads to. */
static int check_level(struct directory_scan *scan)
{
	struct level *level = scan->done;
	struct stat st;

	if (fstatat(scan->root_fd, path_or_dot(level), &st, 0) < 0 ||
		!directory_file_is_same(&level->st, &st))
		scan->is_mixed = true;
	scan->done = level->next;
	free(level);
	return 1;
}

static bool is_bare(const struct directory_scan *scan)
{
	int fd = openat(scan->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry = NULL;

	if (!dir) {
		std_closep(&fd);
		return false;
	}
	while ((entry = readdir(dir)))
		if (directory_notify_is_visible(entry->d_name))
			break;
	closedir(dir);
	return !entry;
}

static int finish(struct directory_scan *scan)
{
	struct stat st;
	int r = kvset_finish(scan->set);

	if (r < 0)
		return fail(scan, r, NULL, strerror(-r));
	if (stat(scan->settings->root, &st) < 0 || st.st_dev != scan->root.st_dev ||
		st.st_ino != scan->root.st_ino)
		scan->is_mixed = true;
	scan->is_bare = scan->set->records.n == 0 && is_bare(scan);
	std_closep(&scan->root_fd);
	scan->root_fd = -1;
	return 0;
}

static int step(struct directory_scan *scan)
{
	if (scan->root_fd < 0)
		return open_root(scan);
	if (scan->dir)
		return read_entry(scan);
	if (scan->pending)
		return open_level(scan);
	return scan->done ? check_level(scan) : finish(scan);
}

int directory_scan_new(const struct directory_scan_settings *settings, const char *prefix,
	struct directory_follower *follower, bool is_patient, struct directory_scan **ret_scan)
{
	struct directory_scan *scan = calloc(1, sizeof(*scan));

	if (!scan)
		return -ENOMEM;
	scan->settings = settings;
	scan->prefix = prefix;
	scan->follower = follower;
	directory_file_init(&scan->file, follower, settings->max_value, is_patient);
	scan->root_fd = -1;
	if (kvset_new(settings->max_bytes, NULL, &scan->set) < 0) {
		directory_scan_free(scan);
		return -ENOMEM;
	}
	directory_notify_begin(follower);
	*ret_scan = scan;
	return 0;
}

static void free_levels(struct level *level)
{
	while (level) {
		struct level *next = level->next;

		free(level);
		level = next;
	}
}

struct directory_scan *directory_scan_free(struct directory_scan *scan)
{
	if (!scan)
		return NULL;
	if (scan->dir)
		closedir(scan->dir);
	free(scan->level);
	free_levels(scan->pending);
	free_levels(scan->done);
	std_closep(&scan->root_fd);
	directory_file_done(&scan->file);
	kvset_unref(scan->set);
	free(scan);
	return NULL;
}

int directory_scan_step(struct directory_scan *scan)
{
	uint64_t end = loop_now() + LIMIT_DIRECTORY_SLICE_USEC;
	int r = 1;

	for (unsigned n = 0; n < SLICE_ENTRIES && r > 0; n++) {
		r = step(scan);
		if (loop_now() >= end)
			break;
	}
	return r;
}

struct kvset *directory_scan_take(struct directory_scan *scan)
{
	return TAKE_PTR(scan->set);
}

bool directory_scan_is_mixed(const struct directory_scan *scan)
{
	return scan->is_mixed;
}

uint64_t directory_scan_empties(const struct directory_scan *scan)
{
	return scan->empties;
}

bool directory_scan_is_cutting(const struct directory_scan *scan)
{
	return scan->is_cutting;
}

dev_t directory_scan_device(const struct directory_scan *scan)
{
	return scan->root.st_dev;
}

bool directory_scan_is_bare(const struct directory_scan *scan)
{
	return scan->is_bare;
}

uint64_t directory_scan_wait_usec(const struct directory_scan *scan)
{
	return scan->file.wait_usec;
}

const char *directory_scan_message(const struct directory_scan *scan)
{
	return scan->message;
}
