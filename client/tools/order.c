#include "client/tools/order.h"

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

static int attempt(struct query *query, void *userdata)
{
	const struct wire_request *request = userdata;
	struct link_reply reply;
	uint32_t tag;
	int r = link_send(&query->link, WIRE_PIN, request, &tag);

	if (r == 0)
		r = query_receive(query, &reply);
	return r == -ENOENT ? 1 : r;
}

int order_send(struct context *context, const struct wire_request *request, const char *nothing)
{
	struct wire_request copy = *request;
	struct query query = {
		.context = context,
		.timeout_usec = DEFAULT_QUERY_USEC,
		.patience_usec = LIMIT_ORDER_USEC + DEFAULT_QUERY_USEC,
	};
	int r = query_run(&query, attempt, &copy);

	if (r < 0)
		return query_fail(&query, r);
	query_done(&query);
	if (r > 0)
		return message_fail(
			context->name, EXIT_NOTHING, "%s: %s", request->service, nothing);
	return EXIT_DONE;
}
