/*
 * LIST: the entries of a snapshot page by page. Between two pages the session pins the snapshot, so
 * that a list is of one generation also when the service moves on meanwhile.
 */
#pragma once

#include "daemon/reply.h"

/* One page; the service has a snapshot. */
void paging_reply(
	const struct reply *reply, struct opened *opened, const struct wire_request *request);
