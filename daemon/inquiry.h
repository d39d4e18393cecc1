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

/* Once for each inquiry_begin() unless stopped, maybe from within it. The inquiry is over then. */
typedef void (*inquiry_fn)(enum inquiry_finding finding, void *userdata);

struct inquiry;

int inquiry_new(struct agent *agent, const char *prefix, inquiry_fn fn, void *userdata,
	struct inquiry **ret_inquiry);
struct inquiry *inquiry_free(struct inquiry *inquiry);

/*
 * References both sets. Keys are asked for only when the answer is confirmed, in `pool`, where
 * AGENT_READS is whichever pool a read gets through soonest.
 */
void inquiry_begin(struct inquiry *inquiry, enum agent_pool pool, struct kvset *held,
	struct kvset *fresh, bool is_confirmed);
void inquiry_stop(struct inquiry *inquiry);

/* Of INQUIRY_DELETED: the store was at this index, or above, when it had none of the keys. */
uint64_t inquiry_index(const struct inquiry *inquiry);

/* loop_now() time by which something must happen. */
uint64_t inquiry_due_at(const struct inquiry *inquiry);
