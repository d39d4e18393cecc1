/*
 * What the disk has of a service, generation by generation: files that are never written again. One
 * for each change of its contents: what is published once more, under a new number, is there
 * already.
 */
#pragma once

#include "daemon/json.h"
#include "proto/backup-format.h"

/* The highest generations first: one JSON object each. Their number; 0: there are none; -errno. */
int history_list(int directory, const char *service, struct json *json);

/* A generation's file, for reading; the caller closes it. -ENOENT, other -errno. */
int history_open(int directory, const char *service, uint64_t generation);

/* Whether the newest of that identity has the contents with that digest. */
bool history_ends_with(int directory, const char *service, const struct backup_identity *identity,
	uint64_t digest);

/* The digest of a generation's contents that no other one has. 0; -ENOENT: there is none like that.
 */
int history_sole_digest(
	int directory, const char *service, uint64_t generation, uint64_t *ret_digest);

/* Of an open history, or where backups are: whether that file has the contents with that digest. */
bool history_has_digest(int history, const char *name, uint64_t digest);

struct history_target {
	const char *text; /* as a person says it; NULL: the newest */
	uint64_t generation, digest; /* of what is served; generation 0: nothing is */
	bool has_said;
	uint64_t said; /* digest of what the source says; where it is not known: the newest's */
};

/*
 * The generation that a person means: a number, also of what is served, "previous" (the newest with
 * other contents than those the source says), "before:SECONDS" since 1970 (the newest that was
 * published before then), "digest:HEX" (the newest with it). 0; -EINVAL: not such a text; -ENOENT;
 * -EXDEV: only such as are of another identity.
 */
int history_find(int directory, const char *service, const struct backup_identity *identity,
	const struct history_target *target, uint64_t *ret_generation);
