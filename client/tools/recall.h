/*
 * Generations of a service as views: the one that is served, and those that the disk has.
 */
#pragma once

#include "client/lib/view.h"
#include "client/tools/query.h"

struct recall_entry { /* of the history */
	uint64_t generation, index, n_keys, n_bytes;
	char published[24]; /* seconds since 1970, with a fraction */
	char digest[20];
};

struct recall_list {
	struct recall_entry *entries; /* newest first */
	size_t n;
};

/* What the disk has. 0; -ENOENT: nothing; other -errno, for query_fail(). */
int recall_history(struct query *query, const char *service, struct recall_list *ret_list);
void recall_list_done(struct recall_list *list);

/* A generation; 0: the one that is served. 0; -ENOENT: it is not kept; other -errno. */
int recall_view(
	struct query *query, const char *service, uint64_t generation, struct ccfg_view **ret_view);

/* What it would serve if what is held of it were taken. 0; -ENOENT: nothing is held; other -errno.
 */
int recall_held(struct query *query, const char *service, struct ccfg_view **ret_view);

/* Called for each key that differs, in order; NULL: it is not there. */
typedef void (*recall_fn)(
	void *userdata, const struct ccfg_entry *old, const struct ccfg_entry *new);

/* How many keys differ. fn may be NULL. */
uint64_t recall_compare(const struct ccfg_view *before, const struct ccfg_view *after, recall_fn fn,
	void *userdata);
