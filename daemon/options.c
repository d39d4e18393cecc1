/*
 * The command line. Knows the options' names and that each needs its argument; what an argument
 * means is judged by config_load(), where the same settings from other places are judged.
 */
#include "daemon/options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>

#ifndef CONSULCFGD_VERSION
#error "CONSULCFGD_VERSION is given by the build"
#endif

enum {
	OPTION_CONFIG = 256, /* above every character that getopt_long() answers by itself */
	OPTION_SET,
	OPTION_SOURCE,
	OPTION_SOCKET,
	OPTION_STATE_DIRECTORY,
	OPTION_RUNTIME_DIRECTORY,
	OPTION_LOG_LEVEL,
	OPTION_CHECK,
	OPTION_VERSION,
	OPTION_HELP,
};

static const struct option long_options[] = {
	{ "config", required_argument, NULL, OPTION_CONFIG },
	{ "set", required_argument, NULL, OPTION_SET },
	{ "source", required_argument, NULL, OPTION_SOURCE },
	{ "socket", required_argument, NULL, OPTION_SOCKET },
	{ "state-directory", required_argument, NULL, OPTION_STATE_DIRECTORY },
	{ "runtime-directory", required_argument, NULL, OPTION_RUNTIME_DIRECTORY },
	{ "log-level", required_argument, NULL, OPTION_LOG_LEVEL },
	{ "check", no_argument, NULL, OPTION_CHECK },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ NULL, 0, NULL, 0 },
};

static const char help[] =
	"usage: consulcfgd [OPTIONS]\n"
	"Keeps the configuration of this host's services in memory, live from Consul.\n"
	"\n"
	"  --config FILE              read FILE and FILE.d/*.conf instead of\n"
	"                             /etc/consulcfgd/consulcfgd.conf\n"
	"  --set SECTION.KEY=VALUE    a setting as in the file; wins over it\n"
	"  --source SOURCE            consul, consul:URL or dir:PATH\n"
	"  --socket PATH              listen on PATH\n"
	"  --state-directory DIR      for what outlives a reboot\n"
	"  --runtime-directory DIR    for what outlives a restart\n"
	"  --log-level LEVEL          error, warning, info or debug\n"
	"  --check                    read the configuration, look at the files that it\n"
	"                             names, say what is wrong, and exit\n"
	"  --version                  show the version and exit\n"
	"  --help                     show this and exit\n"
	"\n"
	"See consulcfgd(8) and consulcfgd.conf(5).\n";

static int PRINTF_FORMAT(1, 2) usage_error(const char *format, ...)
{
	va_list args;

	fputs("consulcfgd: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("; see consulcfgd --help\n", stderr);
	return -EINVAL;
}

static int add_set(struct options *options, const char *text)
{
	if (options->n_sets == ARRAY_SIZE(options->sets))
		return usage_error(
			"more than %d times --set, write a configuration file", OPTIONS_MAX_SETS);
	options->sets[options->n_sets++] = text;
	return 0;
}

/* 0, 1 or -EINVAL as options_parse(). */
static int take_option(struct options *options, int option, char *argument)
{
	switch (option) {
	case OPTION_CONFIG:
		options->config_file = argument;
		return 0;
	case OPTION_SET:
		return add_set(options, argument);
	case OPTION_SOURCE:
		options->source = argument;
		return 0;
	case OPTION_SOCKET:
		options->socket_path = argument;
		return 0;
	case OPTION_STATE_DIRECTORY:
		options->state_directory = argument;
		return 0;
	case OPTION_RUNTIME_DIRECTORY:
		options->runtime_directory = argument;
		return 0;
	case OPTION_LOG_LEVEL:
		options->log_level = argument;
		return 0;
	case OPTION_CHECK:
		options->check = true;
		return 0;
	case OPTION_VERSION:
		puts("consulcfgd " CONSULCFGD_VERSION);
		return 1;
	case OPTION_HELP:
		fputs(help, stdout);
		return 1;
	}
	return -EINVAL;
}

/* What getopt_long() did not like about the word it just read. */
static int refuse(int reason, const char *word)
{
	if (reason == ':')
		return usage_error("%s needs an argument", word);
	if (optopt >= OPTION_CONFIG)
		return usage_error("'%s': this option takes no argument", word);
	if (optopt != 0)
		return usage_error("-%c is not an option", optopt);
	return usage_error("'%s' is not an option", word);
}

int options_parse(int argc, char *argv[], struct options *ret_options)
{
	struct options options = { 0 };
	int option, r;

	opterr = 0;
	optind = 0; /* makes glibc start over: tests parse many lines in one process */
	/* The leading '+' and ':': stop at the first word that is no option; tell a missing
	 * argument from an unknown option. */
	while ((option = getopt_long(argc, argv, "+:", long_options, NULL)) != -1) {
		if (option == ':' || option == '?')
			return refuse(option, argv[optind - 1]);
		r = take_option(&options, option, optarg);
		if (r != 0)
			return r;
	}
	if (optind < argc)
		return usage_error("'%s' is one word too many", argv[optind]);
	*ret_options = options;
	return 0;
}
