#include "daemon/announcer.h"

#define ASIDE_USEC 50000 /* clients have the next one by then: freeing 64 MB takes 5 ms */

struct announcer {
	struct genfile *genfile;
	/*
	 * Who reads asks at once, and would wait until the work that comes with an answer is done:
	 * slots are raised in the turn after it.
	 */
	struct list due; /* announcement::link */
	struct loop_timer *timer;
	struct snapshot *aside; /* the one that was replaced last */
	struct loop_timer *aside_timer;
};

static void raise_now(struct announcer *announcer, struct announcement *announcement)
{
	list_unlink(&announcement->link);
	genfile_raise(announcer->genfile, announcement->slot);
}

static void on_timer(void *userdata)
{
	struct announcer *announcer = userdata;

	while (!list_is_empty(&announcer->due))
		raise_now(announcer, LIST_ENTRY(announcer->due.next, struct announcement, link));
}

static void on_aside(void *userdata)
{
	struct announcer *announcer = userdata;

	announcer->aside = snapshot_unref(announcer->aside);
}

int announcer_new(struct loop *loop, struct genfile *genfile, struct announcer **ret_announcer)
{
	struct announcer *announcer = calloc(1, sizeof(*announcer));
	int r;

	if (!announcer)
		return -ENOMEM;
	announcer->genfile = genfile;
	list_init(&announcer->due);
	r = loop_timer_new(loop, on_timer, announcer, &announcer->timer);
	if (r == 0)
		r = loop_timer_new(loop, on_aside, announcer, &announcer->aside_timer);
	if (r < 0) {
		announcer_free(announcer);
		return r;
	}
	*ret_announcer = announcer;
	return 0;
}

struct announcer *announcer_free(struct announcer *announcer)
{
	if (!announcer)
		return NULL;
	snapshot_unref(announcer->aside);
	loop_timer_free(announcer->aside_timer);
	loop_timer_free(announcer->timer);
	free(announcer);
	return NULL;
}

void announcer_add(struct announcer *announcer, struct announcement *announcement)
{
	list_init(&announcement->link);
	announcement->slot = genfile_take_slot(announcer->genfile);
}

void announcer_remove(struct announcer *announcer, struct announcement *announcement)
{
	list_unlink(&announcement->link);
	genfile_free_slot(announcer->genfile, announcement->slot);
}

void announcer_raise_soon(struct announcer *announcer, struct announcement *announcement)
{
	if (list_is_empty(&announcement->link))
		list_append(&announcer->due, &announcement->link);
	if (!loop_timer_is_armed(announcer->timer))
		loop_timer_arm(announcer->timer, 0);
}

uint64_t announcer_change(struct announcer *announcer, struct announcement *announcement)
{
	if (!list_is_empty(&announcement->link))
		raise_now(announcer, announcement);
	return genfile_change(announcer->genfile, announcement->slot);
}

void announcer_show(struct announcer *announcer, const struct announcement *announcement,
	uint64_t confirmed_age_usec, uint64_t index, uint32_t state)
{
	genfile_set(announcer->genfile, announcement->slot, confirmed_age_usec, index, state);
}

void announcer_put_aside(struct announcer *announcer, struct snapshot *snapshot)
{
	snapshot_unref(announcer->aside);
	announcer->aside = snapshot;
	loop_timer_arm(announcer->aside_timer, ASIDE_USEC);
}
