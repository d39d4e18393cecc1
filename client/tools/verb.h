/*
 * A verb of the consulcfg program: its options as a table, from which they are parsed and --help
 * is printed. Parsing is strict: no abbreviations, no unknown words.
 */
#pragma once

#include "proto/std.h"

/* What the whole program has in common. */
struct context {
	const char *name; /* for messages: consulcfg-get */
	const char *socket_path; /* of --socket, or NULL */
};

struct option {
	int code; /* the letter, or a number above 255 for options without one; 0 ends the table */
	const char *name; /* without the dashes, or NULL for a letter alone */
	const char *argument; /* NULL: takes none */
	const char *help;
};

struct args;

struct verb {
	const char *name;
	const char *operands; /* as --help shows them */
	const char *summary; /* one line */
	const struct option *options;
	void (*print_more)(void); /* at the end of --help, or NULL */
	int (*run)(struct context *context, struct args *args); /* returns the exit code */
};

struct args {
	struct context *context;
	const struct verb *verb;
	int argc;
	char **argv; /* operands collect at its front */
	int at; /* of the next word */
	const char *letters; /* the rest of a word of letters, or NULL */
	bool only_operands; /* after -- */
	bool stops_at_operand; /* what is behind the first operand is somebody else's */
	int n_operands;
	int n_before_dashes; /* operands in front of --, -1 without one */
	int exit_code; /* when parsing ended the program */
};

#define VERB_EXIT (-1)

/* argv[0] is the first word behind the verb. */
void verb_begin(struct args *args, struct context *context, const struct verb *verb, int argc,
	char *argv[]);

/*
 * The next option: its code, *ret_argument set where it takes one. 0: all options are taken, the
 * operands are argv[0..n_operands). VERB_EXIT: end with args->exit_code, everything was said
 * (--help, --version, a wrong option). Options and operands may come in any order; -- ends options.
 */
int verb_next(struct args *args, const char **ret_argument);

/*
 * The operands from one on as a list that ends with NULL, when -- stood among them: they have
 * collected at the front of argv, where it left room.
 */
char **verb_words(struct args *args, int first);

/* Says "…: try NAME --help" and returns EXIT_USAGE. */
int verb_usage(const struct context *context, const char *format, ...) PRINTF_FORMAT(2, 3);

int verb_bad_service(const struct context *context, const char *name);

/* The value of -t: seconds, a duration, or `infinity` (UINT64_MAX). 0; -EINVAL: not that. */
int verb_timeout(const char *text, uint64_t *ret_usec);
