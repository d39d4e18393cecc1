#include "client/lib/follow.h"

#define FAILED_FETCHES 2 /* a daemon that is restarted ends one */

static void forget_requests(struct follow *f)
{
	f->open_tag = f->list_tag = f->watch_tag = 0;
	f->fetch_tag = f->wait_tag = f->genfile_tag = 0;
	f->is_settled = f->has_map = false;
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
	f->slot = NULL;
	f->map = genmap_free(f->map);
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
	f->n_failed_fetches = 0;
	backoff_reset(&f->reconnecting);
}

/* --- requests ---------------------------------------------------------------------------- */

/* Once at a time: a second answer would bring a descriptor that nobody takes. */
static int ask(struct follow *f, enum wire_op op, uint32_t timeout_ms, uint32_t *tag)
{
	const struct wire_request request = {
		.timeout_ms = timeout_ms,
		.generation = f->generation,
		.service = f->service,
		.service_len = strlen(f->service),
	};

	return *tag != 0 ? 0 : link_send(&f->link, op, &request, tag);
}

static int ask_open(struct follow *f)
{
	return ask(f, WIRE_OPEN, WIRE_FOREVER, &f->open_tag);
}

static int ask_list(struct follow *f)
{
	if (f->list_tag != 0)
		return 0;
	return pages_ask(&f->pages, &f->link, f->service, "", &f->list_tag);
}

static int ask_watch(struct follow *f)
{
	return ask(f, WIRE_WATCH, WIRE_FOREVER, &f->watch_tag);
}

static int ask_fetch(struct follow *f)
{
	return ask(f, WIRE_FETCH, 0, &f->fetch_tag);
}

static int ask_waiting_fetch(struct follow *f)
{
	return ask(f, WIRE_FETCH, WIRE_FOREVER, &f->wait_tag);
}

static int ask_genfile(struct follow *f)
{
	return ask(f, WIRE_GENFILE, 0, &f->genfile_tag);
}

/* The data is asked for in the same breath. */
static int begin(struct follow *f)
{
	int r;

	if (f->is_over_socket) {
		r = ask_open(f);
		if (r == 0 && f->generation == 0)
			r = ask_list(f);
		return r;
	}
	r = ask_genfile(f);
	return r < 0 ? r : ask_fetch(f);
}

/* Descriptors of this daemon are of no use, here or to it. */
static int go_on_over_socket(struct follow *f)
{
	if (f->is_over_socket)
		return 0;
	f->is_over_socket = true;
	f->slot = NULL;
	return begin(f);
}

static int connect_link(struct follow *f)
{
	int r;

	forget_requests(f);
	pages_done(&f->pages);
	/* Descriptors may be what kills the connection. */
	f->is_over_socket = f->n_failed_fetches >= FAILED_FETCHES;
	r = link_connect(&f->link);
	return r < 0 ? r : begin(f);
}

/* --- replies ----------------------------------------------------------------------------- */

/* The link works again, and with data. */
static int settle(struct follow *f)
{
	f->error = 0;
	f->is_settled = true;
	backoff_reset(&f->reconnecting);
	link_trim(&f->link);
	/* Without a slot only the link tells of a change. */
	return f->wants_notice || !f->slot ? ask_watch(f) : 0;
}

static void give(struct follow *f, struct ccfg_view *view)
{
	view_unref(f->news);
	f->news = view;
	f->generation = view->generation;
}

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
	struct ccfg_view *view;
	int r;

	if (reply->status == WIRE_NO_DATA) {
		pages_done(&f->pages);
		return ask_open(f);
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
	if (r > 0)
		return ask_list(f);
	r = view_new(&f->pages.records, f->pages.digest, f->pages.generation, &view);
	pages_done(&f->pages);
	if (r < 0)
		return r;
	give(f, view);
	return settle(f);
}

static int on_watch(struct follow *f, const struct link_reply *reply)
{
	int r;

	if (reply->status == WIRE_NO_DATA || reply->status == WIRE_CLOSED)
		return f->is_over_socket ? ask_open(f) : ask_waiting_fetch(f);
	r = take_info(f, reply);
	if (r < 0)
		return r;
	if (le64_get(f->info.generation) == f->generation)
		return ask_watch(f);
	return f->is_over_socket ? ask_list(f) : ask_fetch(f);
}

/* What a slot's change was when the daemon answered: another one since means something newer. */
static int take_slot(struct follow *f, const struct wire_fetch *fetch)
{
	uint32_t slot = le32_get(fetch->slot);

	f->slot = f->has_map ? genmap_slot(f->map, slot) : NULL;
	f->change = le64_get(fetch->change);
	if (!f->slot && slot != GENFILE_NO_SLOT && f->has_map)
		return ask_genfile(f); /* the file has grown */
	return 0;
}

