/*
 * Standard output, gathered and written in one piece: nothing is printed until all is known to be
 * printable, and a reader never sees half a line.
 */
#pragma once

#include "proto/std.h"

/* Zeros: empty. */
struct output {
	char *data;
	size_t len;
	size_t allocated;
	bool has_failed; /* out of memory; output_flush() says so */
};

void output_bytes(struct output *output, const void *data, size_t len);
void output_text(struct output *output, const char *text);

/* For one line: control bytes, backslashes and what is not UTF-8 as \n, \t, \\, \xNN. */
void output_escaped(struct output *output, const char *text, size_t len);

/* A JSON string, or {"base64": "…"} for bytes that are not UTF-8. */
void output_json(struct output *output, const char *text, size_t len);

/* 'text' for a POSIX shell. */
void output_shell(struct output *output, const char *text, size_t len);

/* "text" for systemd's EnvironmentFile=. */
void output_env_file(struct output *output, const char *text, size_t len);

/* Writes everything to a descriptor and empties the output. 0 or -errno. */
int output_flush(struct output *output, int fd);
void output_done(struct output *output);
