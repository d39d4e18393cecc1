/*
 * What only operators may ask. Replies are made here; the request was taken apart by command.
 */
#pragma once

#include "daemon/reply.h"

void operator_accept(const struct reply *reply, const struct wire_request *request);
void operator_resync(const struct reply *reply, const struct wire_request *request);
