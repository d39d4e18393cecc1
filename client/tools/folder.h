/*
 * What is below a directory, by descriptors. Whoever may rename things on the way, or put links
 * there, leads nothing elsewhere: no symbolic link is followed, and no path is looked up twice.
 */
#pragma once

#include <sys/stat.h>

#include "proto/std.h"

/* The directory that the file of a path is in: a descriptor, or -errno. `path` may lead there by
 * symbolic links. */
int folder_of(const char *path);

/* The last word of a path. */
const char *folder_name(const char *path);

/*
 * The directory below this one that the file of a path is in: a descriptor, or -errno; -ENOTDIR:
 * there is something else on the way. `makes`: those that are missing are made, for nobody else.
 */
int folder_enter(int folder, const char *path, bool makes);

/* Makes an empty directory that nobody else may enter. A descriptor, or -errno. */
int folder_make(int folder, const char *name);

/* Gives this directory and those below it to somebody and brings them to the disk. 0 or -errno. */
int folder_give(int folder, const struct stat *owner, mode_t mode);

/* How many files are below it, other than directories. 0 or -errno. */
int folder_count(int folder, const char *name, size_t *ret_n);

/* Removes a file, or a directory with all that is in it; none is fine. 0 or -errno: what cannot be
 * removed stays, with what is behind it. */
int folder_remove(int folder, const char *name);

/* Calls back for each name in it, until that returns not 0: this is returned. Or -errno. */
int folder_each(
	int folder, int (*fn)(int folder, const char *name, void *userdata), void *userdata);
