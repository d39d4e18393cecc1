#include "client/tools/verb.h"

#include <stdarg.h>
#include <stdio.h>

#include "client/tools/message.h"
#include "proto/key.h"
#include "proto/limits.h"
#include "proto/value.h"

enum { CODE_HELP = 0x1000, CODE_VERSION, CODE_SOCKET };

#define HELP_COLUMN 24

static const struct option common_options[] = {
	{ CODE_SOCKET, "socket", "PATH",
		"the daemon's socket (else $CONSULCFG_SOCKET, /run/consulcfgd/socket)" },
	{ CODE_HELP, "help", NULL, "show this and exit" },
	{ CODE_VERSION, "version", NULL, "show the version and exit" },
	{ 0 },
};

void verb_begin(
	struct args *args, struct context *context, const struct verb *verb, int argc, char *argv[])
{
	*args = (struct args){
		.context = context,
		.verb = verb,
		.argc = argc,
		.argv = argv,
		.n_before_dashes = -1,
	};
}

int verb_usage(const struct context *context, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	return message_fail(context->name, EXIT_USAGE, "%s: try %s --help", text, context->name);
}

int verb_bad_service(const struct context *context, const char *name)
{
	char shown[LIMIT_SERVICE_NAME + 32];

	return verb_usage(context,
		"'%s' is not a service name (letters, digits, '.', '_', '-', at most %d)",
		key_escape(name, strlen(name), shown, sizeof(shown)), LIMIT_SERVICE_NAME);
}

static void print_options(const struct option *options)
{
	for (const struct option *o = options; o->code != 0; o++) {
		char letter[] = { '-', (char)o->code, '\0' };
		char left[64];

		snprintf(left, sizeof(left), "  %s%s%s%s%s%s", o->code < 256 ? letter : "",
			o->code < 256 && o->name ? ", " : "", o->name ? "--" : "",
			o->name ? o->name : "", o->argument ? " " : "",
			o->argument ? o->argument : "");
		dprintf(STDOUT_FILENO, "%-*s %s\n", HELP_COLUMN, left, o->help);
	}
}

static void print_help(const struct args *args)
{
	dprintf(STDOUT_FILENO, "usage: %s [OPTIONS] %s\n%s\n\n", args->context->name,
		args->verb->operands, args->verb->summary);
	print_options(args->verb->options);
	print_options(common_options);
	if (args->verb->print_more)
		args->verb->print_more();
	dprintf(STDOUT_FILENO, "\nSee consulcfg(1) for output formats and exit codes.\n");
}

static int leave(struct args *args, int exit_code)
{
	args->exit_code = exit_code;
	return VERB_EXIT;
}

static const struct option *find_name(
	const struct option *options, const char *name, size_t name_len)
{
	for (; options->code != 0; options++)
		if (options->name && strlen(options->name) == name_len &&
			memcmp(options->name, name, name_len) == 0)
			return options;
	return NULL;
}

static const struct option *find_letter(const struct option *options, char letter)
{
	for (; options->code != 0; options++)
		if (options->code == letter)
			return options;
	return NULL;
}

/* Options of every verb are done here; others go to the caller. 0: done. */
static int take(struct args *args, const struct option *option, const char *argument)
{
	switch (option->code) {
	case CODE_HELP:
		print_help(args);
		return leave(args, EXIT_DONE);
	case CODE_VERSION:
		dprintf(STDOUT_FILENO, "consulcfg %s\n", CONSULCFGD_VERSION);
		return leave(args, EXIT_DONE);
	case CODE_SOCKET:
		args->context->socket_path = argument;
		return 0;
	}
	return option->code;
}

/* --name, --name=ARGUMENT, --name ARGUMENT */
static int take_name(struct args *args, const char *word, const char **ret_argument)
{
	const char *name = word + 2, *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct option *option = find_name(args->verb->options, name, len);
	const char *argument = equals ? equals + 1 : NULL;

	if (!option)
		option = find_name(common_options, name, len);
	if (!option)
		return leave(args, verb_usage(args->context, "unknown option %.40s", word));
	if (!option->argument && argument)
		return leave(args,
			verb_usage(args->context, "option --%s takes no argument", option->name));
	if (option->argument && !argument) {
		if (args->at == args->argc)
			return leave(args, verb_usage(args->context, "option --%s needs %s",
						   option->name, option->argument));
		argument = args->argv[args->at++];
	}
	*ret_argument = argument;
	return take(args, option, argument);
}

/* -x, -xy, -xARGUMENT, -x ARGUMENT */
static int take_letter(struct args *args, const char **ret_argument)
{
	char letter = *args->letters++;
	const struct option *option = find_letter(args->verb->options, letter);

	if (!option)
		return leave(args, verb_usage(args->context, "unknown option -%c", letter));
	if (!option->argument) {
		if (*args->letters == '\0')
			args->letters = NULL;
		return option->code;
	}
	if (*args->letters != '\0')
		*ret_argument = args->letters;
	else if (args->at < args->argc)
		*ret_argument = args->argv[args->at++];
	else
		return leave(args,
			verb_usage(args->context, "option -%c needs %s", letter, option->argument));
	args->letters = NULL;
	return option->code;
}

int verb_next(struct args *args, const char **ret_argument)
{
	while (args->letters || args->at < args->argc) {
		char *word;
		int code = 0;

		if (args->letters)
			return take_letter(args, ret_argument);
		word = args->argv[args->at++];
		if (args->only_operands || word[0] != '-' || word[1] == '\0') {
			if (args->stops_at_operand) {
				args->at--;
				return 0;
			}
			args->argv[args->n_operands++] = word;
		} else if (std_streq(word, "--")) {
			args->only_operands = true;
			args->n_before_dashes = args->n_operands;
		} else if (word[1] == '-') {
			code = take_name(args, word, ret_argument);
		} else {
			args->letters = word + 1;
		}
		if (code != 0)
			return code;
	}
	return 0;
}

char **verb_words(struct args *args, int first)
{
	args->argv[args->n_operands] = NULL;
	return args->argv + first;
}

int verb_timeout(const char *text, uint64_t *ret_usec)
{
	if (std_streq(text, "infinity")) {
		*ret_usec = UINT64_MAX;
		return 0;
	}
	return value_duration_us(text, strlen(text), ret_usec) < 0 ? -EINVAL : 0;
}
