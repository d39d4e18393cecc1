/*
 * The token of requests: from a file, read again whenever the file is another one, else from the
 * configuration. Knows files; must not know what a token opens. Never logs one.
 */
#pragma once

#include <sys/stat.h>

#include "proto/std.h"

struct token {
	char *path; /* or NULL */
	char *fallback; /* or NULL */
	char *value; /* from the file, or NULL */
	struct stat seen; /* of the file that was read */
	int error; /* of the last try, told once; 0: none */
};

/* Copies both; either may be NULL. 0, -ENOMEM. The file is read when the token is first wanted. */
int token_init(struct token *token, const char *path, const char *fallback);
void token_done(struct token *token); /* wipes; zeroed memory is fine */

/* Valid until the next call; NULL: none. A file that cannot be read leaves the last token. */
const char *token_get(struct token *token);
