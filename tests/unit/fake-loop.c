#include "fake-loop.h"

#include "daemon/list.h"
#include "test.h"

struct loop {
	struct list timers; /* loop_timer::link, armed ones */
};

struct loop_timer {
	struct list link;
	struct loop *loop;
	loop_fn fn;
	void *userdata;
	uint64_t at;
};

static uint64_t now = 1000 * USEC_PER_SEC;
static struct loop *the_loop;
static unsigned n_failing;

int loop_new(struct loop **ret_loop)
{
	the_loop = calloc(1, sizeof(*the_loop));
	assert_non_null(the_loop);
	list_init(&the_loop->timers);
	*ret_loop = the_loop;
	return 0;
}

struct loop *loop_free(struct loop *loop)
{
	assert_true(list_is_empty(&loop->timers));
	free(loop);
	the_loop = NULL;
	return NULL;
}

uint64_t loop_cpu_usec(void)
{
	return 0;
}

uint64_t loop_now(void)
{
	return now;
}

int loop_timer_new(struct loop *loop, loop_fn fn, void *userdata, struct loop_timer **ret_timer)
{
	struct loop_timer *timer;

	if (n_failing > 0) {
		n_failing--;
		return -ENOMEM;
	}
	timer = calloc(1, sizeof(*timer));
	assert_non_null(timer);
	timer->loop = loop;
	timer->fn = fn;
	timer->userdata = userdata;
	list_init(&timer->link);
	*ret_timer = timer;
	return 0;
}

int loop_timer_arm(struct loop_timer *timer, uint64_t delay_usec)
{
	list_unlink(&timer->link);
	timer->at = now + delay_usec;
	list_append(&timer->loop->timers, &timer->link);
	return 0;
}

void loop_timer_disarm(struct loop_timer *timer)
{
	list_unlink(&timer->link);
}

bool loop_timer_is_armed(const struct loop_timer *timer)
{
	return !list_is_empty(&timer->link);
}

struct loop_timer *loop_timer_free(struct loop_timer *timer)
{
	if (!timer)
		return NULL;
	list_unlink(&timer->link);
	free(timer);
	return NULL;
}

static struct loop_timer *first_due(uint64_t until)
{
	struct loop_timer *first = NULL;

	LIST_FOREACH (node, &the_loop->timers) {
		struct loop_timer *timer = LIST_ENTRY(node, struct loop_timer, link);

		if (timer->at <= until && (!first || timer->at < first->at))
			first = timer;
	}
	return first;
}

void fake_loop_advance(uint64_t usec)
{
	uint64_t until = now + usec;
	struct loop_timer *timer;

	while ((timer = first_due(until))) {
		now = MAX(now, timer->at);
		list_unlink(&timer->link);
		timer->fn(timer->userdata);
	}
	now = until;
}

void fake_loop_stall(uint64_t usec)
{
	now += usec;
}

void fake_loop_fail_timers(unsigned n)
{
	n_failing = n;
}
