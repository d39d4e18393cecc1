/*
 * What has changed lately in all services: which keys, when, never a value. The newest are kept,
 * the oldest give way.
 *
 * The two images of a change are compared a little later and in slices: clients are told first, and
 * a service may have a million keys. Until then both are held; of what would take too much memory
 * only that it changed is known.
 */
#pragma once

#include "daemon/loop.h"
#include "daemon/snapshot.h"
#include "proto/limits.h"

struct changes;

enum change_kind { CHANGE_ADDED = 1, CHANGE_CHANGED, CHANGE_REMOVED };
#define CHANGE_N_KINDS (CHANGE_REMOVED + 1)

struct change {
	uint64_t number; /* 1 is the first since the start; 0: none */
	char service[LIMIT_SERVICE_NAME + 1];
	uint64_t at; /* usec since 1970 */
	uint64_t generation, index;
	bool is_compared;
	size_t n[CHANGE_N_KINDS]; /* keys of each kind */
	/* Some of the keys: each a kind as a byte, then the key, then NUL. */
	unsigned n_keys;
	size_t keys_len;
	char keys[LIMIT_CHANGE_TEXT];
};

int changes_new(struct loop *loop, struct changes **ret_changes); /* 0, -ENOMEM */
struct changes *changes_free(struct changes *changes);

/* Before the new one replaces the old one. What has the same keys and values is no change. */
void changes_note(struct changes *changes, const char *service, struct snapshot *old,
	struct snapshot *new, uint64_t index);

/* Of the newest; 0: there is none. */
uint64_t changes_newest(const struct changes *changes);
/* NULL: it is not kept any more. Valid until the loop goes on. */
const struct change *changes_find(const struct changes *changes, uint64_t number);
