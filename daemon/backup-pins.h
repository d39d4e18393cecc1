/*
 * What operators said of services, on the disk: an image in a backup's clothes. Written at once,
 * and again until it is written; what is not on the disk yet is in force as long as the daemon
 * runs, also for a service that ended and came back.
 */
#pragma once

#include "daemon/backup.h"

/* `backups` has its writer; borrowed. */
int backup_pins_new(struct loop *loop, struct backups *backups, struct backup_pins **ret_pins);
/* The writer is drained, or freed: what is not on the disk is lost, which is logged. */
struct backup_pins *backup_pins_free(struct backup_pins *pins);

/* The newest of a service; takes the image; NULL: nothing any more. -ENOMEM, logged. */
int backup_pins_put(struct backups *backups, const char *service, void *image, size_t size);

/* Told when the newest is on the disk, maybe at once, or when the next write has failed. */
void backup_pins_wait(struct backups *backups, const char *service, struct backup_waiter *waiter);

/* Writes everything that is still to be written, now. NULL is fine. */
void backup_pins_submit(struct backup_pins *pins);

/* NULL: nothing. What cannot be believed is logged and set aside. */
struct snapshot *backup_pins_load(struct backups *backups, const char *service);
