/*
 * Requests about the history and about what operators want: HISTORY,
 * RECALL, PREVIEW, PIN.
 */
#pragma once

#include "daemon/reply.h"

/* hide: as if the disk had nothing. */
void pinning_history(const struct reply *reply, const char *service, bool hide);
void pinning_recall(const struct reply *reply, const char *service, uint64_t generation, bool hide);
/* hide: as if nothing were held. */
void pinning_preview(const struct reply *reply, const char *service, bool hide);
/* The peer is an operator. */
void pinning_order(const struct reply *reply, const char *name, const struct wire_request *request);
