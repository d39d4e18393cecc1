/*
 * Against descriptors that clients send: the protocol has none, but whoever throws one away waits
 * for its last close, and a TCP socket with SO_LINGER and unsent data can make that last as long as
 * its owner likes.
 *
 * Linux 6.16 can refuse them for a socket (SO_PASSRIGHTS). Before that they are received, and
 * closed by a thread that may wait; so is a socket whose queue may hold more of them. The thread
 * exists from the first need on and shares no memory with the loop.
 */
#pragma once

#include <sys/types.h>

#include "proto/std.h"

struct guard;

int guard_new(struct guard **ret_guard);
struct guard *guard_free(struct guard *guard); /* what the thread has left to close, it closes */

/* Makes the kernel refuse descriptors for this socket, or those it accepts. False: it cannot. */
bool guard_socket(int fd);

/* As recv() without blocking; errno is EPROTO when descriptors came. */
ssize_t guard_receive(struct guard *guard, int fd, void *data, size_t size);

/* Closes without ever blocking the caller, if it can be helped. */
void guard_close(struct guard *guard, int fd);
