/*
 * consulcfg exec: runs a command with the keys of a service as environment variables.
 */
#include <ctype.h>

#include "client/tools/commands.h"

#include "client/lib/clock.h"
#include "client/lib/link.h"
#include "client/tools/child.h"
#include "client/tools/message.h"
#include "client/tools/opener.h"
#include "client/tools/private-daemon.h"
#include "client/tools/query.h"
#include "client/tools/runner.h"
#include "proto/key.h"
#include "proto/limits.h"
#include "proto/value.h"

#define EXIT_OWN_FAILURE 125

enum {
	EXEC_SOURCE = 256,
	EXEC_ON_CHANGE,
	EXEC_SPLAY,
	EXEC_STOP_TIMEOUT,
	EXEC_MIN_INTERVAL,
	EXEC_KEYS,
	EXEC_ENV_PREFIX,
};

static const struct option options[] = {
	{ 't', NULL, "SECONDS", "wait so long for the daemon and the first data (5; 0; infinity)" },
	{ EXEC_SOURCE, "source", "SOURCE",
		"where there is no daemon run one: consul, consul:URL or dir:PATH" },
	{ EXEC_ON_CHANGE, "on-change", "WHAT", "restart (default), ignore, or a signal: HUP" },
	{ EXEC_SPLAY, "splay", "DURATION", "act within this time after a change, by chance (30s)" },
	{ EXEC_STOP_TIMEOUT, "stop-timeout", "DURATION",
		"from SIGTERM to SIGKILL in a restart (10s)" },
	{ EXEC_MIN_INTERVAL, "min-interval", "DURATION",
		"between two restarts or signals at least (5s)" },
	{ EXEC_KEYS, "keys", "PREFIX", "only keys that start with this" },
	{ EXEC_ENV_PREFIX, "env-prefix", "NAME", "put this in front of each variable" },
	{ 0 },
};

struct exec {
	struct context *context;
	const char *service;
	uint64_t timeout_usec;
	const char *source; /* NULL: only the host's daemon */
	struct runner_plan plan;
	struct private_daemon daemon;
};

/* SIGHUP, HUP; -1: no signal. */
static int signal_of(const char *name)
{
	if (strncmp(name, "SIG", 3) == 0)
		name += 3;
	for (int number = 1; number < SIGRTMIN; number++) {
		const char *known = sigabbrev_np(number);

		if (known && std_streq(known, name))
			return number;
	}
	return -1;
}

static int take_action(struct exec *exec, const char *argument)
{
	if (std_streq(argument, "restart")) {
		exec->plan.action = RUNNER_RESTART;
	} else if (std_streq(argument, "ignore")) {
		exec->plan.action = RUNNER_IGNORE;
	} else {
		exec->plan.action = RUNNER_SIGNAL;
		exec->plan.signal = signal_of(argument);
	}
	if (exec->plan.action == RUNNER_SIGNAL && exec->plan.signal < 0)
		return verb_usage(exec->context,
			"--on-change %.40s is neither restart, ignore nor a signal", argument);
	return 0;
}

static int take_duration(
	struct exec *exec, const char *name, const char *argument, uint64_t *ret_usec)
{
	if (value_duration_us(argument, strlen(argument), ret_usec) < 0)
		return verb_usage(exec->context, "--%s %.40s is no duration", name, argument);
	return 0;
}

static int take_prefix(struct exec *exec, const char *argument)
{
	for (const char *at = argument; *at != '\0'; at++)
		if (!isalpha((unsigned char)*at) && *at != '_' &&
			(at == argument || !isdigit((unsigned char)*at)))
			return verb_usage(exec->context,
				"--env-prefix %.40s does not begin the name of a variable",
				argument);
	exec->plan.prefix = argument;
	return 0;
}

/* 0: go on; else an exit code. */
static int take_option(struct exec *exec, int code, const char *argument)
{
	switch (code) {
	case 't':
		if (verb_timeout(argument, &exec->timeout_usec) < 0)
			return verb_usage(exec->context, "-t %.40s is no time", argument);
		return 0;
	case EXEC_SOURCE:
		exec->source = argument;
		return 0;
	case EXEC_ON_CHANGE:
		return take_action(exec, argument);
	case EXEC_SPLAY:
		return take_duration(exec, "splay", argument, &exec->plan.splay_usec);
	case EXEC_STOP_TIMEOUT:
		return take_duration(exec, "stop-timeout", argument, &exec->plan.stop_usec);
	case EXEC_MIN_INTERVAL:
		return take_duration(exec, "min-interval", argument, &exec->plan.interval_usec);
	case EXEC_KEYS:
		exec->plan.keys = argument;
		return 0;
	case EXEC_ENV_PREFIX:
		return take_prefix(exec, argument);
	}
	return 0;
}

static int take_operands(struct exec *exec, struct args *args)
{
	if (args->n_before_dashes != 1 || args->n_operands < 2)
		return verb_usage(
			args->context, "give a service, then -- and the command with its words");
	if (!key_is_service_name(args->argv[0], strlen(args->argv[0])))
		return verb_bad_service(args->context, args->argv[0]);
	exec->service = args->argv[0];
	exec->plan.argv = verb_words(args, 1);
	return 0;
}

/* --- the configuration ------------------------------------------------------------------------ */

static bool has_daemon(const struct context *context)
{
	struct link link;
	bool is_there;

	if (link_init(&link, context->socket_path) < 0)
		return false;
	is_there = link_connect(&link) == 0;
	link_done(&link);
	return is_there;
}

