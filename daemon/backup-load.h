/*
 * Reads a backup into a snapshot, in slices: 100 MB must not stop the loop. What it gives has been
 * checked against its checksum, and its records one by one: they become a layer as they are.
 */
#pragma once

#include "daemon/snapshot.h"
#include "daemon/state-directory.h"
#include "proto/backup-format.h"

struct backup_load;

/*
 * The end of a file alone. `buf` holds the names. 0; -EBADMSG; -EPERM: not ours, or others may
 * write it; -ENOENT; other -errno.
 */
int backup_load_peek(int directory, const char *name, uint8_t buf[BACKUP_TAIL],
	struct backup_format *ret_backup, int *ret_fd);

/* Begins. As backup_load_peek(). */
int backup_load_new(int directory, const char *name, struct backup_load **ret_load);
struct backup_load *backup_load_free(struct backup_load *load);

const struct backup_format *backup_load_format(const struct backup_load *load);

/* About a millisecond of work. 1: more to do; 0: backup_load_take() has it; -EBADMSG: damaged. */
int backup_load_step(struct backup_load *load);
struct snapshot *backup_load_take(struct backup_load *load);
