/*
 * consulcfg diff: what differs between two generations of a service.
 */
#include "client/tools/commands.h"

#include <stdio.h>

#include "client/tools/message.h"
#include "client/tools/output.h"
#include "client/tools/recall.h"
#include "proto/key.h"
#include "proto/limits.h"
#include "proto/value.h"

enum { DIFF_REDACT = 256 };

static const struct option options[] = {
	{ DIFF_REDACT, "redact", NULL, "show how long values are in place of what they are" },
	{ 0 },
};

struct diff {
	struct query query;
	const char *service;
	bool redact;
	bool has_old, has_new; /* given; else the one before, the one that is served */
	bool is_held; /* the new one is what is held, the old one given, else the one that is served
		       */
	uint64_t old_generation, new_generation;
	bool found_new;
	struct ccfg_view *old_view, *new_view;
	struct output output;
};

static void print_side(struct diff *diff, const char *sign, const struct ccfg_entry *entry)
{
	char length[32];

	output_text(&diff->output, sign);
	output_escaped(&diff->output, entry->key, entry->key_len);
	output_text(&diff->output, "\t");
	if (diff->redact) {
		snprintf(length, sizeof(length), "(%zu bytes)", entry->value_len);
		output_text(&diff->output, length);
	} else {
		output_escaped(&diff->output, entry->value, entry->value_len);
	}
	output_text(&diff->output, "\n");
}

static void on_difference(
	void *userdata, const struct ccfg_entry *old, const struct ccfg_entry *new)
{
	if (old)
		print_side(userdata, "-", old);
	if (new)
		print_side(userdata, "+", new);
}

static bool is_before(const struct ccfg_view *view, const struct recall_entry *entry)
{
	return entry->generation < ccfg_view_generation(view) &&
	       strtoull(entry->digest, NULL, 16) != view->image.digest;
}

/* The newest that the disk has below the one that is served, and that is not the same. */
static int find_before(struct diff *diff)
{
	struct recall_list list;
	int r = recall_history(&diff->query, diff->service, &list);

	if (r < 0)
		return r;
	for (size_t i = 0; i < list.n && diff->old_generation == 0; i++)
		if (is_before(diff->new_view, &list.entries[i]))
			diff->old_generation = list.entries[i].generation;
	recall_list_done(&list);
	return diff->old_generation != 0 ? 0 : -ENOENT;
}

static int take_new(struct diff *diff)
{
	if (diff->is_held)
		return recall_held(&diff->query, diff->service, &diff->new_view);
	return recall_view(&diff->query, diff->service, diff->new_generation, &diff->new_view);
}

static int attempt(struct query *query, void *userdata)
{
	struct diff *diff = userdata;
	int r = take_new(diff);

	diff->found_new = r == 0;
	if (r == 0 && !diff->has_old && !diff->is_held)
		r = find_before(diff);
	if (r == 0)
		r = recall_view(query, diff->service, diff->old_generation, &diff->old_view);
	return r == -ENOENT ? 1 : r;
}

static int show(struct diff *diff)
{
	const char *name = diff->query.context->name;
	int r = query_run(&diff->query, attempt, diff);

	if (r < 0)
		return query_fail(&diff->query, r);
	query_done(&diff->query);
	if (r > 0 && diff->is_held && !diff->found_new)
		return message_fail(name, EXIT_NOTHING,
			"nothing is held of %s: consulcfg-status %s shows its state", diff->service,
			diff->service);
	if (r > 0 && !diff->has_old && diff->found_new)
		return message_fail(name, EXIT_NOTHING,
			"%s has had no other contents so far: there is nothing to compare with",
			diff->service);
	if (r > 0)
		return message_fail(name, EXIT_NOTHING,
			"no such generation of %s is kept: consulcfg-history %s shows those that are",
			diff->service, diff->service);
	if (recall_compare(diff->old_view, diff->new_view, on_difference, diff) == 0)
		return EXIT_NOTHING;
	return message_written(name, output_flush(&diff->output, STDOUT_FILENO));
}

static bool parse_generation(const char *text, uint64_t *ret_generation)
{
	int64_t number;

	if (value_int64(text, strlen(text), &number) < 0 || number <= 0)
		return false;
	*ret_generation = (uint64_t)number;
	return true;
}

static int take_operands(struct diff *diff, struct args *args)
{
	char **generation = args->argv + 1;

	if (args->n_operands < 1 || args->n_operands > 3)
		return verb_usage(args->context, "give a service and up to two generations");
	diff->service = args->argv[0];
	if (!key_is_service_name(diff->service, strlen(diff->service)))
		return verb_bad_service(args->context, diff->service);
	diff->is_held = args->n_operands > 1 && std_streq(*generation, "held");
	generation += diff->is_held;
	diff->has_old = args->n_operands > 1 + diff->is_held;
	diff->has_new = args->n_operands > 2 && !diff->is_held;
	if ((diff->has_old && !parse_generation(generation[0], &diff->old_generation)) ||
		(diff->has_new && !parse_generation(generation[1], &diff->new_generation)))
		return verb_usage(args->context,
			"a generation is a number, as consulcfg-history shows it, or the first of "
			"two is \"held\"");
	return 0;
}

static int run(struct context *context, struct args *args)
{
	struct diff diff = {
		.query = { .context = context, .timeout_usec = DEFAULT_QUERY_USEC },
	};
	const char *argument;
	int code;

	while ((code = verb_next(args, &argument)) > 0)
		diff.redact |= code == DIFF_REDACT;
	if (code == VERB_EXIT)
		return args->exit_code;
	code = take_operands(&diff, args);
	if (code == 0)
		code = show(&diff);
	view_unref(diff.old_view);
	view_unref(diff.new_view);
	output_done(&diff.output);
	return code;
}

const struct verb cmd_diff = {
	.name = "diff",
	.operands = "SERVICE [GENERATION|held [GENERATION]]",
	.summary =
		"Show what differs between two generations of a service, or what is held would change.",
	.options = options,
	.run = run,
};
