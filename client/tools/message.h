/*
 * What the program says on standard error, one line that ends with what to do next, and how it
 * exits.
 */
#pragma once

#include "proto/std.h"

enum exit_code {
	EXIT_DONE = 0,
	EXIT_NOTHING = 1, /* no such key, nothing to show */
	EXIT_USAGE = 2,
	EXIT_AWAY = 3, /* no daemon, no data in time, data too old */
	EXIT_DENIED = 4,
	EXIT_OTHER = 5,
};

/* "NAME: TEXT"; returns exit_code. */
int message_fail(const char *name, enum exit_code exit_code, const char *format, ...)
	PRINTF_FORMAT(3, 4);

/* What the daemon, or its absence, did to a request. */
struct trouble {
	int error; /* -errno of the link or of ccfg_open(); -EHOSTDOWN: connected, no answer */
	const char *socket_path;
	const char *service; /* or NULL */
	uint64_t timeout_usec; /* that was waited for data */
	const char *words; /* the daemon's own, escaped, may be empty; NULL: not connected */
};

/* Says it and returns the exit code. */
int message_trouble(const char *name, const struct trouble *trouble);

/* The exit code after writing to standard output gave 0 or -errno, which is complained about. */
int message_written(const char *name, int error);

/* A duration for people: "250 ms", "5 s", "3 min", "2 h", "4 d". Returns buf. */
char *message_duration(uint64_t usec, char *buf, size_t size);
