/*
 * The state of the daemon and its services as a table for people: what is not well comes first,
 * each with what to do about it.
 */
#pragma once

#include "client/tools/output.h"

/* From the daemon's JSON objects. 0, -EBADMSG, -ENOMEM. */
int table_print(struct output *output, const struct output *daemon, const struct output *services);
