/*
 * The socket that clients connect to: handed over by the service manager, or made here.
 *
 * Making it takes a lock in the runtime directory, for as long as the listener lives: whoever holds
 * it may replace a socket that nobody listens on. A path that is not a socket is never deleted.
 */
#pragma once

#include "daemon/server.h"

struct listener;

/* A bound and listening stream socket; fd is consumed on success. 0 or -errno. */
int listener_new(struct server *server, int fd, struct listener **ret_listener);

/*
 * Makes config->socket_path. On failure -errno (-EADDRINUSE: a daemon runs there) and *ret_message,
 * one line for people that the caller frees, NULL when there is no memory for it.
 */
int listener_bind(struct server *server, const struct config *config,
	struct listener **ret_listener, char **ret_message);

/* Removes the socket if it was made here and is still that one. Sessions live on. */
struct listener *listener_free(struct listener *listener);
