/*
 * The watch of a tree: its blocking query. Knows Consul's rules of when an answer may be believed;
 * must not know services, and of HTTP only what fetch says.
 *
 *   asking ---------> blocking: a change is applied at once, a time-out asks again
 *     |  differs         |  differs
 *     v     suspicious   v
 *   confirming <---- examining        any error --> backing off --> asking at index 0
 *     |  the same again    ^ |
 *     \--------------------/ \--> applied, or held and backing off
 *
 * Where there is no poll for it, it is listening for a doorbell instead of blocking; what is read
 * after a ring is judged as what a poll brings.
 *
 * An answer at index 0 is `consistent` when the tree has no contents yet; a plain one that differs
 * from the contents held is read again `consistent` before it counts. While blocking, answers that
 * differ count at once but for suspicious ones: absent or empty, more than half of at least 10 keys
 * gone, or an index that went backwards. Those need a `consistent` read that says the same, and
 * then an inquiry after the missing keys: what was deleted is applied at once, what the token may
 * not see any more is held. While that stays so, one read now and then is enough.
 */
#pragma once

#include "daemon/agent.h"
#include "daemon/doorbells.h"
#include "daemon/tree.h"

struct watch;

/* Of watches that live behind a doorbell. */
extern const struct doorbells_fns watch_tenant_functions;

/* Begins to ask. All outlive it. 0, -ENOMEM. */
int watch_new(struct agent *agent, struct doorbells *doorbells, struct tree *tree,
	struct watch **ret_watch);
struct watch *watch_free(struct watch *watch);

/* Ends what is under way, as before a move of the agent, and stays silent. */
void watch_stop(struct watch *watch);
/* Asks afresh, at index 0. */
void watch_restart(struct watch *watch);
/* The same, if what was told last is applied or examined: what comes next is compared with the
 * contents anyway. */
void watch_doubt(struct watch *watch);
/* The same, if it waits to try again, or doubts what it was told. */
void watch_hurry(struct watch *watch);

/* False when it should have made progress long ago: the watchdog is not fed then. */
bool watch_is_on_time(const struct watch *watch, uint64_t now);
