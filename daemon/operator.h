/*
 * What only operators may ask. Replies are made here; the request was taken apart by command.
 */
#pragma once

#include "daemon/reply.h"

/* Whether the client is one; says so when not. */
bool operator_check(const struct reply *reply);

void operator_accept(const struct reply *reply, const struct wire_request *request);
void operator_resync(const struct reply *reply, const struct wire_request *request);
