/*
 * The socket that clients connect to: handed over by the service manager, or made here.
 *
 * Making the main one takes a lock in the runtime directory, for as long as the listener lives:
 * whoever holds it may replace a socket that nobody listens on. A path that is not a socket is
 * never deleted.
 */
#pragma once

#include "daemon/server.h"

struct listener;

/*
 * A bound and listening stream socket, that of a [socket NAME] or the main one (""); fd is consumed
 * on success. 0 or -errno.
 */
int listener_new(struct server *server, int fd, const char *name, struct listener **ret_listener);

/*
 * Makes config->socket_path. On failure -errno (-EADDRINUSE: a daemon runs there) and *ret_message,
 * one line for people that the caller frees, NULL when there is no memory for it.
 */
int listener_bind(struct server *server, const struct config *config,
	struct listener **ret_listener, char **ret_message);

/* The same for a [socket NAME] with a path, and its directory when that is missing. */
int listener_bind_further(struct server *server, const struct config_socket *socket,
	struct listener **ret_listener, char **ret_message);

/* "": the main one. */
const char *listener_name(const struct listener *listener);

/* Removes the socket if it was made here and is still that one. Sessions live on. */
struct listener *listener_free(struct listener *listener);
