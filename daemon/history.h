/*
 * What the disk has of a service, generation by generation: files that are never written again.
 */
#pragma once

#include "daemon/json.h"
#include "proto/backup-format.h"

/* The highest generations first: one JSON object each. Their number; 0: there are none; -errno. */
int history_list(int directory, const char *service, struct json *json);

/* A generation's file, for reading; the caller closes it. -ENOENT, other -errno. */
int history_open(int directory, const char *service, uint64_t generation);

/*
 * The generation that a person means: a number, "previous" (the newest below `current`),
 * "before:SECONDS" since 1970 (the newest that was published before then), "digest:HEX" (the newest
 * with it). 0; -EINVAL: not such a text; -ENOENT; -EXDEV: only such as are of another identity.
 */
int history_find(int directory, const char *service, const struct backup_identity *identity,
	const char *target, uint64_t current, uint64_t *ret_generation);
