/*
 * Against descriptors that clients send: the protocol has none, but whoever throws one away waits
 * for its last close, and the client may have seen to it that that takes as long as it likes: a TCP
 * socket with SO_LINGER and unsent data, a file of a file system that the client itself serves.
 *
 * Linux 6.16 can refuse them for a socket (SO_PASSRIGHTS); one that was connected to a listener
 * before it was told so may have some in its queue. Everywhere else this holds:
 *
 * - No descriptor is ever installed here: the queue is looked at without taking from it, and what
 *   has descriptors stays in it. Closing an installed one would wait for its file system to answer,
 *   with no way out.
 * - The loop closes a socket only when its queue is empty. Another one is shut down, so that the
 *   client sees the end, and closed by a thread, where a signal keeps ending what lingers.
 * - What may hold up a thread even so (some file systems write back at the last close) holds up its
 *   user alone: each user has a thread of its own, and what is not closed yet counts as clients.
 *
 * A connection that is refused must be closed as well, and one with such a descriptor in its queue
 * stays open here until its file system lets go. Nothing in these kernels empties a queue without
 * that wait; but they count what is in flight, per user, against the RLIMIT_NOFILE of who sends. A
 * daemon that may have twice as many (its unit says so) has room for all others.
 *
 * A thread exists while it has something to close, and shares no memory with the loop.
 */
#pragma once

#include <sys/types.h>

#include "proto/std.h"

struct guard;
struct loop;

int guard_new(struct loop *loop, struct guard **ret_guard);

/* What is not closed yet stays open: the end of the process closes it without lingering. */
struct guard *guard_free(struct guard *guard);

/* Makes the kernel refuse descriptors for this socket, or for those that connect to it from now on.
 * False: it cannot. */
bool guard_socket(int fd);

/* Whether the kernel has refused descriptors since the peer of this accepted socket connected.
 * False: it is for guard_receive() and guard_close(). */
bool guard_is_safe(int fd);

/* As recv() without blocking; errno is EPROTO when there are descriptors, then and from then on. */
ssize_t guard_receive(int fd, void *data, size_t size);

/* Closes a connection, or sees to it; never blocks. */
void guard_close(struct guard *guard, int fd);

/* Sockets that are not closed yet: of this user, of all. */
unsigned guard_count_unclosed_of(const struct guard *guard, uid_t uid);
unsigned guard_count_unclosed(const struct guard *guard);
