/*
 * An inquiry: what became of the keys that an answer of Consul does not have any more. Knows what
 * is held and what came; must not know who asks, or what is done with the finding.
 *
 *   counting the loss, in slices --little is gone--> harmless
 *            | much                  \--and the answer is not confirmed--> suspicious
 *            v
 *   asking for some of the missing keys, one after the other, `consistent`
 *            |--each is absent: deleted
 *            |--one is denied: hidden, the token has lost access to it
 *            \--anything else: unclear
 *
 * Measured on 1.8.7: a recursive read leaves out what the token may not see, as if it were deleted;
 * the read of a single key says 403 for a hidden one and 404 for a deleted one, with the index of
 * the whole store.
 */
#pragma once

#include "daemon/agent.h"

enum inquiry_finding {
	INQUIRY_HARMLESS,
	INQUIRY_SUSPICIOUS,
	INQUIRY_DELETED,
	INQUIRY_HIDDEN,
	INQUIRY_UNCLEAR,
};

struct inquiry;

/* Once, maybe from within inquiry_begin(): free it first, it has no more to say. index: of
 * INQUIRY_DELETED: the store was at this index, or above, when it had none of the keys. */
typedef void (*inquiry_fn)(enum inquiry_finding finding, uint64_t index, void *userdata);

struct inquiry_query {
	enum agent_pool pool; /* AGENT_READS: whichever a read gets through soonest */
	const char *prefix; /* outlives the inquiry */
	struct kvset *held, *fresh; /* are referenced */
	bool is_confirmed; /* only then keys are asked for */
	inquiry_fn fn;
	void *userdata;
};

/* *ret_inquiry is set before it calls back. 0, -ENOMEM. */
int inquiry_begin(
	struct agent *agent, const struct inquiry_query *query, struct inquiry **ret_inquiry);
struct inquiry *inquiry_free(struct inquiry *inquiry);

/* loop_now() time by which something must happen. */
uint64_t inquiry_due_at(const struct inquiry *inquiry);
