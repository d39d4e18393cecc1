/*
 * consulcfg render: keeps a file as the configuration says, and runs a command when it is another.
 */
#include <fcntl.h>
#include <stdio.h>

#include "client/tools/commands.h"

#include "client/tools/child.h"
#include "client/tools/hook.h"
#include "client/tools/message.h"
#include "client/tools/opener.h"
#include "client/tools/query.h"
#include "client/tools/rendering.h"
#include "client/tools/settle.h"
#include "client/tools/target.h"
#include "proto/key.h"
#include "proto/limits.h"
#include "proto/value.h"

enum { RENDER_FORMAT = 256, RENDER_TEMPLATE, RENDER_MODE, RENDER_CHECK, RENDER_ONCE, RENDER_SPLAY };

static const struct option options[] = {
	{ 't', NULL, "SECONDS", "wait so long for the daemon and the first data (5; 0; infinity)" },
	{ RENDER_FORMAT, "format", "FORMAT", "env, json (default), properties, or dir" },
	{ RENDER_TEMPLATE, "template", "FILE", "a text with ${db/url} where values go" },
	{ RENDER_MODE, "mode", "MODE", "of the file (that of the old one, else 0600)" },
	{ RENDER_CHECK, "check", "COMMAND",
		"a shell command that must find the new file, $1, good" },
	{ RENDER_ONCE, "once", NULL, "exit after the file is written" },
	{ RENDER_SPLAY, "splay", "DURATION", "act within this time after a change, by chance (0)" },
	{ 0 },
};

struct render {
	struct context *context;
	const char *service;
	uint64_t timeout_usec, splay_usec;
	enum rendering_format format;
	bool has_format;
	const char *template; /* a path */
	const char *check;
	bool once;
	struct target target;
	struct hook hook; /* argv NULL: none */
	bool is_owed; /* it has not done yet with what is in place */
};

static int fail(const struct render *render, const char *text)
{
	return message_fail(render->context->name, EXIT_OTHER, "%s", text);
}

/* --- one rendering ------------------------------------------------------------------------------
 */

static int read_template(const struct render *render, struct output *text)
{
	AUTO_CLOSE int fd = open(render->template, O_RDONLY | O_CLOEXEC);
	char buf[16384];
	ssize_t n = -1;

	while (fd >= 0 && (n = read(fd, buf, sizeof(buf))) > 0 && text->len <= LIMIT_TEMPLATE)
		output_bytes(text, buf, (size_t)n);
	if (n < 0)
		return message_fail(render->context->name, EXIT_OTHER, "cannot read %.200s: %s",
			render->template, strerror(errno));
	if (text->len > LIMIT_TEMPLATE || (text->len > 0 && memchr(text->data, '\0', text->len)))
		return message_fail(render->context->name, EXIT_OTHER,
			"%.200s is no template: it is above 1 MB or has NUL bytes in it",
			render->template);
	output_bytes(text, "", 1);
	return text->has_failed ? fail(render, "out of memory") : EXIT_DONE;
}

static int make_text(const struct render *render, const ccfg_view *view, struct output *output)
{
	struct output template = { 0 };
	char trouble[512];
	int r, exit_code = EXIT_DONE;

	if (render->template)
		exit_code = read_template(render, &template);
	if (exit_code == EXIT_DONE) {
		r = rendering_make(render->format, template.data, view, output, trouble);
		if (r < 0)
			exit_code = message_fail(render->context->name, EXIT_OTHER,
				"%s: %s stays as it was", r == -EINVAL ? trouble : strerror(-r),
				render->target.path);
	}
	output_done(&template);
	return exit_code;
}

/* Runs the check over what is at target.fresh. */
static int check(const struct render *render)
{
	char shell[] = "/bin/sh", option[] = "-c", name[] = "sh";
	char *argv[] = { shell, option, strdup(render->check), name, render->target.fresh, NULL };
	const struct hook hook = { render->context->name, render->context->socket_path, argv };
	const struct hook_variable variables[] = {
		{ "CONSULCFG_SERVICE", render->service },
		{ "CONSULCFG_FILE", render->target.fresh },
		{ NULL, NULL },
	};
	int r = argv[2] ? hook_run(&hook, variables, NULL, 0, NULL) : -ENOMEM;

	free(argv[2]);
	if (r == 0)
		return EXIT_DONE;
	return message_fail(render->context->name, EXIT_OTHER,
		"the check refused the new %s: the old one stays", render->target.path);
}

