#include "client/lib/fallback.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

static const char *const places[] = { "open", "private" };

/* A file of whoever has the directory, which nobody else can write. */
static int open_backup(int directory, const char *service)
{
	AUTO_CLOSE int fd = -1;
	char name[BACKUP_NAME];
	struct stat of_file, of_directory;

	snprintf(name, sizeof(name), "%s" BACKUP_SUFFIX, service);
	fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &of_file) < 0 || fstat(directory, &of_directory) < 0)
		return -errno;
	if (!S_ISREG(of_file.st_mode) || of_file.st_uid != of_directory.st_uid ||
		(of_file.st_mode & 022) != 0 || (of_directory.st_mode & 022) != 0)
		return -EPERM;
	return TAKE_FD(fd);
}

static int read_one(const char *path, const char *service, struct ccfg_view **ret_view,
	struct backup_footer *ret_footer)
{
	AUTO_CLOSE int directory = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_CLOSE int fd = -1;

	if (directory < 0)
		return -errno;
	fd = open_backup(directory, service);
	return fd < 0 ? fd : view_read_backup(fd, service, ret_view, ret_footer);
}

static void take(const struct backup_footer *footer, struct ccfg_view *view, struct fallback *best)
{
	struct backup_clock clock;

	if (best->view && best->view->generation >= view->generation) {
		view_unref(view);
		return;
	}
	backup_format_clock(&clock);
	view_unref(best->view);
	*best = (struct fallback){
		.view = view,
		.age_usec = backup_format_age_usec(footer, &clock),
		.index = le64_get(footer->index),
	};
}

int fallback_read(const char *socket_path, const char *service, struct fallback *ret_fallback)
{
	const char *slash = strrchr(socket_path, '/');
	int len = slash ? (int)(slash - socket_path) : 1;
	const char *beside = slash ? socket_path : ".";
	struct fallback best = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct backup_footer footer = { 0 };
		struct ccfg_view *view = NULL;
		char path[PATH_MAX];
		int n = snprintf(
			path, sizeof(path), "%.*s/state/backup/%s", len, beside, places[i]);

		if (n > 0 && n < (int)sizeof(path) &&
			read_one(path, service, &view, &footer) == 0 && view)
			take(&footer, view, &best);
	}
	if (!best.view)
		return -ENOENT;
	*ret_fallback = best;
	return 0;
}
