/*
 * The daemon's command line.
 */
#pragma once

#include "proto/std.h"

#define OPTIONS_MAX_SETS 64

struct options {
	const char *config_file; /* NULL: the default one, which may be absent */
	const char *sets[OPTIONS_MAX_SETS]; /* SECTION.KEY=VALUE as given */
	unsigned n_sets;
	const char *source; /* consul | consul:URL | dir:PATH, or NULL */
	const char *socket_path;
	const char *state_directory;
	const char *runtime_directory;
	const char *log_level;
	bool check;
};

/*
 * Pointers are into argv. 0: go on; 1: --help or --version was printed, exit 0; -EINVAL: one line
 * was printed to standard error, exit 2.
 */
int options_parse(int argc, char *argv[], struct options *ret_options);
