/*
 * All sockets that clients connect to: the service manager's, and those made here for what the
 * manager did not hand over. A descriptor of the manager that is called like a [socket NAME]
 * (FileDescriptorName= of its unit) is that socket.
 */
#pragma once

#include "daemon/listener.h"

struct listeners;

/*
 * 0; or -errno and *ret_message, one line for people that the caller frees, NULL when there is no
 * memory for it. Everything is borrowed.
 */
int listeners_new(struct server *server, const struct config *config,
	struct listeners **ret_listeners, char **ret_message);
struct listeners *listeners_free(struct listeners *listeners);

/* Whether clients can connect, and start a daemon, while there is none. */
bool listeners_are_passed(const struct listeners *listeners);
/* Where most clients connect, for people. */
const char *listeners_describe(const struct listeners *listeners, const struct config *config);

/*
 * Before a reload. Where and how to listen stays as it is until a restart; new settings of it are
 * not taken into `fresh`, so that the next reload compares with what is in use.
 */
void listeners_keep(const struct listeners *listeners, struct config *old, struct config *fresh);