/* Runs the command; what it has done is not owed any more, also when this process is to end now. */
static int run_command(struct render *render)
{
	const struct hook_variable variables[] = {
		{ "CONSULCFG_SERVICE", render->service },
		{ "CONSULCFG_FILE", render->target.path },
		{ NULL, NULL },
	};
	int exit_code = EXIT_OTHER;
	sigset_t signals;

	if (hook_run(&render->hook, variables, NULL, 0, &signals) == 0) {
		render->is_owed = false;
		exit_code = target_settle(&render->target) < 0
				    ? fail(render, render->target.trouble)
				    : EXIT_DONE;
	}
	child_release(&signals);
	return exit_code;
}

static int write_target(
	struct render *render, const ccfg_view *view, const struct output *text, bool *ret_is_same)
{
	struct target *target = &render->target;
	int r;

	*ret_is_same = target->is_directory ? target_is_same_view(target, view)
					    : target_is_same(target, text->data, text->len);
	if (*ret_is_same)
		return EXIT_DONE;
	r = target->is_directory ? target_write_view(target, view)
				 : target_write(target, text->data, text->len);
	return r < 0 ? fail(render, target->trouble) : EXIT_DONE;
}

/* Puts what was written in its place; from then on the command is owed. */
static int replace(struct render *render)
{
	struct target *target = &render->target;
	bool was_owed = target_is_owed(target);

	if (render->hook.argv && target_owe(target) < 0) {
		fail(render, target->trouble);
		if (!was_owed)
			target_settle(target);
		target_drop(target);
		return EXIT_OTHER;
	}
	if (target_commit(target) < 0) {
		fail(render, target->trouble);
		if (render->hook.argv && !was_owed)
			target_settle(target);
		return EXIT_OTHER;
	}
	render->is_owed = true;
	return EXIT_DONE;
}

/* True in *ret_again: another attempt may do without a change. */
static int render_view(struct render *render, const ccfg_view *view, bool *ret_again)
{
	struct output text = { 0 };
	bool is_same = false;
	int exit_code = EXIT_DONE;

	*ret_again = false;
	if (!render->target.is_directory)
		exit_code = make_text(render, view, &text);
	if (exit_code == EXIT_DONE) {
		exit_code = write_target(render, view, &text, &is_same);
		*ret_again = exit_code != EXIT_DONE;
	}
	output_done(&text);
	if (exit_code != EXIT_DONE || is_same)
		return exit_code;
	if (render->check && check(render) != EXIT_DONE) {
		target_drop(&render->target);
		return EXIT_OTHER;
	}
	exit_code = replace(render);
	*ret_again = exit_code != EXIT_DONE;
	return exit_code;
}

/*
 * One attempt. The command is owed as long as it has not done with what is in place, also by an
 * earlier process, and whether there is a newer rendering or not.
 */
static int attempt(struct render *render, const ccfg_view *view, bool *ret_again)
{
	struct target *target = &render->target;
	int exit_code, told;

	*ret_again = true;
	if (target_look(target) < 0)
		return fail(render, target->trouble);
	exit_code = render_view(render, view, ret_again);
	render->is_owed |= target_is_owed(target);
	if (!render->hook.argv || !render->is_owed)
		return exit_code;
	told = run_command(render);
	return exit_code != EXIT_DONE ? exit_code : told;
}

static int follow(struct render *render, ccfg *cfg)
{
	for (;;) {
		const ccfg_view *view = ccfg_pin(cfg);
		uint64_t generation = ccfg_view_generation(view);
		bool again;
		int exit_code = attempt(render, view, &again), r;

		ccfg_unpin(view);
		if (render->once)
			return exit_code;
		do
			r = ccfg_wait(cfg, generation, again ? LIMIT_RENDER_AGAIN_MS : -1);
		while (r == -EINTR);
		if (r == 0) {
			settle_splay(render->splay_usec);
			settle_wait(cfg);
		}
	}
}

/* --- the command line ---------------------------------------------------------------------------
 */

