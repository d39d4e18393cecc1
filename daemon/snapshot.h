/*
 * A snapshot: one image in a memfd that is sealed against write, grow and shrink, and mapped for
 * the daemon's own lookups. Shared by reference. The only door to memfd_create and seals.
 *
 * One without a memfd is for the daemon's lookups alone: its memory ends with it, that of a memfd
 * with the last client that holds it.
 */
#pragma once

#include <sys/uio.h>

#include "proto/image.h"

struct snapshot {
	unsigned refs;
	int fd; /* the daemon's own; clients get fresh read-only ones: snapshot_open_fd(); or -1 */
	uint8_t *own; /* instead of a memfd, of own_size bytes */
	size_t own_size;
	uint64_t generation;
	uint64_t published_at; /* under that generation for the first time: usec since 1970 */
	struct image image; /* into the mapping */
	size_t written; /* bytes so far, until sealed */
	bool sealed;
};

int snapshot_new(struct snapshot **ret_snapshot);
/* Without a memfd, for this many bytes. */
int snapshot_new_unshared(size_t size, struct snapshot **ret_snapshot);
/* Filled with write(2), not ftruncate: a hole on a full tmpfs would be SIGBUS for a reader. Writes
 * at most max_bytes of what of iov[0..1] is missing; 1: more to do, 0: all there, -errno. */
int snapshot_write(struct snapshot *snapshot, const struct iovec iov[2], size_t max_bytes);
/* The same for bytes that come one after the other. 0, -errno. */
int snapshot_append(struct snapshot *snapshot, const void *data, size_t len);
/* Seals, maps and checks it; afterwards immutable. */
int snapshot_seal(struct snapshot *snapshot, uint64_t generation);

struct snapshot *snapshot_ref(struct snapshot *snapshot);
struct snapshot *snapshot_unref(struct snapshot *snapshot);
void snapshot_give_back(void *snapshot); /* the same, for those who borrow its image */

/* A read-only descriptor with an open file description of its own; the caller closes it. -errno;
 * -ENOMEM: there is no memfd. */
int snapshot_open_fd(const struct snapshot *snapshot);
