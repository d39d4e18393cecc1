#include "client/lib/handle-work.h"

#include <poll.h>
#include <sched.h>

#include "client/lib/fallback.h"
#include "client/lib/fork.h"
#include "proto/key.h"
#include "proto/limits.h"

#define EVER_DIFFERENT UINT64_C(1) /* as `seen` of no_slot: there may always be something newer */
#define TAKING (UINT64_C(1) << 63) /* in ccfg::epoch: a thread is taking the handle afresh */

/* Stands in for the slot of a service that has none. */
static const _Atomic uint64_t no_slot;

/* --- the lock ---------------------------------------------------------------------------- */

static int init_lock(struct ccfg *h)
{
	pthread_condattr_t attributes;
	int r;

	r = pthread_mutex_init(&h->lock, NULL);
	if (r != 0)
		return -r;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	r = pthread_cond_init(&h->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	return -r;
}

/* With the lock, or where no other thread is. */
struct ccfg_view *handle_newest(struct ccfg *h)
{
	return (struct ccfg_view *)(uintptr_t)atomic_load_explicit(&h->view, memory_order_acquire);
}

/* In the child of a fork: a lock that a thread of the parent held is never released. */
static void take_afresh(struct ccfg *h, uint64_t epoch)
{
	uint64_t old = atomic_load(&h->epoch);

	if (old == epoch)
		return;
	if (old == (epoch | TAKING) ||
		!atomic_compare_exchange_strong(&h->epoch, &old, epoch | TAKING)) {
		sched_yield();
		return;
	}
	h->follow.link.epoll_fd = -1; /* the parent's */
	follow_restart(&h->follow, handle_newest(h)->generation,
		pthread_mutex_trylock(&h->lock) == 0 && !h->is_busy);
	h->is_busy = false;
	/* A callback may fork: its dispatch goes on in the child. */
	h->is_dispatching &= pthread_equal(h->dispatcher, pthread_self()) != 0;
	events_close(&h->events); /* the parent polls another connection */
	backoff_reset(&h->waiting);
	init_lock(h);
	atomic_store(&h->epoch, epoch);
}

void handle_lock(struct ccfg *h)
{
	uint64_t epoch = fork_epoch();

	while (atomic_load_explicit(&h->epoch, memory_order_acquire) != epoch)
		take_afresh(h, epoch);
	pthread_mutex_lock(&h->lock);
}

void handle_unlock(struct ccfg *h)
{
	pthread_mutex_unlock(&h->lock);
}

/* --- work -------------------------------------------------------------------------------- */

/* With the lock, when no thread works: what the program's loop is to be woken by. */
void handle_set_events(struct ccfg *h)
{
	struct follow *f = &h->follow;
	uint64_t at = UINT64_MAX;

	if (!events_are_open(&h->events)) {
		f->link.epoll_fd = -1;
		return;
	}
	(void)link_poll_in(&f->link, h->events.epoll_fd);
	follow_want_notice(f);
	/* A connection that is up becomes readable, also when it ends. */
	if (link_flush(&f->link) < 0 || !link_is_up(&f->link))
		at = f->reconnecting.retry_at;
	else if (link_has_reply(&f->link))
		at = 0;
	events_wake_at(&h->events, at);
}

/* From the lock to the work and back. */
void handle_begin_work(struct ccfg *h)
{
	h->is_busy = true;
	handle_unlock(h);
}

void handle_end_work(struct ccfg *h)
{
	handle_lock(h);
	h->is_busy = false;
	handle_set_events(h);
	pthread_cond_broadcast(&h->changed);
}

/* With the lock. */
void handle_take_info(struct ccfg *h, const struct wire_info *info)
{
	uint64_t now = clock_boottime_usec(), age = le64_get(info->age_usec);

	h->state = le32_get(info->state);
	h->confirmed_at = now - age;
	h->is_backup = false;
}

/* Readers may be in the middle of it: freed when none is. */
static void retire(struct ccfg *h, struct ccfg_view *view)
{
	struct ccfg_view **at = &h->retired;

	if (view) {
		view->next_retired = h->retired;
		h->retired = view;
	}
	while (*at) {
		view = *at;
		if (hazard_is_held(view)) {
			at = &view->next_retired;
		} else {
			*at = view->next_retired;
			view_unref(view);
		}
	}
}

/* With the lock. Returns the view before. */
static struct ccfg_view *publish(struct ccfg *h, struct ccfg_view *view)
{
	struct ccfg_view *old = handle_newest(h);

	atomic_store(&h->view, view);
	atomic_store_explicit(&h->generation, view->generation, memory_order_release);
	for (struct bound *bound = h->bounds; bound; bound = bound->next)
		bound_update(bound, view);
	events_set_news(&h->events, true);
	return old;
}

/* With the lock, after what the change stands for is in its place. */
static void take_slot(struct ccfg *h)
{
	const struct follow *f = &h->follow;

	if (h->is_manual)
		return;
	atomic_store_explicit(
		&h->change, f->slot ? &f->slot->change : &no_slot, memory_order_release);
	atomic_store_explicit(&h->seen, f->slot ? f->change : EVER_DIFFERENT, memory_order_release);
}

/* A step of the follower, and what it brought made public. As follow_step(). */
int handle_step(struct ccfg *h, uint64_t deadline)
{
	struct follow *f = &h->follow;
	struct ccfg_view *old = NULL;
	int r = follow_step(f, deadline);

	if (!f->news && !f->has_info)
		return r;
	handle_lock(h);
	if (f->news)
		old = publish(h, TAKE_PTR(f->news));
	take_slot(h);
	if (f->has_info)
		handle_take_info(h, &f->info);
	f->has_info = false;
	handle_unlock(h);
	if (old || h->retired)
		retire(h, old);
	return r;
}

/* This process may have become another user: the daemon is to judge that one. */
void handle_follow_ask(struct ccfg *h)
{
	if (link_is_up(&h->follow.link) && link_is_of_another_user(&h->follow.link))
		follow_restart(&h->follow, handle_newest(h)->generation, true);
	follow_ask(&h->follow);
}

/* All that can be done in the time of a read. */
static void refresh(struct ccfg *h)
{
	uint64_t now = clock_now_usec(), deadline = now + LIMIT_READ_USEC;
	bool may_wait = now >= h->waiting.retry_at;
	int r;

	handle_follow_ask(h);
	do {
		if (!link_is_up(&h->follow.link) && now < h->follow.reconnecting.retry_at)
			return;
		r = handle_step(
			h, may_wait && follow_is_owed(&h->follow) ? deadline : CLOCK_NO_WAIT);
		now = clock_now_usec();
	} while (r != -ETIMEDOUT && now < deadline && (r < 0 || follow_is_owed(&h->follow)));
	if (!follow_is_owed(&h->follow))
		backoff_reset(&h->waiting);
	else if (may_wait)
		backoff_fail(&h->waiting, now);
}

static bool is_due(struct ccfg *h)
{
	if (h->is_fixed || h->is_manual)
		return false;
	/* One that did not answer in the time of a read is looked at again after a while. */
	if (link_is_up(&h->follow.link) && follow_is_owed(&h->follow))
		return clock_now_usec() >= h->waiting.retry_at;
	return follow_has_work(&h->follow);
}

/* With the lock. */
void handle_catch_up_locked(struct ccfg *h)
{
	if (h->is_busy || !is_due(h))
		return;
	handle_begin_work(h);
	refresh(h);
	handle_end_work(h);
}

void handle_catch_up(struct ccfg *h)
{
	handle_lock(h);
	handle_catch_up_locked(h);
	handle_unlock(h);
}

struct ccfg_view *handle_view(struct ccfg *h)
{
	struct hazard *hazard = hazard_of_thread();
	struct ccfg_view *view;

	if (!handle_is_current(h))
		handle_catch_up(h);
	if (hazard) {
		view = view_ref((struct ccfg_view *)(uintptr_t)hazard_enter(hazard, &h->view));
		hazard_leave(hazard);
		return view;
	}
	handle_lock(h);
	view = view_ref(handle_newest(h));
	handle_unlock(h);
	return view;
}

/* --- waits ------------------------------------------------------------------------------- */

static int sleep_until(uint64_t when)
{
	return poll(NULL, 0, clock_left_ms(when)) < 0 ? -errno : 0;
}

/* As step(), but waits for the time to connect again. */
static int patient_step(struct ccfg *h, uint64_t deadline)
{
	uint64_t retry_at = h->follow.reconnecting.retry_at;

	if (!link_is_up(&h->follow.link) && clock_now_usec() < retry_at)
		return sleep_until(MIN(retry_at, deadline));
	return handle_step(h, deadline);
}

/* Until the thread that works has something, or stops. */
static void wait_for_others(struct ccfg *h, uint64_t deadline)
{
	const struct timespec end = {
		.tv_sec = (time_t)(deadline / USEC_PER_SEC),
		.tv_nsec = (long)(deadline % USEC_PER_SEC * NSEC_PER_USEC),
	};

	if (deadline == CLOCK_FOREVER)
		pthread_cond_wait(&h->changed, &h->lock);
	else
		pthread_cond_timedwait(&h->changed, &h->lock, &end);
}

static int wait_in_vain(uint64_t deadline)
{
	int r = sleep_until(deadline);

	return r < 0 ? r : -ETIMEDOUT;
}

int handle_wait(struct ccfg *h, uint64_t after_generation, uint64_t deadline)
{
	bool must_look = h->is_manual; /* nobody else does */
	int r = 0;

	if (h->is_fixed)
		return handle_newest(h)->generation != after_generation ? 0
									: wait_in_vain(deadline);
	handle_lock(h);
	handle_catch_up_locked(h);
	while (handle_newest(h)->generation == after_generation && r != -EINTR &&
		(must_look || clock_now_usec() < deadline)) {
		must_look = false;
		if (h->is_busy) {
			wait_for_others(h, deadline);
			continue;
		}
		handle_begin_work(h);
		handle_follow_ask(h);
		follow_ask_to_wait(&h->follow);
		r = patient_step(h, deadline);
		handle_end_work(h);
	}
	if (handle_newest(h)->generation != after_generation)
		r = 0;
	else if (r != -EINTR)
		r = -ETIMEDOUT;
	handle_unlock(h);
	return r;
}

/* A daemon that is not there now may be there soon; one that refuses will go on refusing. */
static bool is_refusal(int error)
{
	switch (error) {
	case 0:
	case -EINTR:
	case -ETIMEDOUT:
	case -ENOENT:
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -ENOTCONN:
	case -EAGAIN:
	case -ENODATA:
		return false;
	}
	return true;
}

/* Whether a backup is what there is from now on. */
static bool fall_back(struct ccfg *h)
{
	struct fallback found;

	if (!h->may_fall_back || fallback_read(link_path(&h->follow.link), h->service, &found) < 0)
		return false;
	h->is_backup = true;
	h->state = WIRE_BACKUP;
	h->confirmed_at = clock_boottime_usec() - found.age_usec;
	h->index = found.index;
	h->follow.generation = found.view->generation;
	view_unref(publish(h, found.view));
	return true;
}

static bool is_absent(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED;
}

int handle_open(struct ccfg *h, uint64_t deadline)
{
	while (handle_newest(h)->generation == 0) {
		int r = patient_step(h, deadline);

		if (is_refusal(r))
			return r;
		if (is_absent(r) && fall_back(h))
			return 0;
		if (handle_newest(h)->generation == 0 && clock_now_usec() >= deadline)
			return !link_is_greeted(&h->follow.link) && fall_back(h) ? 0
			       : link_is_up(&h->follow.link)			 ? -ETIMEDOUT
										 : h->follow.error;
	}
	return 0;
}

int handle_open_now(struct ccfg *h)
{
	refresh(h);
	if (handle_newest(h)->generation == 0 && !link_is_greeted(&h->follow.link))
		(void)fall_back(h);
	return is_refusal(h->follow.error) ? h->follow.error : 0;
}

/* --- bound values ------------------------------------------------------------------------ */

struct bound *handle_bind(struct ccfg *h, enum bound_type type, const char *key, uint64_t fallback)
{
	struct bound *bound = bound_new(h, type, key, fallback);

	if (!bound)
		return NULL;
	handle_lock(h);
	handle_catch_up_locked(h);
	bound_update(bound, handle_newest(h));
	bound->next = h->bounds;
	h->bounds = bound;
	handle_unlock(h);
	return bound;
}

/* --- life -------------------------------------------------------------------------------- */

static int handle_init(struct ccfg *h, struct ccfg_view *view)
{
	hazard_set_up();
	atomic_init(&h->epoch, fork_epoch());
	atomic_init(&h->view, view);
	atomic_init(&h->generation, view->generation);
	atomic_init(&h->change, &no_slot);
	atomic_init(&h->seen, EVER_DIFFERENT);
	h->events = EVENTS_NONE;
	return init_lock(h);
}

int handle_new(const char *service, const char *socket_path, struct ccfg **ret_handle)
{
	static const struct records none;
	size_t len = strlen(service);
	struct ccfg_view *view = NULL;
	struct ccfg *h;
	int r;

	if (!key_is_service_name(service, len))
		return -EINVAL;
	h = aligned_alloc(64, (sizeof(*h) + 63) / 64 * 64);
	if (!h)
		return -ENOMEM;
	memset(h, 0, sizeof(*h));
	memcpy(h->service, service, len);
	r = follow_init(&h->follow, h->service, socket_path);
	if (r == 0)
		r = view_new(&none, 0, 0, &view);
	if (r == 0)
		r = handle_init(h, view);
	if (r < 0) {
		view_unref(view);
		free(h);
		return r;
	}
	*ret_handle = h;
	return 0;
}

int handle_new_fixed(const char *path, struct ccfg **ret_handle)
{
	struct ccfg_view *view;
	struct ccfg *h;
	int r;

	r = view_read(path, &view);
	if (r < 0)
		return r;
	r = handle_new("image", NULL, &h);
	if (r < 0) {
		view_unref(view);
		return r;
	}
	h->is_fixed = true;
	h->state = WIRE_LIVE;
	handle_be_manual(h);
	view_unref(publish(h, view));
	*ret_handle = h;
	return 0;
}

void handle_be_manual(struct ccfg *h)
{
	h->is_manual = true;
	atomic_store(&h->change, &no_slot);
	atomic_store(&h->seen, atomic_load(&no_slot));
}

struct ccfg *handle_free(struct ccfg *h)
{
	if (!h)
		return NULL;
	/* In a child that never read, what is freed belongs to the parent's threads. */
	handle_lock(h);
	handle_unlock(h);
	follow_done(&h->follow);
	events_close(&h->events);
	watches_done(&h->watches);
	bound_free_all(h->bounds);
	while (h->retired) {
		struct ccfg_view *view = h->retired;

		h->retired = view->next_retired;
		view_unref(view);
	}
	view_unref(handle_newest(h));
	pthread_cond_destroy(&h->changed);
	pthread_mutex_destroy(&h->lock);
	free(h);
	return NULL;
}
