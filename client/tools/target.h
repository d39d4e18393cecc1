/*
 * A target: the file, or the directory of files, that a rendering replaces as a whole. What was
 * there stays until the new one is complete, on the disk and found good; then it is gone at once.
 *
 * The directory that it is in may belong to somebody else than who runs this: all is done by
 * descriptors of that directory and of what was made in it.
 */
#pragma once

#include <sys/stat.h>

#include "client/lib/consulcfg.h"

struct target {
	const char *path;
	bool is_directory;
	bool has_mode; /* else that of the file that is replaced, or 0600 */
	mode_t mode; /* of files */
	int folder; /* the directory that it is in, since target_look() */
	bool has_old; /* something is there */
	struct stat old; /* that */
	char *mark; /* path of the mark beside it: a command is owed */
	char *fresh; /* path of the new one, beside it; NULL: there is none */
	int fd; /* the new one; locked, so that nobody else takes it for left */
	char trouble[512]; /* what went wrong, for people */
};

/* `folder` and `fd` are -1. Removes what was left of earlier ones. 0; -EINVAL: the path cannot be a
 * target; -errno. With `trouble`. */
int target_init(struct target *target);
void target_done(struct target *target);

/* Looks what is there now, for all that follows. 0, or -errno with `trouble`. */
int target_look(struct target *target);

/* Whether it holds this already. Text: of a file; view: of a directory. */
bool target_is_same(const struct target *target, const char *text, size_t len);
bool target_is_same_view(const struct target *target, const ccfg_view *view);

/* Makes the new one at `fresh`. 0, or -errno with `trouble`; then there is nothing at `fresh`. */
int target_write(struct target *target, const char *text, size_t len);
int target_write_view(struct target *target, const ccfg_view *view);

/* Puts it in its place, or throws it away. 0, or -errno with `trouble`. */
int target_commit(struct target *target);
void target_drop(struct target *target);

/*
 * A command is owed: from target_owe(), which is on the disk before the new one is in its place, to
 * target_settle(), over the end of this process. 0, or -errno with `trouble`.
 */
int target_owe(struct target *target);
bool target_is_owed(const struct target *target);
int target_settle(struct target *target);