/* 0; -ENOTSUP: this image, or any, cannot be mapped here. */
static int take_snapshot(struct follow *f, uint64_t generation)
{
	AUTO_CLOSE int fd = link_take_fd(&f->link);
	struct ccfg_view *view;
	int r;

	if (fd == -EMFILE)
		return -ENOTSUP;
	if (fd < 0)
		return fd;
	/* Two answers may bring the same one. */
	if (generation == f->generation)
		return 0;
	r = view_map(fd, generation, &view);
	if (r == -EBADMSG || r == -ENOMEM)
		return r;
	if (r < 0)
		return -ENOTSUP;
	give(f, view);
	return 0;
}

static int on_fetch(struct follow *f, const struct link_reply *reply)
{
	struct wire_fetch fetch = { 0 };
	int r;

	if (reply->status == WIRE_UNSUPPORTED)
		return go_on_over_socket(f);
	if (reply->status == WIRE_NO_DATA || reply->status == WIRE_CLOSED)
		return ask_waiting_fetch(f);
	r = take_info(f, reply);
	if (r == 0)
		r = link_reply_head(reply, &fetch, sizeof(fetch));
	if (r < 0)
		return r;
	if (reply->status == WIRE_OK) {
		if (le64_get(fetch.info.generation) == 0)
			return -EBADMSG;
		r = take_snapshot(f, le64_get(fetch.info.generation));
		if (r == -ENOTSUP)
			return go_on_over_socket(f);
		if (r < 0)
			return r;
	}
	f->n_failed_fetches = 0;
	r = take_slot(f, &fetch);
	return r < 0 ? r : settle(f);
}

/* A daemon without the file, or a process that cannot map it: the link tells of changes. */
static int on_genfile(struct follow *f, const struct link_reply *reply)
{
	AUTO_CLOSE int fd = -1;
	struct genmap *map;
	int r;

	if (reply->status != WIRE_OK)
		return 0;
	fd = link_take_fd(&f->link);
	if (fd < 0)
		return fd == -EMFILE ? 0 : fd;
	r = genmap_new(fd, f->map, &map);
	if (r < 0)
		return 0;
	f->has_map = true;
	if (map == f->map)
		return 0;
	f->map = map;
	/* Which slot it is comes with the next answer to FETCH. */
	return f->is_settled ? ask_fetch(f) : 0;
}

static int take_reply(struct follow *f, const struct link_reply *reply)
{
	const struct {
		uint32_t *tag;
		int (*fn)(struct follow *f, const struct link_reply *reply);
	} handlers[] = {
		{ &f->fetch_tag, on_fetch },
		{ &f->wait_tag, on_fetch },
		{ &f->genfile_tag, on_genfile },
		{ &f->open_tag, on_open },
		{ &f->list_tag, on_list },
		{ &f->watch_tag, on_watch },
	};

	for (size_t i = 0; i < ARRAY_SIZE(handlers); i++) {
		if (*handlers[i].tag == 0 || *handlers[i].tag != reply->tag)
			continue;
		*handlers[i].tag = 0;
		return handlers[i].fn(f, reply);
	}
	return 0;
}

/* --- steps ------------------------------------------------------------------------------- */

/* One that waits for data has brought no descriptor yet: that daemon was restarted. */
static void count_failed_fetch(struct follow *f, int error)
{
	if (f->is_settled)
		/* The daemon behind the next connection may be another one: that is tried once. */
		f->n_failed_fetches = MIN(f->n_failed_fetches, FAILED_FETCHES - 1);
	else if (f->fetch_tag != 0 && error == -ECONNRESET)
		f->n_failed_fetches += link_is_greeted(&f->link);
	else if (link_is_greeted(&f->link))
		f->n_failed_fetches = 0;
}

static void fail(struct follow *f, int error)
{
	/* A daemon that was restarted, a descriptor that was closed: connect at once. */
	bool was_cut = f->is_settled && (error == -ECONNRESET || error == -ENOTCONN);

	count_failed_fetch(f, error);
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

/* A request that is lost for want of memory is asked for again by the next read. */
void follow_ask(struct follow *f)
{
	if (!f->is_settled || f->is_over_socket)
		return;
	if (f->slot && atomic_load(&f->slot->change) != f->change)
		(void)ask_fetch(f);
}

void follow_ask_to_wait(struct follow *f)
{
	if (f->is_settled && !f->is_over_socket)
		(void)ask_waiting_fetch(f);
}

void follow_want_notice(struct follow *f)
{
	f->wants_notice = true;
	if (f->is_settled)
		(void)ask_watch(f);
}

bool follow_is_owed(const struct follow *f)
{
	return !link_is_greeted(&f->link) || f->list_tag != 0 || f->fetch_tag != 0;
}

bool follow_has_work(struct follow *f)
{
	if (!link_is_up(&f->link))
		return clock_now_usec() >= f->reconnecting.retry_at;
	if (f->slot && atomic_load(&f->slot->change) != f->change)
		return true;
	return link_has_input(&f->link);
}
