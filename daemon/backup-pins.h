/*
 * What operators said of services, on the disk: an image in a backup's clothes.
 */
#pragma once

#include "daemon/backup.h"

/* Written soon, and again until it is written. Takes the image; NULL: nothing any more. */
void backup_pins_put(struct backups *backups, const char *service, void *image, size_t size);

/* NULL: nothing. What cannot be believed is logged and set aside. */
struct snapshot *backup_pins_load(struct backups *backups, const char *service);
