/*
 * consulcfg status: how the daemon and its services are.
 */
#include "client/tools/commands.h"

#include "client/tools/message.h"
#include "client/tools/output.h"
#include "client/tools/query.h"
#include "client/tools/table.h"
#include "proto/key.h"

enum { STATUS_JSON = 256 };

static const struct option options[] = {
	{ STATUS_JSON, "json", NULL, "print one JSON object" },
	{ 0 },
};

struct status {
	struct query query;
	const char *service; /* NULL: all */
	bool json;
	struct output daemon; /* JSON object */
	struct output services; /* JSON objects, separated by commas */
};

/* One request, one page. 1: ask again after *after; 0: all there. */
static int ask_page(struct status *status, unsigned what, char *after, struct output *ret_json)
{
	const struct wire_request request = {
		.what = (uint8_t)what,
		.key = after,
		.key_len = strlen(after),
	};
	struct link_reply reply;
	uint8_t head[2]; /* more, length of the last name */
	uint32_t tag;
	int r;

	r = link_send(&status->query.link, WIRE_STATUS, &request, &tag);
	if (r == 0)
		r = query_receive(&status->query, &reply);
	if (r == 0)
		r = link_reply_head(&reply, head, sizeof(head));
	if (r != 0)
		return r;
	if (reply.len - sizeof(head) < head[1] || head[1] > LIMIT_SERVICE_NAME)
		return -EBADMSG;
	memcpy(after, reply.payload + sizeof(head), head[1]);
	after[head[1]] = '\0';
	reply.payload += sizeof(head) + head[1];
	reply.len -= sizeof(head) + head[1];
	if (ret_json->len > 0 && reply.len > 0)
		output_text(ret_json, ", ");
	output_bytes(ret_json, reply.payload, reply.len);
	return head[0] != 0 && head[1] > 0;
}

static int attempt(struct query *query, void *userdata)
{
	struct status *status = userdata;
	char after[LIMIT_SERVICE_NAME + 1] = "";
	int r;

	(void)query;
	r = ask_page(status, WIRE_STATUS_DAEMON, after, &status->daemon);
	if (r < 0)
		return r;
	strcpy(after, status->service ? status->service : "");
	do
		r = ask_page(status, status->service ? WIRE_STATUS_SERVICE : WIRE_STATUS_SERVICES,
			after, &status->services);
	while (r > 0);
	return status->service && r == -ENOENT ? 1 : r;
}

static int print(const struct status *status)
{
	struct output output = { 0 };
	int r = 0;

	if (status->json) {
		output_text(&output, "{\"daemon\": ");
		output_bytes(&output, status->daemon.data, status->daemon.len);
		output_text(&output, ", \"services\": [");
		output_bytes(&output, status->services.data, status->services.len);
		output_text(&output, "]}\n");
	} else {
		r = table_print(&output, &status->daemon, &status->services);
	}
	if (r < 0)
		return message_fail(status->query.context->name, EXIT_OTHER,
			"the daemon's status does not read: is it of another version?");
	r = output_flush(&output, STDOUT_FILENO);
	output_done(&output);
	return message_written(status->query.context->name, r);
}

static int run_status(struct status *status, struct args *args)
{
	const char *argument;
	int code, r;

	while ((code = verb_next(args, &argument)) > 0)
		status->json |= code == STATUS_JSON;
	if (code == VERB_EXIT)
		return args->exit_code;
	if (args->n_operands > 1)
		return verb_usage(args->context, "give at most one service");
	if (args->n_operands == 1) {
		status->service = args->argv[0];
		if (!key_is_service_name(status->service, strlen(status->service)))
			return verb_bad_service(args->context, status->service);
	}
	r = query_run(&status->query, attempt, status);
	if (r < 0)
		return query_fail(&status->query, r);
	query_done(&status->query);
	if (r > 0)
		return message_fail(args->context->name, EXIT_NOTHING,
			"service %s is not in use: a first read starts it: consulcfg-list %s",
			status->service, status->service);
	return print(status);
}

static int run(struct context *context, struct args *args)
{
	struct status status = { .query = { .context = context } };
	int exit_code = run_status(&status, args);

	output_done(&status.daemon);
	output_done(&status.services);
	return exit_code;
}

const struct verb cmd_status = {
	.name = "status",
	.operands = "[SERVICE]",
	.summary = "Show how the daemon and its services are; what needs somebody comes first.",
	.options = options,
	.run = run,
};
