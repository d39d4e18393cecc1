/*
 * consulcfg list: everything below a prefix, of one generation, in several spellings.
 */
#include "client/tools/commands.h"

#include "client/lib/pages.h"
#include "client/tools/envname.h"
#include "client/tools/message.h"
#include "client/tools/output.h"
#include "client/tools/query.h"
#include "proto/key.h"
#include "proto/limits.h"

enum format { LIST_LINES, LIST_KEYS = 256, LIST_JSON, LIST_ENV, LIST_ENV_FILE, LIST_NUL };

static const struct option options[] = {
	{ 't', NULL, "SECONDS", "wait so long for the daemon and the first data (5; 0; infinity)" },
	{ LIST_KEYS, "keys", NULL, "print the keys only, one a line" },
	{ LIST_JSON, "json", NULL, "print one JSON object" },
	{ LIST_ENV, "env", NULL, "print export NAME='value' lines for a shell" },
	{ LIST_ENV_FILE, "env-file", NULL,
		"print NAME=\"value\" lines for systemd's EnvironmentFile=" },
	{ '0', NULL, NULL, "print key NUL value NUL" },
	{ 0 },
};

struct list {
	struct query query;
	const char *prefix;
	enum format format;
	struct pages pages;
	struct output output;
	size_t n_left_out; /* entries whose value cannot stand in a variable */
	const char *left_out; /* the key of the first of them */
};

/* Fetches all pages. 1: the generation went away meanwhile; -ENODATA: no data yet. */
static int fetch(struct list *list)
{
	int r;

	pages_done(&list->pages);
	do {
		struct link_reply reply;
		uint32_t tag;

		r = pages_ask(
			&list->pages, &list->query.link, list->query.service, list->prefix, &tag);
		if (r == 0)
			r = query_receive(&list->query, &reply);
		if (r == -ESTALE)
			return 1;
		if (r == -ENOENT)
			return 0;
		if (r == 0)
			r = pages_add(&list->pages, &reply);
	} while (r > 0);
	return r;
}

static int attempt(struct query *query, void *userdata)
{
	struct list *list = userdata;

	(void)query;
	for (unsigned i = 0; i < LIMIT_ROUNDS; i++) {
		int r = fetch(list);

		if (r == 0)
			return 0;
		if (r == -ENODATA)
			r = query_wait_open(&list->query);
		if (r < 0)
			return r;
	}
	return -ESTALE;
}

/* The next entry, *off from 0. */
static bool next(const struct list *list, size_t *off, struct record *ret_record)
{
	const struct records *records = &list->pages.records;
	size_t end = 0;

	if (*off < records->size)
		end = record_decode(records->data, records->size, *off, ret_record);
	*off = end;
	return end != 0;
}

/* --- names of variables ------------------------------------------------------------------ */

struct variable {
	char *name;
	const char *key;
	size_t key_len;
};

static int compare_variables(const void *a, const void *b)
{
	return strcmp(((const struct variable *)a)->name, ((const struct variable *)b)->name);
}

static int complain_about_clash(
	const struct list *list, const struct variable *a, const struct variable *b)
{
	char first[128], second[128];

	return message_fail(list->query.context->name, EXIT_OTHER,
		"keys %s and %s would both be variable %.128s: list them one by one, with a prefix",
		key_escape(a->key, a->key_len, first, sizeof(first)),
		key_escape(b->key, b->key_len, second, sizeof(second)), a->name);
}

/* Of names that two keys share one would win by chance: say so instead. */
static int check_clashes(const struct list *list, struct variable *variables)
{
	size_t n = 0, off = 0;
	struct record record;

	while (next(list, &off, &record)) {
		char name[ENVNAME_SIZE];

		variables[n].name = strdup(envname_of(record.key, record.key_len, name));
		if (!variables[n].name)
			return message_fail(list->query.context->name, EXIT_OTHER, "out of memory");
		variables[n].key = record.key;
		variables[n++].key_len = record.key_len;
	}
	qsort(variables, n, sizeof(*variables), compare_variables);
	for (size_t i = 1; i < n; i++)
		if (std_streq(variables[i - 1].name, variables[i].name))
			return complain_about_clash(list, &variables[i - 1], &variables[i]);
	return EXIT_DONE;
}

static int check_names(const struct list *list)
{
	size_t n = list->pages.records.n;
	struct variable *variables = calloc(n, sizeof(*variables));
	int exit_code;

	if (!variables)
		return message_fail(list->query.context->name, EXIT_OTHER, "out of memory");
	exit_code = check_clashes(list, variables);
	for (size_t i = 0; i < n; i++)
		free(variables[i].name);
	free(variables);
	return exit_code;
}

/* Not every value can stand in a variable; systemd takes neither control bytes nor broken UTF-8. */
static bool is_representable(const struct list *list, const struct record *record)
{
	if (list->format == LIST_ENV)
		return !memchr(record->value, '\0', record->value_len);
	if (list->format != LIST_ENV_FILE)
		return true;
	for (uint32_t i = 0; i < record->value_len; i++) {
		unsigned char c = (unsigned char)record->value[i];

		if ((c < 0x20 && c != '\t' && c != '\n') || c == 0x7f)
			return false;
	}
	return key_is_utf8(record->value, record->value_len);
}

