/*
 * A daemon of one's own, for a command where the host has none: it listens on a socket in a
 * directory of its own, which was made before it starts, so that nobody needs to wait for it.
 */
#pragma once

#include <sys/types.h>

#include "proto/std.h"

#define PRIVATE_DAEMON_PATH 96 /* room for the names in it below the 107 bytes of an address */

struct private_daemon {
	pid_t pid; /* 0: none */
	char directory[PRIVATE_DAEMON_PATH]; /* "": none */
	char socket[PRIVATE_DAEMON_PATH + 8];
	char trouble[256]; /* what private_daemon_start() met, for people */
};

/* source: as consulcfgd's --source takes it. 0; -errno, `trouble` filled. */
int private_daemon_start(struct private_daemon *daemon, const char *source);

/* Ends it and removes its directory. */
void private_daemon_stop(struct private_daemon *daemon);
