/*
 * consulcfg status: how the daemon and its services are.
 */
#include "client/tools/commands.h"

#include <signal.h>

#include "client/tools/message.h"
#include "client/tools/news.h"
#include "client/tools/output.h"
#include "client/tools/query.h"
#include "client/tools/screen.h"
#include "client/tools/table.h"
#include "proto/key.h"
#include "proto/limits.h"

enum { STATUS_JSON = 256, STATUS_FOLLOW };

static const struct option options[] = {
	{ STATUS_JSON, "json", NULL, "print one JSON object" },
	{ STATUS_FOLLOW, "follow", NULL,
		"show it until Ctrl-C; where no terminal is, print a line for each change" },
	{ 0 },
};

struct status {
	struct query query;
	const char *service; /* NULL: all */
	bool json;
	bool follow;
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
	status->daemon.len = status->services.len = 0; /* the daemon may have gone in the middle */
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

static int complain_unreadable(const struct status *status)
{
	return message_fail(status->query.context->name, EXIT_OTHER,
		"the daemon's status does not read: is it of another version?");
}

static struct table_style style(void)
{
	return (struct table_style){ .has_color = screen_has_color(), .columns = screen_columns() };
}

static int print(const struct status *status)
{
	const struct table_style shown = style();
	struct output output = { 0 };
	int r = 0;

	if (status->json) {
		output_text(&output, "{\"daemon\": ");
		output_bytes(&output, status->daemon.data, status->daemon.len);
		output_text(&output, ", \"services\": [");
		output_bytes(&output, status->services.data, status->services.len);
		output_text(&output, "]}\n");
	} else {
		r = table_print(&output, &shown, &status->daemon, &status->services);
	}
	if (r < 0) {
		output_done(&output);
		return complain_unreadable(status);
	}
	r = output_flush(&output, STDOUT_FILENO);
	output_done(&output);
	return message_written(status->query.context->name, r);
}

/* --- following --------------------------------------------------------------------------- */

/* 0: there is a daemon; -errno. A service that nobody uses now may come back. */
static int look(struct status *status)
{
	int r = query_run(&status->query, attempt, status);

	query_done(&status->query);
	return MIN(r, 0);
}

/* What goes away by itself: the daemon stops, starts, is busy. */
static bool is_passing(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -ECONNRESET ||
	       error == -EHOSTDOWN || error == -EAGAIN || error == -EPIPE;
}

static int draw(const struct status *status, int looked)
{
	const struct table_style shown = style();
	struct output output = { 0 };
	int r = 0;

	if (looked < 0)
		output_text(&output, "the daemon is away; waiting for it\n");
	else
		r = table_print(&output, &shown, &status->daemon, &status->services);
	if (r == 0)
		r = screen_draw(&output);
	output_done(&output);
	return r;
}

static int follow_on_screen(struct status *status)
{
	int r, looked;

	screen_open();
	do {
		looked = look(status);
		r = looked < 0 && !is_passing(looked) ? looked : draw(status, looked);
		if (r == 0)
			r = screen_wait(LIMIT_FOLLOW_MS);
	} while (r == 0);
	screen_close();
	return r;
}

/* Lines of the daemon away: what its services were is not over. */
static void tell_news(
	struct output *output, struct output *before, struct output *now, bool is_back)
{
	if (is_back)
		news_print(output, "", "consulcfgd answers again\n");
	output_bytes(now, "", 1);
	news_print(output, before->data ? before->data : "", now->data ? now->data : "");
	output_done(before);
	*before = *now;
	*now = (struct output){ 0 };
}

static int follow_in_lines(struct status *status)
{
	struct output output = { 0 }, before = { 0 }, now = { 0 };
	bool was_away = false;
	int r = 0;

	while (r == 0) {
		int looked = look(status);

		if (looked < 0 && !is_passing(looked)) {
			r = looked;
		} else if (looked < 0) {
			if (!was_away)
				news_print(&output, "", "consulcfgd is away\n");
		} else {
			r = table_lines(&now, &status->daemon, &status->services);
			if (r == 0)
				tell_news(&output, &before, &now, was_away);
		}
		was_away = looked < 0;
		if (r == 0)
			r = output_flush(&output, STDOUT_FILENO);
		if (r == 0)
			r = screen_wait(LIMIT_FOLLOW_MS);
	}
	output_done(&output);
	output_done(&before);
	output_done(&now);
	return r;
}

static int follow(struct status *status)
{
	int r;

	if (status->json)
		return verb_usage(status->query.context, "--follow and --json exclude each other");
	r = screen_is_terminal() ? follow_on_screen(status) : follow_in_lines(status);
	if (r == -EPIPE) {
		raise(SIGPIPE); /* as a write would: nobody waits for the next change */
		query_done(&status->query);
		return message_written(status->query.context->name, r);
	}
	return r == -EBADMSG ? complain_unreadable(status) : query_fail(&status->query, r);
}

static int show(struct status *status)
{
	int r = query_run(&status->query, attempt, status);

	if (r < 0)
		return query_fail(&status->query, r);
	query_done(&status->query);
	if (r > 0)
		return message_fail(status->query.context->name, EXIT_NOTHING,
			"service %s is not in use: a first read starts it: consulcfg-list %s",
			status->service, status->service);
	return print(status);
}

static int run_status(struct status *status, struct args *args)
{
	const char *argument;
	int code;

	while ((code = verb_next(args, &argument)) > 0) {
		status->json |= code == STATUS_JSON;
		status->follow |= code == STATUS_FOLLOW;
	}
	if (code == VERB_EXIT)
		return args->exit_code;
	if (args->n_operands > 1)
		return verb_usage(args->context, "give at most one service");
	if (args->n_operands == 1) {
		status->service = args->argv[0];
		if (!key_is_service_name(status->service, strlen(status->service)))
			return verb_bad_service(args->context, status->service);
	}
	return status->follow ? follow(status) : show(status);
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
