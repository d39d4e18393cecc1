/*
 * Names and numbers of a file like passwd(5) or group(5), read again when it changed. Nothing else
 * is asked: a directory server may take seconds.
 */
#pragma once

#include <sys/stat.h>
#include <time.h>

#include "proto/std.h"

struct id_name;

struct id_file {
	char *path;
	struct stat stat; /* of the file that was read last */
	time_t checked_at;
	struct id_name *ids; /* in the order of names; those that a service can have */
	size_t n_ids;
};

/* The file may be absent. 0 or -ENOMEM. */
int id_file_init(struct id_file *file, const char *path);
void id_file_done(struct id_file *file);

/* The number of that name. Looks at most once a second whether the file changed. */
bool id_file_find(struct id_file *file, const char *name, uint32_t *ret_id);
