/*
 * Requests about the history and about what operators want: HISTORY, RECALL, PIN.
 */
#pragma once

#include "daemon/reply.h"

void pinning_history(const struct reply *reply, const char *service);
void pinning_recall(const struct reply *reply, const char *service, uint64_t generation);
/* The peer is an operator. */
void pinning_order(
	const struct reply *reply, const char *service, const struct wire_request *request);
