/*
 * The end of a daemon that nobody uses: for one whose socket the service manager holds, and which
 * it starts again when the next client comes.
 */
#pragma once

#include "daemon/server.h"

struct idle;

/* Stops the loop when the server had no session for idle_usec; 0: never. 0 or -errno. */
int idle_new(
	struct loop *loop, const struct server *server, uint64_t idle_usec, struct idle **ret_idle);
struct idle *idle_free(struct idle *idle);

/* After a reload. */
void idle_configure(struct idle *idle, uint64_t idle_usec);
