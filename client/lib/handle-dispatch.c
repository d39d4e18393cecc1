#include "client/lib/handle-dispatch.h"

#include <limits.h>

#include "client/lib/handle-work.h"
#include "proto/limits.h"

int handle_fd(struct ccfg *h)
{
	int r = 0;

	handle_lock(h);
	if (h->events.epoll_fd < 0) {
		r = events_open(&h->events);
		if (r == 0 && !h->is_busy && !h->is_fixed)
			handle_set_events(h);
	}
	r = r < 0 ? r : h->events.epoll_fd;
	handle_unlock(h);
	return r;
}

/* With the lock. */
static void take_arrived(struct ccfg *h)
{
	struct follow *f = &h->follow;
	int r = 0;

	if (h->is_fixed)
		return;
	if (h->is_busy) {
		/* The time to try again is that thread's now: it is set anew when it is done. */
		events_wake_at(&h->events, UINT64_MAX);
		return;
	}
	handle_begin_work(h);
	handle_follow_ask(h);
	for (int i = 0; i < LIMIT_DISPATCH_REPLIES && r != -ETIMEDOUT && r != -EINTR; i++) {
		if (!link_is_up(&f->link) && clock_now_usec() < f->reconnecting.retry_at)
			break;
		r = handle_step(h, CLOCK_NO_WAIT);
	}
	handle_end_work(h);
}

/* Without the lock, which the program's functions may need. */
static unsigned tell(struct ccfg *h, struct ccfg_watch *watch, struct ccfg_view *view)
{
	struct ccfg_view *before = watch->view;
	unsigned n = 0;

	if (before == view)
		return 0;
	watch->view = view_ref(view);
	handle_unlock(h);
	n = watch_tell(watch, before, view);
	view_unref(before);
	handle_lock(h);
	return n;
}

/* With the lock, of the thread that dispatches. */
static unsigned tell_all(struct ccfg *h, struct ccfg_view *view)
{
	struct ccfg_watch *last = h->watches.first;
	unsigned n = 0;

	while (last && last->next)
		last = last->next;
	/* Those that are made meanwhile know of that view, or of a newer one. */
	for (struct ccfg_watch *watch = h->watches.first; watch; watch = watch->next) {
		if (!watch->is_closed)
			n += tell(h, watch, view);
		if (watch == last)
			break;
	}
	return n;
}

int handle_dispatch(struct ccfg *h)
{
	struct ccfg_view *view;
	unsigned n;

	handle_lock(h);
	take_arrived(h);
	if (h->is_dispatching) { /* another thread, or who called one of the functions */
		handle_unlock(h);
		return 0;
	}
	h->is_dispatching = true;
	h->dispatcher = pthread_self();
	events_set_news(&h->events, false);
	view = view_ref(handle_newest(h));
	n = tell_all(h, view);
	h->is_dispatching = false;
	watches_sweep(&h->watches);
	handle_unlock(h);
	view_unref(view);
	return (int)MIN(n, (unsigned)INT_MAX);
}

int handle_watch(struct ccfg *h, const char *prefix, ccfg_change_fn *fn, void *userdata,
	struct ccfg_watch **ret_watch)
{
	struct ccfg_watch *watch, **at;

	handle_lock(h);
	watch = watch_new(h, handle_newest(h), prefix, fn, userdata);
	if (watch) {
		for (at = &h->watches.first; *at; at = &(*at)->next)
			;
		*at = watch; /* in the order they came */
	}
	handle_unlock(h);
	if (!watch)
		return -ENOMEM;
	*ret_watch = watch;
	return 0;
}

void handle_unwatch(struct ccfg_watch *watch)
{
	struct ccfg *h = watch->handle;

	handle_lock(h);
	watch->is_closed = true;
	if (!h->is_dispatching)
		watches_sweep(&h->watches);
	handle_unlock(h);
}
