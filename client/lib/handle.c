#include "client/lib/handle.h"

#include <poll.h>
#include <sched.h>

#include "client/lib/fork.h"
#include "proto/key.h"

#define READ_USEC UINT64_C(20000) /* a read waits no longer for a daemon in whatever state */
#define TAKING (UINT64_C(1) << 63) /* in ccfg::epoch: a thread is taking the handle afresh */

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
	follow_restart(&h->follow, h->view->generation,
		pthread_mutex_trylock(&h->lock) == 0 && !h->is_busy);
	h->is_busy = false;
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
	pthread_cond_broadcast(&h->changed);
}

/* With the lock. */
static void take_info(struct ccfg *h, const struct wire_info *info)
{
	uint64_t now = boottime_usec(), age = le64_get(info->age_usec);

	h->state = le32_get(info->state);
	h->confirmed_at = age < now ? now - age : 0;
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
	if (f->news) {
		old = h->view;
		h->view = TAKE_PTR(f->news);
	}
	if (f->has_info)
		take_info(h, &f->info);
	f->has_info = false;
	unlock(h);
	view_unref(old);
	return r;
}

/* All that can be done in the time of a read. */
static void refresh(struct ccfg *h)
{
	uint64_t now = clock_now_usec(), deadline = now + READ_USEC;
	bool may_wait = now >= h->waiting.retry_at;
	int r;

	do {
		if (!link_is_up(&h->follow.link) && now < h->follow.reconnecting.retry_at)
			return;
		r = step(h, may_wait && follow_is_owed(&h->follow) ? deadline : CLOCK_NO_WAIT);
		now = clock_now_usec();
	} while (r != -ETIMEDOUT && now < deadline);
	if (!follow_is_owed(&h->follow))
		backoff_reset(&h->waiting);
	else if (may_wait)
		backoff_fail(&h->waiting, now);
}

static bool is_due(struct ccfg *h)
{
	if (link_is_up(&h->follow.link) && follow_is_owed(&h->follow) &&
		clock_now_usec() >= h->waiting.retry_at)
		return true;
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

struct ccfg_view *handle_view(struct ccfg *h)
{
	struct ccfg_view *view;

	lock(h);
	catch_up(h);
	view = view_ref(h->view);
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

int handle_wait(struct ccfg *h, uint64_t after_generation, uint64_t deadline)
{
	int r = 0;

	lock(h);
	catch_up(h);
	while (h->view->generation == after_generation && r != -EINTR &&
		clock_now_usec() < deadline) {
		if (h->is_busy) {
			wait_for_others(h, deadline);
			continue;
		}
		begin_work(h);
		r = patient_step(h, deadline);
		end_work(h);
	}
	if (h->view->generation != after_generation)
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
	while (h->view->generation == 0) {
		int r = patient_step(h, deadline);

		if (is_refusal(r))
			return r;
		if (h->view->generation == 0 && clock_now_usec() >= deadline)
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

static int ask_on(
	struct link *link, const char *service, uint64_t deadline, struct wire_info *ret_info)
{
	const struct wire_request request = { .service = service, .service_len = strlen(service) };
	struct link_reply reply;
	uint32_t tag;
	int r;

	r = link_connect(link);
	if (r == 0)
		r = link_send(link, WIRE_OPEN, &request, &tag);
	if (r < 0)
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
static int ask(struct ccfg *h, uint64_t deadline, struct wire_info *ret_info)
{
	struct link link;
	int r;

	r = link_init(&link, link_path(&h->follow.link));
	if (r == 0)
		r = ask_on(&link, h->service, deadline, ret_info);
	link_done(&link);
	return r;
}

/* With the lock; r is what ask() gave. */
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
static enum ccfg_state judge(const struct ccfg *h)
{
	if (h->view->generation == 0)
		return CCFG_LOADING;
	/* A new daemon that has nothing yet: what is held is a copy in memory. */
	if (h->asking_error < 0 || h->state == WIRE_LOADING || h->state > WIRE_FROZEN)
		return CCFG_STALE;
	return (enum ccfg_state)h->state;
}

void handle_ask(struct ccfg *h, struct handle_info *ret_info)
{
	uint64_t deadline = clock_after_usec(READ_USEC);
	struct wire_info info;
	int r;

	lock(h);
	catch_up(h);
	if (clock_now_usec() >= h->asking.retry_at) {
		unlock(h);
		r = ask(h, deadline, &info);
		lock(h);
		take_answer(h, r, &info);
	}
	ret_info->view = view_ref(h->view);
	ret_info->state = judge(h);
	ret_info->error = h->asking_error;
	ret_info->age_usec = h->confirmed_at != 0 ? boottime_usec() - h->confirmed_at : UINT64_MAX;
	unlock(h);
}

/* --- life -------------------------------------------------------------------------------- */

int handle_new(const char *service, const char *socket_path, struct ccfg **ret_handle)
{
	static const struct records none;
	size_t len = strlen(service);
	struct ccfg *h;
	int r;

	if (!key_is_service_name(service, len))
		return -EINVAL;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	memcpy(h->service, service, len);
	atomic_init(&h->epoch, fork_epoch());
	r = follow_init(&h->follow, h->service, socket_path);
	if (r == 0)
		r = view_new(&none, 0, 0, &h->view);
	if (r == 0)
		r = init_lock(h);
	if (r < 0) {
		view_unref(h->view);
		free(h);
		return r;
	}
	*ret_handle = h;
	return 0;
}

struct ccfg *handle_free(struct ccfg *h)
{
	if (!h)
		return NULL;
	/* In a child that never read, what is freed belongs to the parent's threads. */
	lock(h);
	unlock(h);
	follow_done(&h->follow);
	view_unref(h->view);
	pthread_cond_destroy(&h->changed);
	pthread_mutex_destroy(&h->lock);
	free(h);
	return NULL;
}
