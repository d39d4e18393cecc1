/*
 * Many deadlines of one length: a queue in order of expiry and one timer for all of it, so that
 * starting and stopping one costs a few pointers.
 */
#pragma once

#include "daemon/list.h"
#include "daemon/loop.h"

struct deadline {
	struct list link; /* deadlines::queue */
	uint64_t at; /* loop_now() */
};

typedef void (*deadline_fn)(struct deadline *deadline);

struct deadlines {
	struct list queue; /* earliest first */
	struct loop_timer *timer;
	uint64_t delay_usec;
	deadline_fn fn; /* the deadline is stopped when this is called, and may be freed by it */
};

int deadlines_init(
	struct deadlines *deadlines, struct loop *loop, uint64_t delay_usec, deadline_fn fn);
void deadlines_done(struct deadlines *deadlines); /* none may run; zeroed memory is fine */

static inline void deadline_init(struct deadline *deadline)
{
	list_init(&deadline->link);
}

/* Expires the queue's delay from now; one that runs, in this queue or another, begins anew. */
void deadline_start(struct deadlines *deadlines, struct deadline *deadline);
void deadline_stop(struct deadline *deadline);
bool deadline_is_running(const struct deadline *deadline);
