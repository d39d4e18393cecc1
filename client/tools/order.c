#include "client/tools/order.h"

#include <poll.h>
#include <stdio.h>

#include "client/tools/json.h"
#include "client/tools/message.h"
#include "proto/key.h"
#include "proto/limits.h"
#include "proto/value.h"

int order_option(struct args *args, int code, const char *argument, struct wire_request *request)
{
	if (code == ORDER_FOR &&
		(value_duration_us(argument, strlen(argument), &request->duration_usec) < 0 ||
			request->duration_usec == 0))
		return verb_usage(args->context, "--for %.40s is no duration", argument);
	if (code != ORDER_REASON)
		return 0;
	request->reason = argument;
	request->reason_len = strlen(argument);
	if (request->reason_len > LIMIT_PIN_REASON)
		return verb_usage(args->context, "a reason has at most %d bytes", LIMIT_PIN_REASON);
	return 0;
}

int order_service(struct args *args, const char *service, struct wire_request *request)
{
	request->service = service;
	request->service_len = strlen(service);
	if (!key_is_service_name(service, request->service_len))
		return verb_bad_service(args->context, service);
	return 0;
}

enum outcome { OUTCOME_NOTHING = 1, OUTCOME_WITHHELD };

struct order {
	struct wire_request request;
	bool is_taken; /* the daemon has answered it */
	char why[256]; /* it is withheld */
};

static int ask(struct query *query, enum wire_op op, const struct wire_request *request,
	struct link_reply *ret_reply)
{
	uint32_t tag;
	int r = link_send(&query->link, op, request, &tag);

	return r == 0 ? query_receive(query, ret_reply) : r;
}

/* --- what becomes of an override ---------------------------------------------------------- */

static void on_member(void *userdata, size_t item, const char *path, const char *text, size_t len)
{
	struct order *order = userdata;

	(void)item;
	if (std_streq(path, "held.reason") && text)
		snprintf(order->why, sizeof(order->why), "%.*s", (int)len, text);
}

/* The daemon has made it fit for a terminal. */
static int ask_why(struct query *query, struct order *order)
{
	const struct wire_request request = {
		.what = WIRE_STATUS_SERVICE,
		.key = order->request.service,
		.key_len = order->request.service_len,
	};
	struct link_reply reply;
	uint8_t head[2]; /* more, length of the last name */
	int r = ask(query, WIRE_STATUS, &request, &reply);

	if (r == 0)
		r = link_reply_head(&reply, head, sizeof(head));
	if (r == 0 && reply.len - sizeof(head) < head[1])
		r = -EBADMSG;
	if (r == 0)
		r = json_walk((const char *)reply.payload + sizeof(head) + head[1],
			reply.len - sizeof(head) - head[1], on_member, order);
	return r < 0 ? r : OUTCOME_WITHHELD;
}

/* Until clients have it, or do not get it. An operator who may not read the service is not told. */
static int wait_outcome(struct query *query, struct order *order)
{
	const struct wire_request request = {
		.service = order->request.service,
		.service_len = order->request.service_len,
		.key = order->request.key_len > 0 ? order->request.key : "*",
		.key_len = MAX(order->request.key_len, (size_t)1),
	};
	uint64_t end = clock_after_usec(DEFAULT_QUERY_USEC);
	struct wire_explain head = { 0 };
	struct link_reply reply;
	int r;

	for (;;) {
		r = ask(query, WIRE_EXPLAIN, &request, &reply);
		if (r == 0)
			r = link_reply_head(&reply, &head, sizeof(head));
		if (r < 0)
			return r == -EACCES || r == -ENOENT ? 0 : r;
		if (!(le32_get(head.flags) & WIRE_EXPLAIN_UNDER_WAY) || clock_now_usec() >= end)
			break;
		poll(NULL, 0, LIMIT_OUTCOME_LOOK_MS);
	}
	return le32_get(head.flags) & WIRE_EXPLAIN_WITHHELD ? ask_why(query, order) : 0;
}

/* --- giving it ---------------------------------------------------------------------------- */

static bool has_no_answer(int error)
{
	return error == -ECONNRESET || error == -EHOSTDOWN;
}

/* Once: "previous" is another generation the second time, and a later order of somebody else is not
 * to be undone. */
static int give(struct query *query, struct order *order)
{
	const struct wire_request about = { .what = WIRE_STATUS_DAEMON };
	struct link_reply reply;
	int r;

	/* That there is a daemon at the other end, which may well go away before this. */
	r = ask(query, WIRE_STATUS, &about, &reply);
	if (r < 0)
		return r;
	r = ask(query, WIRE_PIN, &order->request, &reply);
	order->is_taken = !has_no_answer(r);
	return order->is_taken ? r : -EINPROGRESS;
}

static int attempt(struct query *query, void *userdata)
{
	struct order *order = userdata;
	bool is_override =
		order->request.what == WIRE_PIN_OVERRIDE || order->request.what == WIRE_PIN_CLEAR;
	int r = order->is_taken ? 0 : give(query, order);

	if (r == -ENOENT)
		return OUTCOME_NOTHING;
	return r == 0 && is_override ? wait_outcome(query, order) : r;
}

int order_send(struct context *context, const struct wire_request *request, const char *nothing)
{
	struct order order = { .request = *request };
	struct query query = {
		.context = context,
		.timeout_usec = DEFAULT_QUERY_USEC,
		.patience_usec = LIMIT_ORDER_USEC + DEFAULT_QUERY_USEC,
	};
	int r = query_run(&query, attempt, &order);

	if (r == -EINPROGRESS) {
		query_done(&query);
		return message_fail(context->name, EXIT_AWAY,
			"%s: the daemon was told and went away before it answered: see "
			"consulcfg-status and consulcfg-history before you tell it again",
			request->service);
	}
	if (r < 0)
		return query_fail(&query, r);
	query_done(&query);
	if (r == OUTCOME_WITHHELD)
		return message_fail(context->name, EXIT_OTHER,
			"%s: the order stands, but what it makes is withheld: %s; clients keep the last "
			"good: give another value, --clear it, or correct the schema",
			request->service, order.why);
	if (r == OUTCOME_NOTHING)
		return message_fail(
			context->name, EXIT_NOTHING, "%s: %s", request->service, nothing);
	return EXIT_DONE;
}
