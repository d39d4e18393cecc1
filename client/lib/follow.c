#include "client/lib/follow.h"

static void forget_requests(struct follow *f)
{
	f->open_tag = f->list_tag = f->watch_tag = 0;
	f->is_settled = false;
}

int follow_init(struct follow *f, const char *service, const char *socket_path)
{
	*f = (struct follow){ .service = service };
	return link_init(&f->link, socket_path);
}

void follow_done(struct follow *f)
{
	link_done(&f->link);
	pages_done(&f->pages);
	f->news = view_unref(f->news);
}

void follow_restart(struct follow *f, uint64_t generation, bool is_whole)
{
	if (is_whole) {
		link_close(&f->link);
		pages_done(&f->pages);
		view_unref(f->news);
	} else {
		link_abandon(&f->link);
		f->pages = (struct pages){ 0 };
	}
	forget_requests(f);
	f->generation = generation;
	f->news = NULL;
	f->has_info = false;
	backoff_reset(&f->reconnecting);
}

static int ask_open(struct follow *f)
{
	const struct wire_request request = {
		.timeout_ms = WIRE_FOREVER,
		.service = f->service,
		.service_len = strlen(f->service),
	};

	return link_send(&f->link, WIRE_OPEN, &request, &f->open_tag);
}

static int ask_list(struct follow *f)
{
	return pages_ask(&f->pages, &f->link, f->service, "", &f->list_tag);
}

static int ask_watch(struct follow *f)
{
	const struct wire_request request = {
		.generation = f->generation,
		.service = f->service,
		.service_len = strlen(f->service),
	};

	return link_send(&f->link, WIRE_WATCH, &request, &f->watch_tag);
}

static int connect_link(struct follow *f)
{
	int r;

	forget_requests(f);
	pages_done(&f->pages);
	r = link_connect(&f->link);
	if (r < 0)
		return r;
	r = ask_open(f);
	/* The first time the data is asked for in the same breath. */
	if (r == 0 && f->generation == 0)
		r = ask_list(f);
	return r;
}

/* From the reply to OPEN or WATCH. */
static int take_info(struct follow *f, const struct link_reply *reply)
{
	int r;

	r = link_status_error(reply->status);
	if (r == 0)
		r = link_reply_head(reply, &f->info, sizeof(f->info));
	if (r == 0)
		f->has_info = true;
	return r;
}

/* The link works again, and with data. */
static int settle(struct follow *f)
{
	f->error = 0;
	f->is_settled = true;
	backoff_reset(&f->reconnecting);
	link_trim(&f->link);
	return ask_watch(f);
}

static int publish(struct follow *f)
{
	struct ccfg_view *view;
	int r;

	r = view_new(&f->pages.records, f->pages.digest, f->pages.generation, &view);
	pages_done(&f->pages);
	if (r < 0)
		return r;
	view_unref(f->news);
	f->news = view;
	f->generation = view->generation;
	return settle(f);
}

static int on_open(struct follow *f, const struct link_reply *reply)
{
	int r;

	r = take_info(f, reply);
	if (r < 0)
		return r;
	if (f->list_tag != 0)
		return 0;
	return le64_get(f->info.generation) == f->generation ? settle(f) : ask_list(f);
}

static int on_list(struct follow *f, const struct link_reply *reply)
{
	int r;

	if (reply->status == WIRE_NO_DATA) {
		pages_done(&f->pages);
		return f->open_tag != 0 ? 0 : ask_open(f);
	}
	if (reply->status == WIRE_CHANGED) {
		pages_done(&f->pages);
		return ask_list(f);
	}
	r = link_status_error(reply->status);
	if (r == 0)
		r = pages_add(&f->pages, reply);
	if (r < 0)
		return r;
	return r > 0 ? ask_list(f) : publish(f);
}

static int on_watch(struct follow *f, const struct link_reply *reply)
{
	int r;

	if (reply->status == WIRE_NO_DATA || reply->status == WIRE_CLOSED)
		return ask_open(f);
	r = take_info(f, reply);
	if (r < 0)
		return r;
	return le64_get(f->info.generation) == f->generation ? ask_watch(f) : ask_list(f);
}

static int take_reply(struct follow *f, const struct link_reply *reply)
{
	uint32_t *tags[] = { &f->open_tag, &f->list_tag, &f->watch_tag };
	int (*const handlers[])(struct follow * f, const struct link_reply *reply) = {
		on_open,
		on_list,
		on_watch,
	};

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
		if (*tags[i] == 0 || *tags[i] != reply->tag)
			continue;
		*tags[i] = 0;
		return handlers[i](f, reply);
	}
	return 0;
}

static void fail(struct follow *f, int error)
{
	/* A daemon that was restarted, a descriptor that was closed: connect at once. */
	bool was_cut = f->is_settled && (error == -ECONNRESET || error == -ENOTCONN);

	link_close(&f->link);
	forget_requests(f);
	pages_done(&f->pages);
	f->error = error;
	if (!was_cut)
		backoff_fail(&f->reconnecting, clock_now_usec());
}

int follow_step(struct follow *f, uint64_t deadline)
{
	struct link_reply reply;
	int r = 0;

	if (!link_is_up(&f->link))
		r = connect_link(f);
	if (r == 0)
		r = link_receive(&f->link, deadline, &reply);
	if (r == 0)
		r = take_reply(f, &reply);
	if (r == 0)
		r = link_flush(&f->link);
	if (r < 0 && r != -ETIMEDOUT && r != -EINTR)
		fail(f, r);
	return r;
}

bool follow_is_owed(const struct follow *f)
{
	return !link_is_greeted(&f->link) || f->list_tag != 0;
}

bool follow_has_work(struct follow *f)
{
	if (!link_is_up(&f->link))
		return clock_now_usec() >= f->reconnecting.retry_at;
	return link_has_input(&f->link);
}
