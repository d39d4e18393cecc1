#include "client/tools/query.h"

#include <poll.h>

#include "client/tools/message.h"
#include "proto/key.h"
#include "proto/limits.h"

static bool is_absence(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -EAGAIN ||
	       error == -ECONNRESET;
}

static int connect_in_time(struct query *q)
{
	int r;

	while (is_absence(r = link_connect(&q->link)) && clock_now_usec() < q->deadline)
		poll(NULL, 0, MIN((unsigned)clock_left_ms(q->deadline), LIMIT_CONNECT_LOOK_MS));
	return r;
}

static uint32_t left_ms(const struct query *q)
{
	int left = clock_left_ms(q->deadline);

	return left < 0 ? WIRE_FOREVER : (uint32_t)left;
}

static int ask_open(struct query *q)
{
	const struct wire_request request = {
		.timeout_ms = left_ms(q),
		.service = q->service,
		.service_len = strlen(q->service),
	};

	return link_send(&q->link, WIRE_OPEN, &request, &q->open_tag);
}

static int attempt_once(
	struct query *q, int (*attempt)(struct query *query, void *userdata), void *userdata)
{
	int r;

	r = connect_in_time(q);
	if (r == 0 && q->service)
		r = ask_open(q);
	if (r == 0)
		r = attempt(q, userdata);
	return r;
}

int query_run(struct query *q, int (*attempt)(struct query *query, void *userdata), void *userdata)
{
	int r;

	q->deadline = clock_after_usec(q->timeout_usec);
	r = link_init(&q->link, q->context->socket_path);
	if (r < 0)
		return r;
	while ((r = attempt_once(q, attempt, userdata)) == -ECONNRESET &&
		clock_now_usec() < q->deadline)
		poll(NULL, 0, LIMIT_CONNECT_LOOK_MS);
	return r;
}

/* When silence is the daemon's fault: OPEN it answers in time, also where there is no data. */
static uint64_t answer_deadline(const struct query *q)
{
	uint64_t now = clock_now_usec();

	if (q->deadline == CLOCK_FOREVER)
		return CLOCK_FOREVER;
	if (q->open_tag != 0)
		return MAX(q->deadline, now) + LIMIT_ANSWER_USEC;
	return now + MAX(LIMIT_NEXT_ANSWER_USEC, q->patience_usec);
}

static void keep_words(struct query *q, const void *words, size_t len)
{
	key_escape(words, len, q->words, sizeof(q->words));
}

/* Any reply; *ret_reply is filled when one came. A refusal leaves the daemon's words. */
static int receive(struct query *q, uint64_t deadline, struct link_reply *ret_reply)
{
	int r;

	*ret_reply = (struct link_reply){ 0 };
	q->words[0] = '\0';
	do
		r = link_receive(&q->link, deadline, ret_reply);
	while (r == -EINTR);
	if (r < 0) {
		keep_words(q, q->link.refusal, strlen(q->link.refusal));
		return r == -ETIMEDOUT ? -EHOSTDOWN : r;
	}
	r = link_status_error(ret_reply->status);
	if (r < 0)
		keep_words(q, ret_reply->payload, ret_reply->len);
	return r;
}

/* Whether the reply was OPEN's, which is then taken. */
static bool take_open(struct query *q, const struct link_reply *reply, int *r)
{
	if (q->open_tag == 0 || reply->tag != q->open_tag)
		return false;
	q->open_tag = 0;
	if (*r == 0)
		*r = link_reply_head(reply, &q->info, sizeof(q->info));
	if (*r == -ENODATA)
		*r = -ETIMEDOUT;
	return true;
}

int query_receive(struct query *q, struct link_reply *ret_reply)
{
	uint64_t deadline = answer_deadline(q);

	for (;;) {
		int r = receive(q, deadline, ret_reply);

		if (!take_open(q, ret_reply, &r) || r < 0)
			return r;
	}
}

int query_wait_open(struct query *q)
{
	uint64_t deadline = answer_deadline(q);

	while (q->open_tag != 0) {
		struct link_reply reply;
		int r = receive(q, deadline, &reply);

		/* Requests that came too early are answered meanwhile. */
		if ((take_open(q, &reply, &r) || r != -ENODATA) && r < 0)
			return r;
	}
	return 0;
}

int query_fail(struct query *q, int error)
{
	const struct trouble trouble = {
		.error = error,
		.socket_path = link_path(&q->link),
		.service = q->service,
		.timeout_usec = q->timeout_usec,
		.words = link_is_up(&q->link) ? q->words : NULL,
	};
	int exit_code = message_trouble(q->context->name, &trouble);

	query_done(q);
	return exit_code;
}

void query_done(struct query *q)
{
	link_done(&q->link);
}
