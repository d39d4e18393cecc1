/*
 * The token of requests: from a file, read again whenever the file is another one, else from the
 * configuration. Knows files; must not know what a token opens. Never logs one.
 */
#pragma once

#include "daemon/file-stamp.h"
#include "proto/std.h"

struct token {
	char *path; /* or NULL */
	char *fallback; /* or NULL */
	char *value; /* from the file, or NULL */
	struct file_stamp seen; /* of the file that was read */
	int error; /* of the last try, told once; 0: none */
};

/* Copies both; either may be NULL. 0, -ENOMEM. The file is read when the token is first wanted. */
int token_init(struct token *token, const char *path, const char *fallback);
void token_done(struct token *token); /* wipes; zeroed memory is fine */

/*
 * 0: *ret_value, valid until the next call, or NULL: none is configured. Else there is a file and
 * it never gave one: -ENODATA: it is empty; -EILSEQ, -EFBIG, -EINVAL: it holds no token; or why it
 * cannot be read. Who asks without the token sees no keys, which looks like their deletion.
 *
 * A file that gave a token once and is unreadable or empty now leaves that one: who writes it in
 * place empties it first. An empty one leaves the configured one, as for Consul's own tools.
 */
int token_get(struct token *token, const char **ret_value);

/* Whether there is a token in a file now: 0, or an error as above. */
int token_check(const char *path);

/* What such an error says of the file, in a few words. */
const char *token_error(int error);
