/*
 * PIN: what an operator says about a service. Orders about one service come into force one after
 * the other; each is answered when no restart would undo it: when what was said, and the contents
 * that were made with it, are on the disk. Where the disk does not take it the reply says so.
 */
#pragma once

#include "daemon/reply.h"

/* The peer is an operator; `name` is a service's name. */
void order_take(const struct reply *reply, const char *name, const struct wire_request *request);
