#include "client/lib/handle.h"

#include <poll.h>
#include <sched.h>

#include "client/lib/fork.h"
#include "proto/key.h"

#define READ_USEC UINT64_C(20000) /* a read waits no longer for a daemon in whatever state */
#define STEPS_AT_ONCE 64 /* replies taken by one dispatch: a daemon could send for ever */
#define EVER_DIFFERENT UINT64_C(1) /* as `seen` of no_slot: there may always be something newer */
#define TAKING (UINT64_C(1) << 63) /* in ccfg::epoch: a thread is taking the handle afresh */

/* Stands in for the slot of a service that has none. */
static const _Atomic uint64_t no_slot;

static uint64_t boottime_usec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_USEC;
}

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
static struct ccfg_view *view_of(struct ccfg *h)
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
	follow_restart(&h->follow, view_of(h)->generation,
		pthread_mutex_trylock(&h->lock) == 0 && !h->is_busy);
	h->is_busy = h->is_dispatching = false;
	events_close(&h->events); /* the parent polls another connection */
	backoff_reset(&h->waiting);
	init_lock(h);
	atomic_store(&h->epoch, epoch);
}

static void lock(struct ccfg *h)
{
	uint64_t epoch = fork_epoch();

	while (atomic_load_explicit(&h->epoch, memory_order_acquire) != epoch)
		take_afresh(h, epoch);
	pthread_mutex_lock(&h->lock);
}

static void unlock(struct ccfg *h)
{
	pthread_mutex_unlock(&h->lock);
}

/* --- work -------------------------------------------------------------------------------- */

/* With the lock, when no thread works: what the program's loop is to be woken by. */
static void set_events(struct ccfg *h)
{
	struct follow *f = &h->follow;
	uint64_t at = UINT64_MAX;

	if (h->events.epoll_fd < 0)
		return;
	(void)link_poll_in(&f->link, h->events.epoll_fd);
	follow_want_notice(f);
	/* A connection that is up becomes readable, also when it ends. */
	if (link_flush(&f->link) < 0 || !link_is_up(&f->link))
		at = f->reconnecting.retry_at;
	events_wake_at(&h->events, at);
}

/* From the lock to the work and back. */
static void begin_work(struct ccfg *h)
{
	h->is_busy = true;
	unlock(h);
}

static void end_work(struct ccfg *h)
{
	lock(h);
	h->is_busy = false;
	set_events(h);
	pthread_cond_broadcast(&h->changed);
}

/* With the lock. */
static void take_info(struct ccfg *h, const struct wire_info *info)
{
	uint64_t now = boottime_usec(), age = le64_get(info->age_usec);

	h->state = le32_get(info->state);
	h->confirmed_at = age < now ? now - age : 0;
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
	struct ccfg_view *old = view_of(h);

	atomic_store_explicit(&h->view, view, memory_order_release);
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
	atomic_store_explicit(
		&h->seen, f->slot ? f->change : EVER_DIFFERENT, memory_order_release);
}

/* A step of the follower, and what it brought made public. As follow_step(). */
static int step(struct ccfg *h, uint64_t deadline)
{
	struct follow *f = &h->follow;
	struct ccfg_view *old = NULL;
	int r = follow_step(f, deadline);

	if (!f->news && !f->has_info)
		return r;
	lock(h);
	if (f->news)
		old = publish(h, TAKE_PTR(f->news));
	take_slot(h);
	if (f->has_info)
		take_info(h, &f->info);
	f->has_info = false;
	unlock(h);
	if (old || h->retired)
		retire(h, old);
	return r;
}

/* This process may have become another user: the daemon is to judge that one. */
static void ask(struct ccfg *h)
{
	if (link_is_up(&h->follow.link) && link_is_of_another_user(&h->follow.link))
		follow_restart(&h->follow, view_of(h)->generation, true);
	follow_ask(&h->follow);
}