static int complain_about_wait(const struct exec *exec, int error)
{
	const char *source = exec->source;
	char time[32];

	if (error == -ECHILD)
		return message_fail(exec->context->name, EXIT_OWN_FAILURE,
			"the private daemon for --source=%.100s has ended: see its message above",
			source);
	return message_fail(exec->context->name, EXIT_OWN_FAILURE,
		"no data for %s from --source=%.100s within %s: see the messages of the private "
		"daemon above, or give more time with -t",
		exec->service, source, message_duration(exec->timeout_usec, time, sizeof(time)));
}

static int open_privately(struct exec *exec, struct runner *runner, ccfg **ret_cfg)
{
	const struct ccfg_options open_options = {
		.size = sizeof(open_options),
		.socket_path = exec->daemon.socket,
		.flags = CCFG_NOWAIT | CCFG_NO_BACKUP,
	};
	int r;

	runner->bystander = exec->daemon.pid;
	r = ccfg_open(exec->service, &open_options, ret_cfg);
	if (r == 0)
		r = runner_wait_data(runner, *ret_cfg, clock_after_usec(exec->timeout_usec));
	if (r < 0 && r != -EINTR)
		complain_about_wait(exec, r);
	return r;
}

/* Runs the command over a daemon of its own. */
static int run_privately(struct exec *exec)
{
	int exit_code = EXIT_OWN_FAILURE, r;
	struct runner runner;
	ccfg *cfg = NULL;

	r = runner_init(&runner, &exec->plan);
	if (r == 0)
		r = private_daemon_start(&exec->daemon, exec->source);
	if (r < 0) {
		message_fail(exec->context->name, exit_code, "%s",
			exec->daemon.trouble[0] != '\0' ? exec->daemon.trouble : strerror(-r));
		return runner_done(&runner, exit_code);
	}
	/* The command's own readers find it there. */
	setenv(LINK_ENVIRONMENT, exec->daemon.socket, 1);
	if (open_privately(exec, &runner, &cfg) == 0)
		exit_code = runner_run(&runner, cfg);
	ccfg_close(cfg);
	exec->daemon.pid = runner.bystander;
	private_daemon_stop(&exec->daemon);
	return runner_done(&runner, exit_code);
}

/* Nothing to do beside it: the command takes this process's place. */
static int replace(struct exec *exec, ccfg *cfg)
{
	struct variables variables = { .keys = exec->plan.keys, .prefix = exec->plan.prefix };
	const ccfg_view *view = ccfg_pin(cfg);
	int r = variables_fill(&variables, view), error;

	if (variables.trouble[0] != '\0' || r < 0)
		message_fail(exec->context->name, EXIT_DONE, "%s",
			variables.trouble[0] != '\0' ? variables.trouble : strerror(-r));
	if (r < 0) {
		ccfg_unpin(view);
		variables_done(&variables);
		return EXIT_OWN_FAILURE;
	}
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): there are words */
	execvpe(exec->plan.argv[0], exec->plan.argv, variables.words);
	error = errno;
	ccfg_unpin(view);
	variables_done(&variables);
	return message_fail(exec->context->name, child_exit_code(error),
		"cannot execute %.200s: %s", exec->plan.argv[0], strerror(error));
}

/* Runs the command over the host's daemon. */
static int run_over_daemon(struct exec *exec)
{
	struct runner runner;
	ccfg *cfg = NULL;
	int r, exit_code;

	r = opener_open(exec->context, exec->service, exec->timeout_usec, 0, &cfg);
	if (r < 0) {
		opener_complain(exec->context, exec->service, exec->timeout_usec, r);
		return EXIT_OWN_FAILURE;
	}
	if (exec->plan.action == RUNNER_IGNORE) {
		exit_code = replace(exec, cfg);
		ccfg_close(cfg);
		return exit_code;
	}
	r = runner_init(&runner, &exec->plan);
	exit_code =
		r == 0 ? runner_run(&runner, cfg)
		       : message_fail(exec->context->name, EXIT_OWN_FAILURE, "%s", strerror(-r));
	ccfg_close(cfg);
	return runner_done(&runner, exit_code);
}

static int run_exec(struct exec *exec, struct args *args)
{
	const char *argument = NULL;
	int code, r;

	while ((code = verb_next(args, &argument)) > 0) {
		r = take_option(exec, code, argument);
		if (r != 0)
			return r;
	}
	if (code == VERB_EXIT)
		return args->exit_code;
	r = take_operands(exec, args);
	if (r != 0)
		return r;
	return -1;
}

static int run(struct context *context, struct args *args)
{
	struct exec exec = {
		.context = context,
		.timeout_usec = DEFAULT_QUERY_USEC,
		.plan = {
			.name = context->name,
			.action = RUNNER_RESTART,
			.splay_usec = DEFAULT_SPLAY_USEC,
			.stop_usec = DEFAULT_STOP_USEC,
			.interval_usec = DEFAULT_INTERVAL_USEC,
			.keys = "",
			.prefix = "",
		},
	};
	int exit_code = run_exec(&exec, args);

	if (exit_code >= 0) /* other codes are the command's */
		return exit_code == EXIT_DONE ? EXIT_DONE : EXIT_OWN_FAILURE;
	if (context->socket_path)
		setenv(LINK_ENVIRONMENT, context->socket_path, 1);
	if (!exec.source)
		return run_over_daemon(&exec);
	if (!has_daemon(context))
		return run_privately(&exec);
	message_fail(context->name, EXIT_DONE,
		"there is a daemon on this host: it is used, --source is not");
	return run_over_daemon(&exec);
}

const struct verb cmd_exec = {
	.name = "exec",
	.operands = "SERVICE -- COMMAND [ARG...]",
	.summary = "Run a command with the keys of a service as environment variables.",
	.options = options,
	.run = run,
};
