/*
 * The path of a Unix socket that is about to be made: what a dead daemon left there is taken away.
 */
#pragma once

#include <sys/un.h>

#include "proto/std.h"

/*
 * Makes way where nothing or a dead socket is; the caller sees to it that no two do so at a time.
 * 0; -ENOTSOCK: it is no socket, and stays; -EADDRINUSE: somebody listens; any other -errno.
 */
int socket_path_clear(const struct sockaddr_un *address);
