/*
 * consulcfg: finds the verb, in argv[0] (consulcfg-get) or in the first word (consulcfg get).
 */
#include <fcntl.h>
#include <stdio.h>

#include "client/tools/commands.h"
#include "client/tools/message.h"

#define PROGRAM "consulcfg"

static const struct verb *const verbs[] = {
	&cmd_get,
	&cmd_list,
	&cmd_watch,
	&cmd_exec,
	&cmd_render,
	&cmd_explain,
	&cmd_check,
	&cmd_status,
	&cmd_accept,
	&cmd_resync,
	&cmd_history,
	&cmd_diff,
	&cmd_freeze,
	&cmd_thaw,
	&cmd_override,
	&cmd_forget,
	&cmd_dump,
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (std_streq(verbs[i]->name, name))
			return verbs[i];
	return NULL;
}

/* The verb in the name that the program was started by, or NULL. */
static const struct verb *find_verb_of_link(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	size_t len = strlen(PROGRAM "-");

	return strncmp(name, PROGRAM "-", len) == 0 ? find_verb(name + len) : NULL;
}

static int run_verb(struct context *context, const struct verb *verb, int argc, char *argv[])
{
	char name[32];
	struct args args;

	snprintf(name, sizeof(name), PROGRAM "-%s", verb->name);
	context->name = name;
	verb_begin(&args, context, verb, argc, argv);
	return verb->run(context, &args);
}

static void print_verbs(void)
{
	dprintf(STDOUT_FILENO, "\nverbs (also as " PROGRAM "-VERB; each has a --help):\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		dprintf(STDOUT_FILENO, "  %-21s %s\n", verbs[i]->name, verbs[i]->summary);
}

/* `consulcfg [OPTIONS] VERB …` */
static int run_program(struct context *context, struct args *args)
{
	const char *argument;
	const struct verb *verb;

	if (verb_next(args, &argument) == VERB_EXIT)
		return args->exit_code;
	if (args->at == args->argc)
		return verb_usage(context, "give a verb");
	verb = find_verb(args->argv[args->at]);
	if (!verb)
		return verb_usage(context, "unknown verb %.40s", args->argv[args->at]);
	return run_verb(context, verb, args->argc - args->at - 1, args->argv + args->at + 1);
}

/* A stream that is closed stays so: else what is opened first, a connection or a new file, has its
 * number, and is written to in its place. */
static void keep_streams_apart(void)
{
	int fd;

	do
		fd = open("/dev/null", O_PATH | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	std_closep(&fd);
}

int main(int argc, char *argv[])
{
	static const struct option no_options[] = { { 0 } };
	static const struct verb program = {
		.name = PROGRAM,
		.operands = "VERB ...",
		.summary = "Read the configuration that consulcfgd keeps on this host.",
		.options = no_options,
		.print_more = print_verbs,
	};
	struct context context = { .name = PROGRAM };
	const struct verb *verb;
	struct args args;

	if (argc < 1)
		return EXIT_USAGE;
	keep_streams_apart();
	verb = find_verb_of_link(argv[0]);
	if (verb)
		return run_verb(&context, verb, argc - 1, argv + 1);
	verb_begin(&args, &context, &program, argc - 1, argv + 1);
	args.stops_at_operand = true;
	return run_program(&context, &args);
}
