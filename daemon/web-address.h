/*
 * Where the admin port listens: "unix:/PATH", an IP address with a port, or "off". No names are
 * looked up.
 */
#pragma once

#include <sys/socket.h>

#include "proto/std.h"

struct web_address {
	bool is_off;
	struct sockaddr_storage at;
	socklen_t len;
};

/* 0, -EINVAL, -ENAMETOOLONG. */
int web_address_parse(const char *text, struct web_address *ret_address);

/*
 * A listening socket there, for the caller to close; that of a path is replaced when nobody listens
 * on it any more, and is for this user alone. 0 or -errno (-EADDRINUSE: somebody listens;
 * -ENOTSOCK: the path is something else).
 */
int web_address_listen(const struct web_address *address, int *ret_fd);

/* Takes the path away; nothing to do for others. */
void web_address_remove(const struct web_address *address);
