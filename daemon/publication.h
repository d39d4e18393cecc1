/*
 * One run from the contents of a service's layers to a sealed snapshot, in slices: merge, judge,
 * index, write, seal. A service with one layer skips the merge: its records are the image's.
 */
#pragma once

#include "proto/glob.h"
#include "daemon/judge.h"
#include "daemon/kvset.h"
#include "daemon/snapshot.h"

#define PUBLICATION_SETS (LIMIT_LAYERS + 1) /* the layers, and what operators put above them */

struct publication;

/* Takes references to the sets, lowest layer first. -ENOMEM. */
int publication_new(struct kvset *const sets[], unsigned n_sets, size_t max_bytes,
	struct publication **ret_publication);

/* Before the first step: of keys that one of the globs matches the lowest of the first n layers
 * that has them wins over the others of these. The list is borrowed until the publication is freed.
 */
void publication_lock(
	struct publication *publication, const struct glob_list *locks, unsigned n_layers);

/* Before the first step: what is not good by the judge's schema is not published. Borrowed, too. */
void publication_judge(struct publication *publication, struct judge *judge);

struct publication *publication_free(struct publication *publication);

/* About a millisecond of work. 1: more to do; 0: publication_take() has a snapshot to give;
 * -EFBIG: the image would exceed max_bytes; -EKEYREJECTED: it breaks the schema; other -errno. */
int publication_step(struct publication *publication);

/* Whether the image has the very records of this set, as it was the only one. */
bool publication_is_of(const struct publication *publication, const struct kvset *set);

/* What broke the schema, for people: which key and why, without its value. */
const char *publication_verdict(const struct publication *publication);
/* Of what is published, or was not: known when the merge is done. */
uint64_t publication_digest(const struct publication *publication);
size_t publication_n_keys(const struct publication *publication);

int publication_take(
	struct publication *publication, uint64_t generation, struct snapshot **ret_snapshot);
