/*
 * One run from the contents of a service's layers to a sealed snapshot, in slices: merge, index,
 * write, seal. A service with one layer skips the merge: its records are the image's.
 */
#pragma once

#include "daemon/glob.h"
#include "daemon/kvset.h"
#include "daemon/snapshot.h"

struct publication;

/* Takes references to the sets, lowest layer first. -ENOMEM. */
int publication_new(struct kvset *const sets[], unsigned n_sets, size_t max_bytes,
	struct publication **ret_publication);

/* Before the first step: of keys that one of the globs matches the lowest layer that has them wins,
 * not the highest. The list is borrowed until the publication is freed. */
void publication_lock(struct publication *publication, const struct glob_list *locks);

struct publication *publication_free(struct publication *publication);

/* About a millisecond of work. 1: more to do; 0: publication_take() has a snapshot to give;
 * -EFBIG: the image would exceed max_bytes; other -errno. */
int publication_step(struct publication *publication);
/* Its generation is above the last one and above every other that any client can have seen. */
int publication_take(
	struct publication *publication, uint64_t last_generation, struct snapshot **ret_snapshot);
