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

static void forget_requests(struct ccfg *h)
{
	h->open_tag = h->list_tag = h->watch_tag = 0;
	h->is_settled = false;
}

/*
 * In the child of a fork: a lock that a thread of the parent held is never released, and what that
 * thread was changing may be half changed. Then it is left alone, at the price of its memory.
 */
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
	if (pthread_mutex_trylock(&h->lock) == 0 && !h->is_busy) {
		link_close(&h->link);
		pages_done(&h->pages);
	} else {
		link_abandon(&h->link);
		h->pages = (struct pages){ 0 };
	}
	forget_requests(h);
	h->is_busy = false;
	backoff_reset(&h->reconnecting);
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

/* From the lock to the link and back. */
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

/* --- one step of the link ---------------------------------------------------------------- */

static int ask_open(struct ccfg *h)
{
	const struct wire_request request = {
		.timeout_ms = WIRE_FOREVER,
		.service = h->service,
		.service_len = strlen(h->service),
	};

	return link_send(&h->link, WIRE_OPEN, &request, &h->open_tag);
}

static int ask_list(struct ccfg *h)
{
	return pages_ask(&h->pages, &h->link, h->service, "", &h->list_tag);
}

static int ask_watch(struct ccfg *h)
{
	const struct wire_request request = {
		.generation = h->view->generation,
		.service = h->service,
		.service_len = strlen(h->service),
	};

	return link_send(&h->link, WIRE_WATCH, &request, &h->watch_tag);
}

static int connect_link(struct ccfg *h)
{
	int r;

	forget_requests(h);
	pages_done(&h->pages);
	r = link_connect(&h->link);
	if (r < 0)
		return r;
	r = ask_open(h);
	/* The first time the data is asked for in the same breath. */
	if (r == 0 && h->view->generation == 0)
		r = ask_list(h);
	return r;
}

static void take_info(struct ccfg *h, const struct wire_info *info)
{
	uint64_t now = boottime_usec(), age = le64_get(info->age_usec);

	lock(h);
	h->state = le32_get(info->state);
	h->confirmed_at = age < now ? now - age : 0;
	unlock(h);
}

/* The link works again, and with data. */
static int settle(struct ccfg *h)
{
	h->error = 0;
	h->is_settled = true;
	backoff_reset(&h->reconnecting);
	backoff_reset(&h->waiting);
	link_trim(&h->link);
	return ask_watch(h);
}

static int publish(struct ccfg *h)
{
	struct ccfg_view *view, *old;
	int r;

	r = view_new(&h->pages.records, h->pages.digest, h->pages.generation, &view);
	pages_done(&h->pages);
	if (r < 0)
		return r;
	lock(h);
	old = h->view;
	h->view = view;
	unlock(h);
	view_unref(old);
	return settle(h);
}

static int on_open(struct ccfg *h, const struct link_reply *reply)
{
	struct wire_info info;
	int r;

	r = link_status_error(reply->status);
	if (r == 0)
		r = link_reply_head(reply, &info, sizeof(info));
	if (r < 0)
		return r;
	take_info(h, &info);
	if (h->list_tag != 0)
		return 0;
	return le64_get(info.generation) == h->view->generation ? settle(h) : ask_list(h);
}

static int on_list(struct ccfg *h, const struct link_reply *reply)
{
	int r;

	if (reply->status == WIRE_NO_DATA) {
		pages_done(&h->pages);
		return h->open_tag != 0 ? 0 : ask_open(h);
	}
	if (reply->status == WIRE_CHANGED) {
		pages_done(&h->pages);
		return ask_list(h);
	}
	r = link_status_error(reply->status);
	if (r == 0)
		r = pages_add(&h->pages, reply);
	if (r < 0)
		return r;
	return r > 0 ? ask_list(h) : publish(h);
}

static int on_watch(struct ccfg *h, const struct link_reply *reply)
{
	struct wire_info info;
	int r;

	if (reply->status == WIRE_NO_DATA || reply->status == WIRE_CLOSED)
		return ask_open(h);
	r = link_status_error(reply->status);
	if (r == 0)
		r = link_reply_head(reply, &info, sizeof(info));
	if (r < 0)
		return r;
	take_info(h, &info);
	return le64_get(info.generation) == h->view->generation ? ask_watch(h) : ask_list(h);
}

static int take_reply(struct ccfg *h, const struct link_reply *reply)
{
	uint32_t *tags[] = { &h->open_tag, &h->list_tag, &h->watch_tag };
	int (*const handlers[])(
		struct ccfg * h, const struct link_reply *reply) = { on_open, on_list, on_watch };

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
		if (*tags[i] == 0 || *tags[i] != reply->tag)
			continue;
		*tags[i] = 0;
		return handlers[i](h, reply);
	}
	return 0;
}

static void fail(struct ccfg *h, int error)
{
	bool was_cut = h->is_settled && (error == -ECONNRESET || error == -ENOTCONN);

	link_close(&h->link);
	forget_requests(h);
	pages_done(&h->pages);
	h->error = error;
	/* A daemon that was restarted, a descriptor that was closed: connect at once. */
	if (!was_cut)
		backoff_fail(&h->reconnecting, clock_now_usec());
}

/*
 * One reply, after connecting where needed: 0, -ETIMEDOUT, -EINTR; any other error: the link is
 * down.
 */
