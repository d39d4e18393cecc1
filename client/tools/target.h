/*
 * A target: the file, or the directory of files, that a rendering replaces as a whole. What was
 * there stays until the new one is complete, on the disk and found good; then it is gone at once.
 */
#pragma once

#include <sys/stat.h>

#include "client/lib/consulcfg.h"

struct target {
	const char *path;
	bool is_directory;
	bool has_mode; /* else that of the file that is replaced, or 0600 */
	mode_t mode; /* of files */
	char *fresh; /* where the new one is made, beside the path */
	char trouble[512]; /* what went wrong, for people */
};

/* 0; -EINVAL: the path cannot be a target; -ENOMEM. */
int target_init(struct target *target);
void target_done(struct target *target);

/* Whether it holds this already. Text: of a file; view: of a directory. */
bool target_is_same(const struct target *target, const char *text, size_t len);
bool target_is_same_view(const struct target *target, const ccfg_view *view);

/* Makes the new one at `fresh`. 0, or -errno with `trouble`; then there is nothing at `fresh`. */
int target_write(struct target *target, const char *text, size_t len);
int target_write_view(struct target *target, const ccfg_view *view);

/* Puts it in its place, or throws it away. 0, or -errno with `trouble`. */
int target_commit(struct target *target);
void target_drop(struct target *target);
