#include "client/lib/handle-info.h"

#include "client/lib/handle-work.h"
#include "proto/limits.h"

int handle_ask_on(struct link *link, enum wire_op op, const struct wire_request *request,
	uint64_t deadline, struct link_reply *ret_reply)
{
	uint32_t tag;
	int r;

	r = link_connect(link);
	if (r == 0)
		r = link_send(link, op, request, &tag);
	if (r != 0)
		return r;
	do {
		r = link_receive(link, deadline, ret_reply);
		if (r == 0 && ret_reply->tag == tag)
			break;
		/* Of replies that nobody asked for there may be no end. */
		if (r == 0 && clock_now_usec() >= deadline)
			r = -ETIMEDOUT;
	} while (r == 0 || r == -EINTR);
	return r == 0 ? link_status_error(ret_reply->status) : r;
}

static int open_on(
	struct link *link, const char *service, uint64_t deadline, struct wire_info *ret_info)
{
	const struct wire_request request = { .service = service, .service_len = strlen(service) };
	struct link_reply reply;
	int r;

	r = handle_ask_on(link, WIRE_OPEN, &request, deadline, &reply);
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
		handle_take_info(h, info);
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
	if (handle_newest(h)->generation == 0)
		return CCFG_LOADING;
	if (h->is_backup)
		return CCFG_BACKUP;
	/* A new daemon that has nothing yet: what is held is a copy in memory. */
	if (h->asking_error < 0 || h->state == WIRE_LOADING || h->state > WIRE_FROZEN)
		return CCFG_STALE;
	return (enum ccfg_state)h->state;
}

/* With the lock. What the daemon shows in memory, as long as we hold what it shows. */
static bool take_shown(struct ccfg *h)
{
	const struct follow *f = &h->follow;
	const struct genfile_slot *slot;

	if (h->is_busy || !f->slot || !link_is_up(&f->link) || !f->is_settled)
		return false;
	slot = f->slot;
	/* With something newer untaken it may be another service's by now. */
	if (!h->is_manual && atomic_load(&slot->change) != f->change)
		return false;
	/* A backup from before the host started has an age that does not fit there. */
	if (atomic_load_explicit(&slot->confirmed_at, memory_order_relaxed) == 0)
		return false;
	h->is_backup = false;
	h->state = genmap_is_alive(f->map, clock_boottime_usec() * NSEC_PER_USEC)
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
	uint64_t age = clock_boottime_usec() - h->confirmed_at;

	if (h->confirmed_at == 0)
		return UINT64_MAX;
	return age <= INT64_MAX ? age : 0;
}

void handle_ask(struct ccfg *h, struct handle_info *ret_info)
{
	uint64_t deadline = clock_after_usec(LIMIT_READ_USEC);
	struct wire_info info = { 0 };
	bool is_known;
	int r;

	handle_lock(h);
	handle_catch_up_locked(h);
	is_known = h->is_fixed || take_shown(h);
	if (!is_known && h->is_manual) {
		if (!h->is_busy)
			h->asking_error = h->follow.error < 0 ? h->follow.error : -ENOTCONN;
	} else if (!is_known && clock_now_usec() >= h->asking.retry_at) {
		handle_unlock(h);
		r = ask_daemon(h, deadline, &info);
		handle_lock(h);
		take_answer(h, r, &info);
	}
	*ret_info = (struct handle_info){
		.view = view_ref(handle_newest(h)),
		.state = judge(h),
		.error = h->asking_error,
		.age_usec = age_of(h),
		.index = h->index,
		.n_unparsable = count_unparsable(h),
	};
	handle_unlock(h);
}
