/*
 * The resync of a tree: every so often a full read over a connection of its own, compared with what
 * the watch brought by content, never by index. Knows the watch only to restart it.
 *
 *   idle --> skimming (the hash of the body) --same--> idle
 *               | differs, or not known
 *               v
 *           reading --same--> idle
 *               | differs
 *               v
 *           confirming (a consistent read) --same--> idle
 *               | differs
 *               v
 *           waiting: did the watch bring a change by now? then it is well
 *               | no, and both reads said the same
 *               v
 *           examining (an inquiry after the missing keys) --they are hidden, or lost--> held
 *               | deleted
 *               v
 *           repaired: applied, counted, told, the watch restarted
 */
#pragma once

#include "daemon/watch.h"

struct resync;

/* The first one comes an interval from now. All outlive it. 0, -ENOMEM. */
int resync_new(
	struct agent *agent, struct tree *tree, struct watch *watch, struct resync **ret_resync);
struct resync *resync_free(struct resync *resync);

/* Ends what is under way, as before a move of the agent, and stays silent. */
void resync_stop(struct resync *resync);
/* The next one comes an interval from now; the interval may have changed. */
void resync_schedule(struct resync *resync);
/* Now, unless it is under way. */
void resync_now(struct resync *resync);

bool resync_is_on_time(const struct resync *resync, uint64_t now);
