/*
 * consulcfg check: holds the configuration of a service against a schema, before it is pushed or
 * used. Reads the source by a private daemon, so that layers are what they will be.
 */
#include <fcntl.h>
#include <stdio.h>

#include "client/tools/commands.h"

#include "client/lib/clock.h"
#include "client/tools/message.h"
#include "client/tools/private-daemon.h"
#include "client/tools/query.h"
#include "client/tools/runner.h"
#include "proto/key.h"
#include "proto/limits.h"
#include "proto/schema.h"

enum { CHECK_SCHEMA = 256 };

static const struct option options[] = {
	{ CHECK_SCHEMA, "schema", "FILE", "the schema; see consulcfgd.conf(5)" },
	{ 't', NULL, "SECONDS", "wait so long for the source (5; 0; infinity)" },
	{ 0 },
};

struct check {
	struct context *context;
	const char *file, *source, *service;
	uint64_t timeout_usec;
	struct schema *schema;
	size_t n_bad;
};

static int fail(const struct check *check, const char *what, const char *why)
{
	return message_fail(check->context->name, EXIT_OTHER, "%.200s: %s", what, why);
}

static int read_schema(struct check *check)
{
	AUTO_CLOSE int fd = open(check->file, O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *text = malloc(LIMIT_SCHEMA + 1);
	char message[SCHEMA_MESSAGE];
	size_t len = 0;
	ssize_t n = -1;
	int r;

	if (!text)
		return fail(check, check->file, strerror(ENOMEM));
	while (fd >= 0 && len <= LIMIT_SCHEMA &&
		(n = read(fd, text + len, LIMIT_SCHEMA + 1 - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return fail(check, check->file, strerror(errno));
	r = schema_parse(text, len, &check->schema, message);
	if (r < 0)
		return fail(check, check->file, r == -EINVAL ? message : strerror(-r));
	return EXIT_DONE;
}

static void say(struct check *check, const struct schema_check *schema_check)
{
	check->n_bad++;
	dprintf(STDOUT_FILENO, "%s\n", schema_check->message);
}

static int check_entry(struct schema_check *schema_check, const struct record *entry)
{
	int r;

	do {
		schema_check->cost = 0;
		r = schema_check_entry(schema_check, entry);
	} while (r > 0);
	return r;
}

static int check_view(struct check *check, const ccfg_view *view)
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	struct schema_check schema_check;
	size_t cursor = 0;

	if (schema_check_init(&schema_check, check->schema) < 0)
		return fail(check, check->service, strerror(ENOMEM));
	while (ccfg_view_next(view, "", &cursor, &entry)) {
		const struct record record = {
			.key = entry.key,
			.key_len = (uint32_t)entry.key_len,
			.value = entry.value,
			.value_len = (uint32_t)entry.value_len,
		};

		if (check_entry(&schema_check, &record) < 0)
			say(check, &schema_check);
	}
	cursor = 0;
	while (schema_check_end(&schema_check, &cursor) < 0)
		say(check, &schema_check);
	schema_check_done(&schema_check);
	if (check->n_bad == 0)
		return EXIT_DONE;
	return message_fail(check->context->name, EXIT_OTHER,
		"service %s breaks the schema %.200s in %zu place%s: correct the values, or the schema",
		check->service, check->file, check->n_bad, check->n_bad == 1 ? "" : "s");
}

static int check_daemon(struct check *check, struct runner *runner, const char *socket_path)
{
	const struct ccfg_options open_options = {
		.size = sizeof(open_options),
		.socket_path = socket_path,
		.flags = CCFG_NOWAIT | CCFG_NO_BACKUP,
	};
	int r, exit_code = EXIT_AWAY;
	ccfg *cfg = NULL;

	r = ccfg_open(check->service, &open_options, &cfg);
	if (r == 0)
		r = runner_wait_data(runner, cfg, clock_after_usec(check->timeout_usec));
	if (r == 0) {
		const ccfg_view *view = ccfg_pin(cfg);

		exit_code = check_view(check, view);
		ccfg_unpin(view);
	} else if (r != -EINTR) {
		message_fail(check->context->name, EXIT_AWAY,
			"no data for %s from %.100s in time: see the messages of the private "
			"daemon above, or give more time with -t",
			check->service, check->source);
	}
	ccfg_close(cfg);
	return exit_code;
}

/* A signal that ends this process waits until the private daemon and its directory are gone. */
static int check_service(struct check *check)
{
	const struct runner_plan plan = { .name = check->context->name, .keys = "", .prefix = "" };
	struct private_daemon daemon;
	struct runner runner;
	int r, exit_code = EXIT_OTHER;

	r = runner_init(&runner, &plan);
	if (r < 0)
		message_fail(check->context->name, EXIT_OTHER, "%s", strerror(-r));
	else if (private_daemon_start(&daemon, check->source) < 0)
		message_fail(check->context->name, EXIT_OTHER, "%s", daemon.trouble);
	else {
		runner.bystander = daemon.pid;
		exit_code = check_daemon(check, &runner, daemon.socket);
		daemon.pid = runner.bystander;
		private_daemon_stop(&daemon);
	}
	return runner_done(&runner, exit_code);
}

static int run_check(struct check *check, struct args *args)
{
	const char *argument;
	int code, exit_code;

	while ((code = verb_next(args, &argument)) > 0) {
		if (code == CHECK_SCHEMA)
			check->file = argument;
		else if (verb_timeout(argument, &check->timeout_usec) < 0)
			return verb_usage(args->context, "-t %.40s is no time", argument);
	}
	if (code == VERB_EXIT)
		return args->exit_code;
	if (!check->file || args->n_operands != 2)
		return verb_usage(args->context, "give --schema, a source and a service");
	check->source = args->argv[0];
	check->service = args->argv[1];
	if (!key_is_service_name(check->service, strlen(check->service)))
		return verb_bad_service(args->context, check->service);
	exit_code = read_schema(check);
	return exit_code == EXIT_DONE ? check_service(check) : exit_code;
}

static int run(struct context *context, struct args *args)
{
	struct check check = { .context = context, .timeout_usec = DEFAULT_QUERY_USEC };
	int exit_code = run_check(&check, args);

	schema_free(check.schema);
	return exit_code;
}

const struct verb cmd_check = {
	.name = "check",
	.operands = "SOURCE SERVICE",
	.summary = "Hold the configuration of a service against a schema; needs no daemon.",
	.options = options,
	.run = run,
};