static int step(struct ccfg *h, uint64_t deadline)
{
	struct link_reply reply;
	int r = 0;

	if (!link_is_up(&h->link))
		r = connect_link(h);
	if (r == 0)
		r = link_receive(&h->link, deadline, &reply);
	if (r == 0)
		r = take_reply(h, &reply);
	if (r == 0)
		r = link_flush(&h->link);
	if (r < 0 && r != -ETIMEDOUT && r != -EINTR)
		fail(h, r);
	return r;
}

/* --- reads ------------------------------------------------------------------------------- */

/* Whether a reply is due that a daemon in good health gives at once. */
static bool is_owed(const struct ccfg *h)
{
	return !link_is_greeted(&h->link) || h->list_tag != 0;
}

static bool is_due(struct ccfg *h)
{
	if (!link_is_up(&h->link))
		return clock_now_usec() >= h->reconnecting.retry_at;
	if (is_owed(h) && clock_now_usec() >= h->waiting.retry_at)
		return true;
	return link_has_input(&h->link);
}

static void refresh(struct ccfg *h)
{
	uint64_t now = clock_now_usec(), deadline = now + READ_USEC;
	bool may_wait = now >= h->waiting.retry_at;
	int r;

	do {
		if (!link_is_up(&h->link) && now < h->reconnecting.retry_at)
			return;
		r = step(h, may_wait && is_owed(h) ? deadline : CLOCK_NO_WAIT);
		now = clock_now_usec();
	} while (r != -ETIMEDOUT && now < deadline);
	if (is_owed(h) && may_wait)
		backoff_fail(&h->waiting, now);
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
	if (!link_is_up(&h->link) && clock_now_usec() < h->reconnecting.retry_at)
		return sleep_until(MIN(h->reconnecting.retry_at, deadline));
	return step(h, deadline);
}

/* Until the thread that works at the link has something, or stops. */
static int wait_for_others(struct ccfg *h, uint64_t deadline)
{
	const struct timespec end = {
		.tv_sec = (time_t)(deadline / USEC_PER_SEC),
		.tv_nsec = (long)(deadline % USEC_PER_SEC * NSEC_PER_USEC),
	};

	if (deadline == CLOCK_FOREVER)
		return -pthread_cond_wait(&h->changed, &h->lock);
	return -pthread_cond_timedwait(&h->changed, &h->lock, &end);
}

int handle_wait(struct ccfg *h, uint64_t after_generation, uint64_t deadline)
{
	int r = 0;

	lock(h);
	catch_up(h);
	while (h->view->generation == after_generation) {
		if (r == -EINTR || clock_now_usec() >= deadline)
			break;
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
			return link_is_up(&h->link) ? -ETIMEDOUT : h->error;
	}
	return 0;
}

int handle_open_now(struct ccfg *h)
{
	refresh(h);
	return is_refusal(h->error) ? h->error : 0;
}

/* --- life, and how good it is ------------------------------------------------------------ */

/* An OPEN on a connection of its own: the handle's may be waited on by another thread for hours. */
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
	while (r == 0) {
		r = link_receive(link, deadline, &reply);
		if (r == -EINTR)
			r = 0;
		else if (r == 0 && reply.tag == tag)
			break;
	}
	if (r == 0)
		r = link_status_error(reply.status);
	if (r == 0)
		r = link_reply_head(&reply, ret_info, sizeof(*ret_info));
	return r;
}

static int ask(struct ccfg *h, uint64_t deadline)
{
	struct link link;
	struct wire_info info;
	int r;

	r = link_init(&link, link_path(&h->link));
	if (r < 0)
		return r;
	r = ask_on(&link, h->service, deadline, &info);
	link_done(&link);
	if (r == 0) {
		take_info(h, &info);
	} else if (r == -ENODATA) {
		lock(h);
		h->state = WIRE_LOADING;
		unlock(h);
		r = 0;
	}
	return r;
}

/* With the lock. */
static enum ccfg_state judge(const struct ccfg *h)
{
	if (h->view->generation == 0)
		return CCFG_LOADING;
	/* A new daemon that has nothing yet: what is held is a copy in memory. */
	if (h->info_error < 0 || h->state == WIRE_LOADING || h->state > WIRE_FROZEN)
		return CCFG_STALE;
	return (enum ccfg_state)h->state;
}

void handle_ask(struct ccfg *h, struct handle_info *ret_info)
{
	uint64_t deadline = clock_after_usec(READ_USEC), now;
	bool is_time;
	int r;

	lock(h);
	catch_up(h);
	is_time = clock_now_usec() >= h->asking.retry_at;
	unlock(h);
	if (is_time) {
		r = ask(h, deadline);
		lock(h);
		h->info_error = r;
		if (r < 0)
			backoff_fail(&h->asking, clock_now_usec());
		else
			backoff_reset(&h->asking);
		unlock(h);
	}
	lock(h);
	now = boottime_usec();
	ret_info->view = view_ref(h->view);
	ret_info->state = judge(h);
	ret_info->error = h->info_error;
	ret_info->age_usec = h->confirmed_at != 0 ? now - h->confirmed_at : UINT64_MAX;
	unlock(h);
}

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
	r = link_init(&h->link, socket_path);
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
	lock(h);
	unlock(h);
	link_done(&h->link);
	pages_done(&h->pages);
	view_unref(h->view);
	pthread_cond_destroy(&h->changed);
	pthread_mutex_destroy(&h->lock);
	free(h);
	return NULL;
}
