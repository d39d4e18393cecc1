/*
 * The history of a service, of the daemon's backups; see history.h. NULL backups have none.
 */
#pragma once

#include "daemon/backup.h"
#include "daemon/history.h"

int backup_history_list(struct backups *backups, const char *service, struct json *json);
/* Also of the backup itself, which the history lacks where its contents were there before. */
int backup_history_open(struct backups *backups, const char *service, uint64_t generation);
int backup_history_find(struct backups *backups, const char *service,
	const struct backup_identity *identity, const struct history_target *target,
	uint64_t *ret_generation);

/* Whether it is this generation alone that has the contents with this digest. */
bool backup_history_is_sole(
	struct backups *backups, const char *service, uint64_t generation, uint64_t digest);

/* Begins to load a generation, see backup_load_new(). */
int backup_history_load(struct backups *backups, const char *service, uint64_t generation,
	struct backup_load **ret_load);
