/*
 * A hook: the command that a verb runs when something has changed, one at a time, waited for.
 */
#pragma once

#include <signal.h>

#include "proto/std.h"

struct hook {
	const char *name; /* of the verb, for messages */
	const char *socket_path; /* of --socket, or NULL: for the command's own readers */
	char **argv;
};

struct hook_variable {
	const char *name;
	const char *value;
};

/* Whether the command can be run at all: 0, or an errno. Looks in PATH as execvp() does. */
int hook_check(const struct hook *hook);

/*
 * Runs it with these variables (NULL name: the end) and `input` as its standard input (NULL:
 * nothing to read). 0; else it was said what went wrong: the exit code of the command, 126, 127, or
 * -errno. A signal that would end this process waits until it is over (child.h), with `ret_signals`
 * until child_release(): the caller has something to write down.
 */
int hook_run(const struct hook *hook, const struct hook_variable *variables, const char *input,
	size_t input_len, sigset_t *ret_signals);
