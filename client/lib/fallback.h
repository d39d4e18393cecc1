/*
 * What the daemon has left on the disk, for when there is no daemon: the newest backup of a service
 * that this user may read, found through the link `state` beside the socket. It is read and
 * verified, never mapped: files can be cut while mapped.
 */
#pragma once

#include "client/lib/view.h"

struct fallback {
	struct ccfg_view *view;
	uint64_t age_usec; /* since the source confirmed it */
	uint64_t index; /* Consul's */
};

/* 0 and a view for the caller; -ENOENT: there is none that can be read and believed; -ENOMEM. */
int fallback_read(const char *socket_path, const char *service, struct fallback *ret_fallback);
