/*
 * consulcfg history: the generations of a service that the daemon has kept.
 */
#include "client/tools/commands.h"

#include <stdio.h>
#include <time.h>

#include "client/tools/message.h"
#include "client/tools/output.h"
#include "client/tools/recall.h"
#include "proto/key.h"
#include "proto/limits.h"

enum { HISTORY_JSON = 256 };

static const struct option options[] = {
	{ HISTORY_JSON, "json", NULL, "print a JSON array of objects" },
	{ 0 },
};

struct history {
	struct query query;
	const char *service;
	struct recall_list list;
	int64_t *n_changes; /* of each entry, to the one before it; -1: not known */
};

/* An entry that went meanwhile is one that is not known. */
static int count_changes(struct history *h)
{
	struct ccfg_view *newer = NULL, *older;

	for (size_t i = 0; i < h->list.n; i++) {
		int r = recall_view(&h->query, h->service, h->list.entries[i].generation, &older);

		if (r < 0 && r != -ENOENT)
			return r;
		older = r < 0 ? NULL : older;
		if (i > 0 && newer && older)
			h->n_changes[i - 1] = (int64_t)recall_compare(older, newer, NULL, NULL);
		view_unref(newer);
		newer = older;
	}
	view_unref(newer);
	return 0;
}

static int attempt(struct query *query, void *userdata)
{
	struct history *h = userdata;
	int r = recall_history(query, h->service, &h->list);

	if (r == -ENOENT)
		return 1;
	if (r < 0)
		return r;
	h->n_changes = malloc((h->list.n + 1) * sizeof(*h->n_changes));
	if (!h->n_changes)
		return -ENOMEM;
	memset(h->n_changes, 0xff, (h->list.n + 1) * sizeof(*h->n_changes));
	return count_changes(h);
}

static void print_json(struct output *output, const struct history *h)
{
	char line[512];

	output_text(output, "[");
	for (size_t i = 0; i < h->list.n; i++) {
		const struct recall_entry *entry = &h->list.entries[i];
		char changes[24] = "null";

		if (h->n_changes[i] >= 0)
			snprintf(changes, sizeof(changes), "%lld", (long long)h->n_changes[i]);
		snprintf(line, sizeof(line),
			"%s{\"generation\": %llu, \"published\": %s, \"index\": %llu, "
			"\"digest\": \"%s\", \"keys\": %llu, \"bytes\": %llu, \"changes\": %s}",
			i > 0 ? ", " : "", (unsigned long long)entry->generation, entry->published,
			(unsigned long long)entry->index, entry->digest,
			(unsigned long long)entry->n_keys, (unsigned long long)entry->n_bytes,
			changes);
		output_text(output, line);
	}
	output_text(output, "]\n");
}

static void print_table(struct output *output, const struct history *h)
{
	char line[256], changes[24], when[32];

	snprintf(line, sizeof(line), "%-20s  %-19s  %10s  %-16s  %8s  %7s\n", "GENERATION",
		"PUBLISHED", "INDEX", "DIGEST", "KEYS", "CHANGES");
	output_text(output, line);
	for (size_t i = 0; i < h->list.n; i++) {
		const struct recall_entry *entry = &h->list.entries[i];
		time_t at = (time_t)strtoll(entry->published, NULL, 10);
		struct tm tm;

		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", localtime_r(&at, &tm));
		snprintf(changes, sizeof(changes), "-");
		if (h->n_changes[i] >= 0)
			snprintf(changes, sizeof(changes), "%lld", (long long)h->n_changes[i]);
		snprintf(line, sizeof(line), "%-20llu  %-19s  %10llu  %-16s  %8llu  %7s\n",
			(unsigned long long)entry->generation, when,
			(unsigned long long)entry->index, entry->digest,
			(unsigned long long)entry->n_keys, changes);
		output_text(output, line);
	}
}

static int show(struct history *h, bool json)
{
	const char *name = h->query.context->name;
	struct output output = { 0 };
	int r = query_run(&h->query, attempt, h);

	if (r < 0)
		return query_fail(&h->query, r);
	query_done(&h->query);
	if (r > 0)
		return message_fail(name, EXIT_NOTHING,
			"the daemon has kept nothing of %s: it keeps what services with keys had",
			h->service);
	if (json)
		print_json(&output, h);
	else
		print_table(&output, h);
	r = output_flush(&output, STDOUT_FILENO);
	output_done(&output);
	return message_written(name, r);
}

static int run(struct context *context, struct args *args)
{
	struct history h = {
		.query = { .context = context, .timeout_usec = DEFAULT_QUERY_USEC },
	};
	const char *argument;
	bool json = false;
	int code;

	while ((code = verb_next(args, &argument)) > 0)
		json |= code == HISTORY_JSON;
	if (code == VERB_EXIT)
		return args->exit_code;
	if (args->n_operands != 1)
		return verb_usage(context, "give a service");
	h.service = args->argv[0];
	if (!key_is_service_name(h.service, strlen(h.service)))
		return verb_bad_service(context, h.service);
	code = show(&h, json);
	recall_list_done(&h.list);
	free(h.n_changes);
	return code;
}

const struct verb cmd_history = {
	.name = "history",
	.operands = "SERVICE",
	.summary = "Show the generations of a service that the daemon has kept.",
	.options = options,
	.run = run,
};
