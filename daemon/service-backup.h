/*
 * A service and its backup: what stands in it, when there is something to write, what is known of
 * a service before its source has answered.
 */
#pragma once

#include "daemon/restore.h"
#include "daemon/service.h"

/* A hash of what all services are read from, whatever their prefixes; 0: no memory. */
uint64_t service_backup_source(const struct config *config);

/*
 * Begins to restore, if there is a backup that belongs to the service as it is configured. 0;
 * -ENOENT: there is none.
 */
int service_backup_begin(struct service *service, struct restore **ret_restore);

/* Which generation an operator or the daemon (target NULL: the newest) means, of those that belong
 * to the service as it is configured; see history_find(). */
int service_backup_find(
	const struct service *service, const char *target, uint64_t *ret_generation);
/* The service may be configured anew. */
void service_backup_identify(struct service *service);
/* Whether what the layers have may still be of what the source was before. */
bool service_backup_is_late(const struct service *service);

/* The published contents are to be kept, where that is news. */
void service_backup_note(struct service *service);

/* The same of what is not from the source. */
void service_backup_keep(struct service *service);

/* What the source says is to be in the history, where something else is served. References it. */
void service_backup_record(struct service *service, struct snapshot *snapshot);