/* --- printing ---------------------------------------------------------------------------- */

static void print_entry(struct list *list, const struct record *record, bool is_first)
{
	struct output *output = &list->output;
	char name[ENVNAME_SIZE];

	switch (list->format) {
	case LIST_LINES:
	case LIST_KEYS:
		output_escaped(output, record->key, record->key_len);
		if (list->format == LIST_LINES) {
			output_text(output, "\t");
			output_escaped(output, record->value, record->value_len);
		}
		output_text(output, "\n");
		return;
	case LIST_JSON:
		output_text(output, is_first ? "{" : ",\n ");
		output_json(output, record->key, record->key_len);
		output_text(output, ": ");
		output_json(output, record->value, record->value_len);
		return;
	case LIST_ENV:
		output_text(output, "export ");
		output_text(output, envname_of(record->key, record->key_len, name));
		output_text(output, "=");
		output_shell(output, record->value, record->value_len);
		output_text(output, "\n");
		return;
	case LIST_ENV_FILE:
		output_text(output, envname_of(record->key, record->key_len, name));
		output_text(output, "=");
		output_env_file(output, record->value, record->value_len);
		output_text(output, "\n");
		return;
	case LIST_NUL:
		output_bytes(output, record->key, record->key_len + 1);
		output_bytes(output, record->value, record->value_len + 1);
		return;
	}
}

static void complain_about_values(const struct list *list)
{
	char key[128];

	message_fail(list->query.context->name, EXIT_DONE,
		"left out %zu values that no variable can hold, the first of key %s: "
		"read them with: consulcfg-get %s KEY",
		list->n_left_out,
		key_escape(list->left_out, strlen(list->left_out), key, sizeof(key)),
		list->query.service);
}

static int print(struct list *list)
{
	size_t off = 0;
	struct record record;

	for (bool is_first = true; next(list, &off, &record); is_first = false) {
		if (is_representable(list, &record))
			print_entry(list, &record, is_first);
		else if (list->n_left_out++ == 0)
			list->left_out = record.key;
	}
	if (list->format == LIST_JSON)
		output_text(&list->output, "}\n");
	if (list->n_left_out > 0)
		complain_about_values(list);
	return message_written(
		list->query.context->name, output_flush(&list->output, STDOUT_FILENO));
}

static int judge(struct list *list)
{
	char prefix[128];
	int exit_code = EXIT_DONE;

	if (list->pages.records.n == 0) {
		if (list->prefix[0] == '\0')
			return message_fail(list->query.context->name, EXIT_NOTHING,
				"service %s has no keys: see where they are looked for with: "
				"consulcfg-status --json %s",
				list->query.service, list->query.service);
		return message_fail(list->query.context->name, EXIT_NOTHING,
			"service %s has no keys below %s: see all with: consulcfg-list --keys %s",
			list->query.service,
			key_escape(list->prefix, strlen(list->prefix), prefix, sizeof(prefix)),
			list->query.service);
	}
	if (list->format == LIST_ENV || list->format == LIST_ENV_FILE)
		exit_code = check_names(list);
	return exit_code == EXIT_DONE ? print(list) : exit_code;
}

/* 0: go on; else an exit code. */
static int take_option(struct list *list, struct args *args, int code, const char *argument)
{
	if (code == 't') {
		if (verb_timeout(argument, &list->query.timeout_usec) < 0)
			return verb_usage(args->context, "-t %.40s is no time", argument);
		return 0;
	}
	if (list->format != LIST_LINES)
		return verb_usage(args->context,
			"--keys, --json, --env, --env-file and -0 exclude each other");
	list->format = code == '0' ? LIST_NUL : (enum format)code;
	return 0;
}

static int run_list(struct list *list, struct args *args)
{
	const char *argument = NULL;
	int code, r;

	while ((code = verb_next(args, &argument)) > 0) {
		r = take_option(list, args, code, argument);
		if (r != 0)
			return r;
	}
	if (code == VERB_EXIT)
		return args->exit_code;
	if (args->n_operands < 1 || args->n_operands > 2)
		return verb_usage(args->context, "give a service and at most one prefix");
	if (!key_is_service_name(args->argv[0], strlen(args->argv[0])))
		return verb_bad_service(args->context, args->argv[0]);
	list->query.service = args->argv[0];
	list->prefix = args->n_operands > 1 ? args->argv[1] : "";
	if (strlen(list->prefix) > LIMIT_KEY)
		return verb_usage(args->context, "a prefix has at most %d bytes", LIMIT_KEY);
	r = query_run(&list->query, attempt, list);
	if (r < 0)
		return query_fail(&list->query, r);
	query_done(&list->query);
	return judge(list);
}

static int run(struct context *context, struct args *args)
{
	struct list list = {
		.query = { .context = context, .timeout_usec = DEFAULT_QUERY_USEC },
		.format = LIST_LINES,
	};
	int exit_code = run_list(&list, args);

	pages_done(&list.pages);
	output_done(&list.output);
	return exit_code;
}

const struct verb cmd_list = {
	.name = "list",
	.operands = "SERVICE [PREFIX]",
	.summary = "Print the keys of a service and their values, all of one generation.",
	.options = options,
	.run = run,
};
