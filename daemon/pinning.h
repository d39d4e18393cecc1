/*
 * Requests about what a service had, or could have: HISTORY, RECALL,
 * PREVIEW.
 */
#pragma once

#include "daemon/reply.h"

/* hide: as if the disk had nothing. */
void pinning_history(const struct reply *reply, const char *service, bool hide);
void pinning_recall(const struct reply *reply, const char *service, uint64_t generation, bool hide);
/* hide: as if nothing were held. */
void pinning_preview(const struct reply *reply, const char *name, bool hide);
