/*
 * consulcfg watch: changes of a service as they come. Compares each new generation with the one
 * before, so that what is printed are differences of values, whatever happened in between: a
 * restart of the daemon, a key written twice, a change that was taken back.
 */
#include "client/tools/commands.h"

#include "client/lib/consulcfg.h"
#include "client/lib/link.h"
#include "client/tools/message.h"
#include "client/tools/output.h"
#include "client/tools/query.h"
#include "proto/key.h"

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
	char common[LIMIT_KEY + 1]; /* what all prefixes start with */
	struct output output;
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

static int follow(struct watch *watch, ccfg *cfg)
{
	const ccfg_view *before = ccfg_pin(cfg);
	int r = 0;

	while (r == 0) {
		const ccfg_view *after;
		bool has_changed;

		if (ccfg_wait(cfg, ccfg_view_generation(before), -1) < 0)
			continue;
		after = ccfg_pin(cfg);
		print_changes(watch, before, after);
		ccfg_unpin(before);
		before = after;
		has_changed = watch->output.len > 0;
		if (has_changed && watch->json)
			output_text(&watch->output, "}\n");
		r = output_flush(&watch->output, STDOUT_FILENO);
		if (has_changed && watch->once)
			break;
	}
	ccfg_unpin(before);
	return message_written(watch->context->name, r);
}

static int complain(const struct watch *watch, int error)
{
	struct trouble trouble = {
		.error = error,
		.service = watch->service,
		.timeout_usec = watch->timeout_usec,
		.words = "",
	};
	struct link link;

	if (link_init(&link, watch->context->socket_path) == 0)
		trouble.socket_path = link_path(&link);
	if (error == -EACCES && trouble.socket_path && access(trouble.socket_path, W_OK) < 0 &&
		errno == EACCES)
		trouble.words = NULL;
	return message_trouble(watch->context->name, &trouble);
}

/* With -t 0 the library opens in any case; here it is data now or an error. */
static int check_data(ccfg *cfg)
{
	const ccfg_view *view = ccfg_pin(cfg);
	struct ccfg_info info = { .size = sizeof(info) };
	bool has_data = ccfg_view_generation(view) != 0;

	ccfg_unpin(view);
	if (has_data)
		return 0;
	ccfg_info(cfg, &info);
	return info.error < 0 ? info.error : -ETIMEDOUT;
}

static int run_watch(struct watch *watch)
{
	uint64_t ms = watch->timeout_usec / USEC_PER_MSEC;
	const struct ccfg_options open_options = {
		.size = sizeof(open_options),
		.socket_path = watch->context->socket_path,
		.timeout_ms =
			watch->timeout_usec == UINT64_MAX ? -1 : (int)MIN(MAX(ms, 1), INT_MAX),
		.flags = CCFG_NO_BACKUP | (watch->timeout_usec == 0 ? CCFG_NOWAIT : 0),
	};
	ccfg *cfg = NULL;
	int r, exit_code;

	r = ccfg_open(watch->service, &open_options, &cfg);
	if (r == 0)
		r = check_data(cfg);
	exit_code = r == 0 ? follow(watch, cfg) : complain(watch, r);
	ccfg_close(cfg);
	output_done(&watch->output);
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
	if (args->n_before_dashes > 0)
		return verb_usage(args->context,
			"this version runs no command: read the lines it prints instead");
	if (args->n_operands < 1)
		return verb_usage(args->context, "give a service");
	if (!key_is_service_name(args->argv[0], strlen(args->argv[0])))
		return verb_bad_service(args->context, args->argv[0]);
	for (int i = 1; i < args->n_operands; i++)
		if (strlen(args->argv[i]) > LIMIT_KEY)
			return verb_usage(
				args->context, "a prefix has at most %d bytes", LIMIT_KEY);
	watch->service = args->argv[0];
	watch->prefixes = args->argv + 1;
	watch->n_prefixes = (size_t)args->n_operands - 1;
	find_common_prefix(watch);
	return 0;
}

static int run(struct context *context, struct args *args)
{
	struct watch watch = { .context = context, .timeout_usec = QUERY_TIMEOUT_USEC };
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
	.operands = "SERVICE [PREFIX...]",
	.summary = "Print keys that change, with their new values, as it happens.",
	.options = options,
	.run = run,
};
