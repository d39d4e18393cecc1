#include "daemon/deadline.h"

#define EXPIRE_BATCH 256 /* each may end a client: about 1 ms */

static struct deadline *first(const struct deadlines *deadlines)
{
	return LIST_ENTRY(deadlines->queue.next, struct deadline, link);
}

static void on_timer(void *userdata)
{
	struct deadlines *deadlines = userdata;
	uint64_t now = loop_now();

	for (unsigned i = 0; i < EXPIRE_BATCH; i++) {
		struct deadline *deadline = first(deadlines);

		if (list_is_empty(&deadlines->queue))
			return;
		if (deadline->at > now)
			break;
		list_unlink(&deadline->link);
		deadlines->fn(deadline);
	}
	if (list_is_empty(&deadlines->queue))
		return;
	loop_timer_arm(
		deadlines->timer, first(deadlines)->at > now ? first(deadlines)->at - now : 0);
}

int deadlines_init(
	struct deadlines *deadlines, struct loop *loop, uint64_t delay_usec, deadline_fn fn)
{
	list_init(&deadlines->queue);
	deadlines->delay_usec = delay_usec;
	deadlines->fn = fn;
	return loop_timer_new(loop, on_timer, deadlines, &deadlines->timer);
}

void deadlines_done(struct deadlines *deadlines)
{
	deadlines->timer = loop_timer_free(deadlines->timer);
}

void deadline_start(struct deadlines *deadlines, struct deadline *deadline)
{
	list_unlink(&deadline->link);
	deadline->at = loop_now() + deadlines->delay_usec;
	list_append(&deadlines->queue, &deadline->link);
	/* Without memory for the timer a client merely keeps its place longer. */
	if (!loop_timer_is_armed(deadlines->timer))
		(void)loop_timer_arm(deadlines->timer, deadlines->delay_usec);
}

void deadline_stop(struct deadline *deadline)
{
	list_unlink(&deadline->link);
}

bool deadline_is_running(const struct deadline *deadline)
{
	return !list_is_empty(&deadline->link);
}
