/* SPDX-License-Identifier: MIT */
/*
 * Looks configuration up in consulcfgd over its socket. Copy this file and consulcfg-stub.c into a
 * program that cannot link libconsulcfg; they need C99 (or C++) and POSIX, speak
 * consulcfg-protocol(7), and allocate nothing: all their memory is struct ccfg_stub.
 *
 * Results are 0 or more, or a negative errno:
 *
 *   -ENOENT        no such key                  -ECONNREFUSED  no daemon
 *   -ENODATA       no data in the daemon yet    -ECONNRESET    the daemon went away meanwhile
 *   -EACCES        this user may not read it    -ETIMEDOUT     not within the time-out
 *   -EINVAL        no name of a service or key  -EBUSY         the daemon has enough clients
 *   -ESTALE        changed while it was listed  -EPROTO, -EPROTONOSUPPORT, -EIO  anything else
 *
 * After each of them the handle can be used on: a lost connection is made again by the next call.
 * One handle serves one thread at a time; after fork() a child opens its own.
 */
#ifndef CONSULCFG_STUB_H
#define CONSULCFG_STUB_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ccfg_stub {
	int fd; /* -1: no connection. Readable: time for ccfg_stub_wait(). It changes. */
	/* The rest is private. */
	int error; /* of the latest connection, when fd is -1 */
	int timeout_ms;
	int64_t deadline;
	int is_listing, is_watching;
	uint64_t watch_generation, news;
	uint32_t left;
	char path[108];
	char service[65];
	size_t in_start, in_end;
	unsigned char in[8192];
};

/* The value ends with a NUL that value_len does not count. Longer values than the buffer of
 * ccfg_stub_list() are cut, value_len says how long it is. Must not use the handle. Anything but 0
 * ends the list. */
typedef int ccfg_stub_entry_fn(
	const char *key, const char *value, size_t value_len, void *userdata);

/* Connects and waits for the service's data. socket_path NULL: the default one. timeout_ms bounds
 * this and each later get and list. After an error, too, the handle can be used, and must be
 * closed; but for -EINVAL. */
int ccfg_stub_open(
	struct ccfg_stub *stub, const char *service, const char *socket_path, int timeout_ms);

/* Copies a value, cut to size - 1 bytes and ended with a NUL (not with size 0); returns its whole
 * length. */
ssize_t ccfg_stub_get(struct ccfg_stub *stub, const char *key, char *buf, size_t size);

/* Calls fn for each key that starts with a prefix, in the order of their bytes; buf is where it
 * finds the value. Returns 0, or what fn returned when that was not 0. -ESTALE: start over. */
int ccfg_stub_list(struct ccfg_stub *stub, const char *prefix, char *buf, size_t size,
	ccfg_stub_entry_fn *fn, void *userdata);

/* Waits until the service has another generation than *generation, and writes it there. Begin with
 * 0, which is told the present one, and read the values after each return. While the daemon
 * restarts it goes on trying. A time-out of 0 only looks. */
int ccfg_stub_wait(struct ccfg_stub *stub, uint64_t *generation, int timeout_ms);

void ccfg_stub_close(struct ccfg_stub *stub);

#ifdef __cplusplus
}
#endif

#endif
