#include "daemon/pending.h"

static void pending_free(struct pending *pending)
{
	struct session *session = pending->opened->session;

	list_unlink(&pending->link);
	session->n_pendings--;
	opened_remove_pending(pending->opened);
	free(pending);
}

static void bring(const struct reply *reply, struct service *service)
{
	if (reply->op == WIRE_FETCH)
		reply_snapshot(reply, service);
	else
		reply_info(reply, service);
}

/* Whether it could be answered now. */
static bool answer_one(struct pending *pending, uint64_t now)
{
	struct opened *opened = pending->opened;
	struct service *service = opened->service;
	struct reply reply = { opened->session, pending->op, pending->tag };

	if (!opened_may_read(opened))
		reply_denied(&reply, service_shown_name(service), opened->name_len);
	else if (service_has_news_for(service, pending->generation))
		bring(&reply, service);
	else if (pending->expires_at > now)
		return false;
	else if (service->snapshot)
		reply_keep(&reply, service);
	else
		reply_no_data(&reply, service);
	return true;
}

static void on_timer(void *userdata)
{
	session_wake(userdata);
}

/* For the earliest that expires; the timer goes with the last one. */
static int set_timer(struct session *session, uint64_t now)
{
	uint64_t at = PENDING_FOREVER;
	int r;

	LIST_FOREACH (node, &session->pendings)
		at = MIN(at, LIST_ENTRY(node, struct pending, link)->expires_at);
	if (at == PENDING_FOREVER) {
		session->pending_timer = loop_timer_free(session->pending_timer);
		return 0;
	}
	if (!session->pending_timer) {
		r = loop_timer_new(
			session->server->loop, on_timer, session, &session->pending_timer);
		if (r < 0)
			return r;
	}
	return loop_timer_arm(session->pending_timer, at > now ? at - now : 0);
}

int pending_new(
	const struct reply *reply, struct opened *opened, uint64_t generation, uint64_t expires_at)
{
	struct session *session = reply->session;
	struct pending *pending;
	int r;

	if (session->n_pendings >= LIMIT_PENDING_REQUESTS)
		return -ENOBUFS;
	pending = calloc(1, sizeof(*pending));
	if (!pending)
		return -ENOMEM;
	pending->opened = opened;
	pending->generation = generation;
	pending->expires_at = expires_at;
	pending->tag = reply->tag;
	pending->op = reply->op;
	list_append(&session->pendings, &pending->link);
	session->n_pendings++;
	opened_add_pending(opened);
	if (expires_at == PENDING_FOREVER)
		return 0;
	r = set_timer(session, loop_now());
	if (r < 0)
		pending_free(pending);
	return r;
}

void pending_answer(struct session *session)
{
	struct list *node = session->pendings.next;
	uint64_t now = loop_now();

	while (node != &session->pendings) {
		struct pending *pending = LIST_ENTRY(node, struct pending, link);

		if (!session_is_ready(session))
			return;
		node = node->next;
		if (answer_one(pending, now))
			pending_free(pending);
	}
	session->is_woken = false;
	if (session->pending_timer)
		(void)set_timer(session, now);
}

void pending_close(struct opened *opened)
{
	struct session *session = opened->session;
	struct list *node = session->pendings.next;

	while (opened->n_pending > 0) {
		struct pending *pending = LIST_ENTRY(node, struct pending, link);
		struct reply reply = { session, pending->op, pending->tag };

		node = node->next;
		if (pending->opened != opened)
			continue;
		reply_text(
			&reply, WIRE_CLOSED, "%s was closed", service_shown_name(opened->service));
		pending_free(pending);
	}
}

void pending_drop(struct session *session)
{
	while (!list_is_empty(&session->pendings))
		pending_free(LIST_ENTRY(session->pendings.next, struct pending, link));
	session->pending_timer = loop_timer_free(session->pending_timer);
}
