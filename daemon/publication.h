/*
 * One run from the contents of a service's layers to a sealed snapshot, in slices: merge, index,
 * write, seal. A service with one layer skips the merge: its records are the image's.
 */
#pragma once

#include "daemon/kvset.h"
#include "daemon/snapshot.h"

#define PUBLICATION_SETS (LIMIT_LAYERS + 1) /* the layers, and what operators put above them */

struct publication;

/* Takes references to the sets, lowest layer first. -ENOMEM. */
int publication_new(struct kvset *const sets[], unsigned n_sets, size_t max_bytes,
	struct publication **ret_publication);
struct publication *publication_free(struct publication *publication);

/* About a millisecond of work. 1: more to do; 0: publication_take() has a snapshot to give;
 * -EFBIG: the image would exceed max_bytes; other -errno. */
int publication_step(struct publication *publication);
int publication_take(
	struct publication *publication, uint64_t generation, struct snapshot **ret_snapshot);
