/*
 * One run from a generation of the history to a snapshot, in slices.
 */
#pragma once

#include "daemon/backup.h"

struct recall;

/* Once; frees the recall, or leaves that to others. Takes the snapshot, which nobody else has;
 * NULL: -EBADMSG: damaged; other -errno. */
typedef void (*recall_fn)(void *userdata, struct snapshot *snapshot, int error);

/* `backups` may be NULL: there is no history. -ENOENT; -EPERM, -EBADMSG; other -errno. */
int recall_new(struct loop *loop, struct backups *backups, const char *service, uint64_t generation,
	recall_fn fn, void *userdata, struct recall **ret_recall);
struct recall *recall_free(struct recall *recall);

/* When the source had confirmed it last, loop_now() time; may lie before the clock began. */
uint64_t recall_confirmed_at(const struct recall *recall);