static int take_mode(struct render *render, const char *argument)
{
	size_t len = strlen(argument);

	if (len < 3 || len > 4 || strspn(argument, "01234567") != len)
		return verb_usage(render->context, "--mode %.40s is no mode, as 0640 is", argument);
	render->target.mode = (mode_t)strtoul(argument, NULL, 8);
	render->target.has_mode = true;
	return 0;
}

static int take_format(struct render *render, const char *argument)
{
	if (rendering_format(argument, &render->format) < 0)
		return verb_usage(render->context,
			"--format %.40s is not env, json, properties or dir", argument);
	render->has_format = true;
	return 0;
}

/* 0: go on; else an exit code. */
static int take_option(struct render *render, int code, const char *argument)
{
	switch (code) {
	case 't':
		if (verb_timeout(argument, &render->timeout_usec) < 0)
			return verb_usage(render->context, "-t %.40s is no time", argument);
		return 0;
	case RENDER_FORMAT:
		return take_format(render, argument);
	case RENDER_TEMPLATE:
		render->template = argument;
		render->format = RENDERING_TEMPLATE;
		return 0;
	case RENDER_MODE:
		return take_mode(render, argument);
	case RENDER_CHECK:
		render->check = argument;
		return 0;
	case RENDER_ONCE:
		render->once = true;
		return 0;
	case RENDER_SPLAY:
		if (value_duration_us(argument, strlen(argument), &render->splay_usec) < 0)
			return verb_usage(
				render->context, "--splay %.40s is no duration", argument);
		return 0;
	}
	return 0;
}

static int take_command(struct render *render, struct args *args)
{
	int r;

	if (args->n_before_dashes < 0)
		return 0;
	if (args->n_operands == args->n_before_dashes)
		return verb_usage(args->context, "give a command behind --");
	render->hook.argv = verb_words(args, args->n_before_dashes);
	r = hook_check(&render->hook);
	if (r != 0)
		return message_fail(args->context->name, EXIT_OTHER,
			"cannot run %.200s: %s: give a program that exists and may be executed",
			render->hook.argv[0], strerror(r));
	return 0;
}

static int take_operands(struct render *render, struct args *args)
{
	int n = args->n_before_dashes >= 0 ? args->n_before_dashes : args->n_operands;

	if (n != 2)
		return verb_usage(args->context, "give a service and a file");
	if (!key_is_service_name(args->argv[0], strlen(args->argv[0])))
		return verb_bad_service(args->context, args->argv[0]);
	if (render->template && render->has_format)
		return verb_usage(args->context, "--format and --template exclude each other");
	render->service = args->argv[0];
	render->target.path = args->argv[1];
	render->target.is_directory = render->format == RENDERING_DIR;
	render->hook.name = args->context->name;
	render->hook.socket_path = args->context->socket_path;
	return take_command(render, args);
}

static int run_render(struct render *render, struct args *args)
{
	const char *argument = NULL;
	ccfg *cfg = NULL;
	int code, r;

	while ((code = verb_next(args, &argument)) > 0) {
		r = take_option(render, code, argument);
		if (r != 0)
			return r;
	}
	if (code == VERB_EXIT)
		return args->exit_code;
	r = take_operands(render, args);
	if (r != 0)
		return r;
	if (target_init(&render->target) < 0)
		return fail(render, render->target.trouble);
	r = opener_open(render->context, render->service, render->timeout_usec, 0, &cfg);
	if (r < 0)
		return opener_complain(render->context, render->service, render->timeout_usec, r);
	r = follow(render, cfg);
	ccfg_close(cfg);
	return r;
}

static int run(struct context *context, struct args *args)
{
	struct render render = {
		.context = context,
		.timeout_usec = DEFAULT_QUERY_USEC,
		.format = RENDERING_JSON,
		.target = { .folder = -1, .fd = -1 },
	};
	int exit_code = run_render(&render, args);

	target_done(&render.target);
	return exit_code;
}

const struct verb cmd_render = {
	.name = "render",
	.operands = "SERVICE FILE [-- COMMAND [ARG...]]",
	.summary = "Keep a file as the configuration says and run a command when it changes.",
	.options = options,
	.run = run,
};