/* All that can be done in the time of a read. */
static void refresh(struct ccfg *h)
{
	uint64_t now = clock_now_usec(), deadline = now + READ_USEC;
	bool may_wait = now >= h->waiting.retry_at;
	int r;

	ask(h);
	do {
		if (!link_is_up(&h->follow.link) && now < h->follow.reconnecting.retry_at)
			return;
		r = step(h, may_wait && follow_is_owed(&h->follow) ? deadline : CLOCK_NO_WAIT);
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
static void catch_up(struct ccfg *h)
{
	if (h->is_busy || !is_due(h))
		return;
	begin_work(h);
	refresh(h);
	end_work(h);
}

void handle_catch_up(struct ccfg *h)
{
	lock(h);
	catch_up(h);
	unlock(h);
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
	lock(h);
	view = view_ref(view_of(h));
	unlock(h);
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
	return step(h, deadline);
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
	int r = 0;

	if (h->is_fixed)
		return view_of(h)->generation != after_generation ? 0 : wait_in_vain(deadline);
	lock(h);
	catch_up(h);
	while (view_of(h)->generation == after_generation && r != -EINTR &&
		clock_now_usec() < deadline) {
		if (h->is_busy) {
			wait_for_others(h, deadline);
			continue;
		}
		begin_work(h);
		ask(h);
		follow_ask_to_wait(&h->follow);
		r = patient_step(h, deadline);
		end_work(h);
	}
	if (view_of(h)->generation != after_generation)
		r = 0;
	else if (r != -EINTR)
		r = -ETIMEDOUT;
	unlock(h);
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

int handle_open(struct ccfg *h, uint64_t deadline)
{
	while (view_of(h)->generation == 0) {
		int r = patient_step(h, deadline);

		if (is_refusal(r))
			return r;
		if (view_of(h)->generation == 0 && clock_now_usec() >= deadline)
			return link_is_up(&h->follow.link) ? -ETIMEDOUT : h->follow.error;
	}
	return 0;
}

int handle_open_now(struct ccfg *h)
{
	refresh(h);
	return is_refusal(h->follow.error) ? h->follow.error : 0;
}

/* --- how good it is ---------------------------------------------------------------------- */

static int open_on(
	struct link *link, const char *service, uint64_t deadline, struct wire_info *ret_info)
{
	const struct wire_request request = { .service = service, .service_len = strlen(service) };
	struct link_reply reply;
	uint32_t tag;
	int r;

	r = link_connect(link);
	if (r == 0)
		r = link_send(link, WIRE_OPEN, &request, &tag);
	if (r != 0)
		return r;
	do
		r = link_receive(link, deadline, &reply);
	while (r == -EINTR || (r == 0 && reply.tag != tag));
	if (r == 0)
		r = link_status_error(reply.status);
	if (r == 0)
		r = link_reply_head(&reply, ret_info, sizeof(*ret_info));
	return r;
}

/* On a connection of its own: another thread may wait on the handle's for hours. */
static int ask_daemon(struct ccfg *h, uint64_t deadline, struct wire_info *ret_info)
{
	struct link link;
	int r;

	r = link_init(&link, link_path(&h->follow.link));
	if (r == 0)
		r = open_on(&link, h->service, deadline, ret_info);
	link_done(&link);
	return r;
}

/* With the lock; r is what ask_daemon() gave. */
static void take_answer(struct ccfg *h, int r, const struct wire_info *info)
{
	if (r == 0)
		take_info(h, info);
	else if (r == -ENODATA)
		h->state = WIRE_LOADING;
	h->asking_error = r == -ENODATA ? 0 : r;
	if (h->asking_error < 0)
		backoff_fail(&h->asking, clock_now_usec());
	else
		backoff_reset(&h->asking);
}

/* With the lock. */
static enum ccfg_state judge(struct ccfg *h)
{
	if (view_of(h)->generation == 0)
		return CCFG_LOADING;
	/* A new daemon that has nothing yet: what is held is a copy in memory. */
	if (h->asking_error < 0 || h->state == WIRE_LOADING || h->state > WIRE_FROZEN)
		return CCFG_STALE;
	return (enum ccfg_state)h->state;
}

/* With the lock. What the daemon shows in memory, as long as we hold what it shows. */
static bool take_shown(struct ccfg *h)
{
	const struct follow *f = &h->follow;
	const struct genfile_slot *slot = f->slot;

	if (h->is_busy || !slot || !link_is_up(&f->link) || !f->is_settled)
		return false;
	/* With something newer untaken it may be another service's by now. */
	if (!h->is_manual && atomic_load(&slot->change) != f->change)
		return false;
	h->state = genmap_is_alive(f->map, boottime_usec() * NSEC_PER_USEC)
			   ? atomic_load_explicit(&slot->state, memory_order_relaxed)
			   : (uint32_t)WIRE_STALE;
	h->confirmed_at =
		atomic_load_explicit(&slot->confirmed_at, memory_order_relaxed) / NSEC_PER_USEC;
	h->index = atomic_load_explicit(&slot->index, memory_order_relaxed);
	h->asking_error = 0;
	return true;
}

static uint64_t count_unparsable(const struct ccfg *h)
{
	uint64_t n = 0;

	for (const struct bound *bound = h->bounds; bound; bound = bound->next)
		n += bound->is_bad;
	return n;
}

static uint64_t age_of(const struct ccfg *h)
{
	uint64_t now = boottime_usec();

	if (h->confirmed_at == 0)
		return UINT64_MAX;
	return now > h->confirmed_at ? now - h->confirmed_at : 0;
}

void handle_ask(struct ccfg *h, struct handle_info *ret_info)
{
	uint64_t deadline = clock_after_usec(READ_USEC);
	struct wire_info info;
	bool is_known;
	int r;

	lock(h);
	catch_up(h);
	is_known = h->is_fixed || take_shown(h);
	if (!is_known && h->is_manual) {
		h->asking_error = h->follow.error < 0 ? h->follow.error : -ENOTCONN;
	} else if (!is_known && clock_now_usec() >= h->asking.retry_at) {
		unlock(h);
		r = ask_daemon(h, deadline, &info);
		lock(h);
		take_answer(h, r, &info);
	}
	*ret_info = (struct handle_info){
		.view = view_ref(view_of(h)),
		.state = judge(h),
		.error = h->asking_error,
		.age_usec = age_of(h),
		.index = h->index,
		.n_unparsable = count_unparsable(h),
	};
	unlock(h);
}

/* --- bound values ------------------------------------------------------------------------ */

struct bound *handle_bind(
	struct ccfg *h, enum bound_type type, const char *key, uint64_t fallback)
{
	struct bound *bound = bound_new(h, type, key, fallback);

	if (!bound)
		return NULL;
	lock(h);
	catch_up(h);
	bound_update(bound, view_of(h));
	bound->next = h->bounds;
	h->bounds = bound;
	unlock(h);
	return bound;
}

/* --- changes ----------------------------------------------------------------------------- */

int handle_fd(struct ccfg *h)
{
	int r = 0;

	lock(h);
	if (h->events.epoll_fd < 0) {
		r = events_open(&h->events);
		if (r == 0 && !h->is_busy && !h->is_fixed)
			set_events(h);
	}
	r = r < 0 ? r : h->events.epoll_fd;
	unlock(h);
	return r;
}

/* With the lock. */
static void take_arrived(struct ccfg *h)
{
	struct follow *f = &h->follow;
	int r = 0;

	if (h->is_busy || h->is_fixed)
		return;
	begin_work(h);
	ask(h);
	for (int i = 0; i < STEPS_AT_ONCE && r != -ETIMEDOUT && r != -EINTR; i++) {
		if (!link_is_up(&f->link) && clock_now_usec() < f->reconnecting.retry_at)
			break;
		r = step(h, CLOCK_NO_WAIT);
	}
	end_work(h);
}

/* Without the lock, which the program's functions may need. */
static unsigned tell(struct ccfg *h, struct ccfg_watch *watch, struct ccfg_view *view)
{
	struct ccfg_view *before = watch->view;
	unsigned n = 0;

	if (before == view)
		return 0;
	watch->view = view_ref(view);
	unlock(h);
	n = watch_tell(watch, before, view);
	view_unref(before);
	lock(h);
	return n;
}

int handle_dispatch(struct ccfg *h)
{
	struct ccfg_view *view;
	unsigned n = 0;

	lock(h);
	take_arrived(h);
	if (h->is_dispatching) { /* another thread, or who called one of the functions */
		unlock(h);
		return 0;
	}
	h->is_dispatching = true;
	events_set_news(&h->events, false);
	view = view_ref(view_of(h));
	for (struct ccfg_watch *watch = h->watches.first; watch; watch = watch->next)
		if (!watch->is_closed)
			n += tell(h, watch, view);
	h->is_dispatching = false;
	watches_sweep(&h->watches);
	unlock(h);
	view_unref(view);
	return (int)MIN(n, (unsigned)INT_MAX);
}

int handle_watch(struct ccfg *h, const char *prefix, ccfg_change_fn *fn, void *userdata,
	struct ccfg_watch **ret_watch)
{
	struct ccfg_watch *watch, **at;

	lock(h);
	watch = watch_new(h, view_of(h), prefix, fn, userdata);
	if (watch) {
		for (at = &h->watches.first; *at; at = &(*at)->next)
			;
		*at = watch; /* in the order they came */
	}
	unlock(h);
	if (!watch)
		return -ENOMEM;
	*ret_watch = watch;
	return 0;
}

void handle_unwatch(struct ccfg_watch *watch)
{
	struct ccfg *h = watch->handle;

	lock(h);
	watch->is_closed = true;
	if (!h->is_dispatching)
		watches_sweep(&h->watches);
	unlock(h);
}

/* --- life -------------------------------------------------------------------------------- */

static int handle_init(struct ccfg *h, struct ccfg_view *view)
{
	hazard_set_up();
	atomic_init(&h->epoch, fork_epoch());
	atomic_init(&h->view, view);
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
	lock(h);
	unlock(h);
	follow_done(&h->follow);
	events_close(&h->events);
	watches_done(&h->watches);
	bound_free_all(h->bounds);
	while (h->retired) {
		struct ccfg_view *view = h->retired;

		h->retired = view->next_retired;
		view_unref(view);
	}
	view_unref(view_of(h));
	pthread_cond_destroy(&h->changed);
	pthread_mutex_destroy(&h->lock);
	free(h);
	return NULL;
}
