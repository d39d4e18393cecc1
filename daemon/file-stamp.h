/*
 * Whether a file is still the one that was read: replaced or rewritten, it has another stamp. Knows
 * metadata; must not know what is in the file.
 */
#pragma once

#include <sys/stat.h>

#include "proto/std.h"

struct file_stamp { /* zeroed: of no file */
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

struct file_stamp file_stamp_of(const struct stat *st);
/* Of what this path names now; of no file when there is none, or `path` is NULL. */
struct file_stamp file_stamp_at(const char *path);
bool file_stamp_same(const struct file_stamp *a, const struct file_stamp *b);
