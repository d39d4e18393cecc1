/*
 * consulcfg watch: changes of a service as they come. Compares each new generation with the one
 * before, so that what is printed are differences of values, whatever happened in between: a
 * restart of the daemon, a key written twice, a change that was taken back.
 */
#include <stdio.h>

#include "client/tools/commands.h"

#include "client/tools/hook.h"
#include "client/tools/message.h"
#include "client/tools/opener.h"
#include "client/tools/output.h"
#include "client/tools/query.h"
#include "client/tools/settle.h"
#include "proto/key.h"
#include "proto/limits.h"

enum { WATCH_JSON = 256, WATCH_ONCE };

static const struct option options[] = {
	{ 't', NULL, "SECONDS", "wait so long for the daemon and the first data (5; 0; infinity)" },
	{ WATCH_JSON, "json", NULL,
		"print one JSON object a line for the keys that changed together" },
	{ WATCH_ONCE, "once", NULL, "exit after the first change" },
	{ 0 },
};

struct watch {
	const struct context *context;
	const char *service;
	uint64_t timeout_usec;
	bool json;
	bool once;
	char **prefixes;
	size_t n_prefixes;
	struct hook hook; /* argv NULL: changes are printed */
	char common[LIMIT_KEY + 1]; /* what all prefixes start with */
	struct output output; /* the changes that are told together */
	struct output keys; /* for the command: theirs, a line each */
};

/* An entry while two views are walked side by side. */
struct walk {
	const ccfg_view *view;
	size_t cursor;
	struct ccfg_entry entry;
	bool has_entry;
};

static bool is_wanted(const struct watch *watch, const struct ccfg_entry *entry)
{
	for (size_t i = 0; i < watch->n_prefixes; i++) {
		size_t len = strlen(watch->prefixes[i]);

		if (entry->key_len >= len && memcmp(entry->key, watch->prefixes[i], len) == 0)
			return true;
	}
	return watch->n_prefixes == 0;
}

static void walk_next(const struct watch *watch, struct walk *walk)
{
	do
		walk->has_entry =
			ccfg_view_next(walk->view, watch->common, &walk->cursor, &walk->entry);
	while (walk->has_entry && !is_wanted(watch, &walk->entry));
}

static struct walk walk_begin(const struct watch *watch, const ccfg_view *view)
{
	struct walk walk = { .view = view, .entry = { .size = sizeof(walk.entry) } };

	walk_next(watch, &walk);
	return walk;
}

/* value NULL: the key was deleted. */
static void print_change(struct watch *watch, const struct ccfg_entry *entry, bool is_deleted)
{
	struct output *output = &watch->output;

	if (watch->hook.argv) {
		output_bytes(&watch->keys, entry->key, entry->key_len);
		output_text(&watch->keys, "\n");
	}
	if (watch->json) {
		output_text(output, output->len == 0 ? "{" : ", ");
		output_json(output, entry->key, entry->key_len);
		output_text(output, ": ");
		if (is_deleted)
			output_text(output, "null");
		else
			output_json(output, entry->value, entry->value_len);
		return;
	}
	output_escaped(output, entry->key, entry->key_len);
	if (!is_deleted) {
		output_text(output, "\t");
		output_escaped(output, entry->value, entry->value_len);
	}
	output_text(output, "\n");
}

static void print_changes(struct watch *watch, const ccfg_view *before, const ccfg_view *after)
{
	struct walk old = walk_begin(watch, before), new = walk_begin(watch, after);

	while (old.has_entry || new.has_entry) {
		int order = 0;

		if (!old.has_entry)
			order = 1;
		else if (!new.has_entry)
			order = -1;
		else
			order = key_compare(
				old.entry.key, old.entry.key_len, new.entry.key, new.entry.key_len);
		if (order < 0)
			print_change(watch, &old.entry, true);
		else if (order > 0 || old.entry.value_len != new.entry.value_len ||
			 memcmp(old.entry.value, new.entry.value, new.entry.value_len) != 0)
			print_change(watch, &new.entry, false);
		if (order <= 0)
			walk_next(watch, &old);
		if (order >= 0)
			walk_next(watch, &new);
	}
}

/* An exit code. */
static int tell_command(struct watch *watch, const ccfg_view *view)
{
	char generation[32], *keys = watch->keys.data;
	const struct hook_variable variables[] = {
		{ "CONSULCFG_SERVICE", watch->service },
		{ "CONSULCFG_GENERATION", generation },
		{ "CONSULCFG_CHANGED", watch->keys.len > LIMIT_CHANGED ? "" : keys },
		{ NULL, NULL },
	};
	int r;

	snprintf(generation, sizeof(generation), "%llu",
		(unsigned long long)ccfg_view_generation(view));
	keys[watch->keys.len - 1] = '\0'; /* the newline behind the last */
	r = hook_run(&watch->hook, variables, watch->output.data, watch->output.len, NULL);
	watch->output.len = watch->keys.len = 0;
	return r == 0 ? EXIT_DONE : EXIT_OTHER;
}

