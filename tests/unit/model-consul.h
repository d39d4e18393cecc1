/*
 * Consul's KV store as far as its readers can tell: keys, tombstones and indexes as measured on
 * 1.8.7, answering what fake-http keeps. The index of a prefix is that of all that begins with it,
 * tombstones too; of a prefix without anything it is that of the whole store. So a deletion of all
 * above a prefix does not show there while it has an older tombstone of its own: Consul does so.
 */
#pragma once

#include "fake-http.h"

struct model;

struct model *model_new(void);
struct model *model_free(struct model *model);

void model_put(struct model *model, const char *key, const char *value);
/* One tombstone, as for a key or, with a string prefix, for a tree. */
void model_delete(struct model *model, const char *key, bool recurse);
/* Tombstones go: indexes become lower, and nobody is woken. */
void model_reap(struct model *model);
/* Another store takes its place: the same keys with this value, at lower indexes. Polls that are
 * under way end early, with the old contents. */
void model_restore(struct model *model, const char *value);

/* The same, and polls sleep on. */
void model_rewind(struct model *model, const char *value);

/* The next listing that does not block has this index. */
void model_lie(struct model *model, uint64_t index);

/* May be listed? ?keys answers 403 when not. */
void model_set_listing(struct model *model, bool is_allowed);
/* Answers nothing, and what is asked fails. */
void model_set_away(struct model *model, bool is_away);

/* Answers one request that can be answered now, by chance; false: there is none. */
bool model_answer_one(struct model *model, uint32_t random);
/* Of one such request the answer is settled; it comes later, whatever is written meanwhile. */
void model_decide_one(struct model *model, uint32_t random);
/* Of all such requests whose URL holds this; none is answered before it is released. */
void model_hold(struct model *model, const char *part);
void model_release(struct model *model);
/* Answers for this long whatever can be answered, at once. */
void model_run(struct model *model, uint64_t usec);

/* Polls under way, also those that nobody listens to any more. */
unsigned model_n_polls(void);
/* Requests answered since these were forgotten (4096 are kept) whose URL holds this. */
void model_forget_answered(struct model *model);
unsigned model_n_answered(const struct model *model, const char *part);

/* The value of the n-th key below a prefix, and the key behind that, or NULL. */
const char *model_key(
	const struct model *model, const char *prefix, unsigned n, const char **ret_value);
