/*
 * MGET: the values of many keys of one snapshot. What the turn's budget allows for is answered at
 * once; the rest is looked up a share at a time, the snapshot held meanwhile, so that the reply is
 * of one generation.
 */
#pragma once

#include "daemon/reply.h"

struct lookups {
	struct reply reply;
	struct snapshot *snapshot;
	struct wire_request request; /* its keys alone */
	char *keys; /* the ones to go, once they wait, or NULL */
	size_t cursor; /* behind the last key that was looked up */
	const char *value; /* of that one */
	size_t value_left; /* of it, not copied yet */
	size_t size; /* of the values so far, that one whole; at most LIMIT_MGET_REPLY */
	struct buffer frame; /* the reply so far */
};

/* Replies, or hangs a lookups into the session. */
void lookups_reply(
	const struct reply *reply, struct snapshot *snapshot, const struct wire_request *request);
struct lookups *lookups_free(struct lookups *lookups);

/* Nothing is made for a client that does not take what was made before. */
bool lookups_may_step(const struct session *session);

/* What the budget of this turn allows for, if there is any to make; the last one replies and frees.
 */
void lookups_step(struct session *session);

/* Bytes that are kept; lookups may be NULL. */
size_t lookups_allocated(const struct lookups *lookups);