static int tell(struct watch *watch, const ccfg_view *view)
{
	if (watch->output.len > 0 && watch->json)
		output_text(&watch->output, "}\n");
	if (watch->output.has_failed || watch->keys.has_failed)
		return message_written(watch->context->name, -ENOMEM);
	if (watch->output.len == 0)
		return EXIT_DONE;
	if (watch->hook.argv)
		return tell_command(watch, view);
	return message_written(watch->context->name, output_flush(&watch->output, STDOUT_FILENO));
}

static int follow(struct watch *watch, ccfg *cfg)
{
	const ccfg_view *before = ccfg_pin(cfg);
	bool is_over = false;
	int exit_code = EXIT_DONE;

	while (!is_over) {
		const ccfg_view *after;

		if (ccfg_wait(cfg, ccfg_view_generation(before), -1) < 0)
			continue;
		if (watch->hook.argv)
			settle_wait(cfg);
		after = ccfg_pin(cfg);
		print_changes(watch, before, after);
		ccfg_unpin(before);
		before = after;
		is_over = watch->once && watch->output.len > 0;
		exit_code = tell(watch, after);
		/* A command that fails is told of the next change all the same. */
		is_over |= exit_code != EXIT_DONE && !watch->hook.argv;
	}
	ccfg_unpin(before);
	return exit_code;
}

static int run_watch(struct watch *watch)
{
	ccfg *cfg = NULL;
	int r, exit_code;

	r = opener_open(watch->context, watch->service, watch->timeout_usec, CCFG_NO_BACKUP, &cfg);
	exit_code =
		r == 0 ? follow(watch, cfg)
		       : opener_complain(watch->context, watch->service, watch->timeout_usec, r);
	ccfg_close(cfg);
	output_done(&watch->output);
	output_done(&watch->keys);
	return exit_code;
}

static void find_common_prefix(struct watch *watch)
{
	size_t len;

	if (watch->n_prefixes == 0)
		return;
	len = strlen(watch->prefixes[0]);
	for (size_t i = 1; i < watch->n_prefixes; i++)
		for (size_t j = 0; j < len; j++)
			if (watch->prefixes[i][j] != watch->prefixes[0][j])
				len = j;
	memcpy(watch->common, watch->prefixes[0], len);
}

static int take_operands(struct watch *watch, struct args *args)
{
	int n = args->n_before_dashes >= 0 ? args->n_before_dashes : args->n_operands;
	int r;

	if (n < 1)
		return verb_usage(args->context, "give a service");
	if (!key_is_service_name(args->argv[0], strlen(args->argv[0])))
		return verb_bad_service(args->context, args->argv[0]);
	for (int i = 1; i < n; i++)
		if (strlen(args->argv[i]) > LIMIT_KEY)
			return verb_usage(
				args->context, "a prefix has at most %d bytes", LIMIT_KEY);
	watch->service = args->argv[0];
	watch->prefixes = args->argv + 1;
	watch->n_prefixes = (size_t)n - 1;
	find_common_prefix(watch);
	if (args->n_before_dashes < 0)
		return 0;
	if (n == args->n_operands)
		return verb_usage(args->context, "give a command behind --");
	watch->hook.name = args->context->name;
	watch->hook.socket_path = args->context->socket_path;
	watch->hook.argv = verb_words(args, n);
	watch->json = true;
	r = hook_check(&watch->hook);
	if (r != 0)
		return message_fail(args->context->name, EXIT_OTHER,
			"cannot run %.200s: %s: give a program that exists and may be executed",
			watch->hook.argv[0], strerror(r));
	return 0;
}

static int run(struct context *context, struct args *args)
{
	struct watch watch = { .context = context, .timeout_usec = DEFAULT_QUERY_USEC };
	const char *argument = NULL;
	int code, r;

	while ((code = verb_next(args, &argument)) > 0) {
		watch.json |= code == WATCH_JSON;
		watch.once |= code == WATCH_ONCE;
		if (code == 't' && verb_timeout(argument, &watch.timeout_usec) < 0)
			return verb_usage(context, "-t %.40s is no time", argument);
	}
	if (code == VERB_EXIT)
		return args->exit_code;
	r = take_operands(&watch, args);
	return r != 0 ? r : run_watch(&watch);
}

const struct verb cmd_watch = {
	.name = "watch",
	.operands = "SERVICE [PREFIX...] [-- COMMAND [ARG...]]",
	.summary = "Print keys that change, with their new values, or run a command then.",
	.options = options,
	.run = run,
};
