/*
 * One HTTP answer while it arrives: the lines of its head, then the bytes of its body, inflated and
 * counted. Knows the few headers that matter; must not know where the bytes come from.
 */
#pragma once

#include "daemon/gunzip.h"
#include "daemon/http.h"
#include "proto/limits.h"

#define HTTP_ANSWER_MESSAGE 256
#define HTTP_ANSWER_BLOCK ((size_t)64 << 10)

struct http_answer {
	http_body_fn body; /* NULL: nobody wants it, the answer is cut where it gets long */
	void *userdata;
	uint64_t max_bytes;
	uint8_t *block; /* HTTP_ANSWER_BLOCK bytes to inflate into, borrowed */
	struct http_result result; /* complete after http_answer_finish() */
	size_t head_bytes;
	bool has_head;
	struct gunzip *gunzip;
	size_t n_skip; /* bytes of the next piece that were taken already */
	bool is_cut; /* ended by us: all that was wanted is there */
	int error;
	char message[HTTP_ANSWER_MESSAGE];
	char error_body[LIMIT_ERROR_BODY];
};

void http_answer_done(struct http_answer *answer); /* zeroed memory is fine */

/* A line of the head, its end included; lines after the head are ignored. 0 or -errno. */
int http_answer_take_line(struct http_answer *answer, const char *line, size_t len);

/*
 * A piece of the body. 0: taken. 1: taken until *turn_bytes, the bytes decoded in this turn of the
 * loop, exceeded their limit; the same piece, perhaps with more behind it, must be given again.
 * Negative: the answer is over, look at is_cut and error.
 */
int http_answer_take_body(
	struct http_answer *answer, const void *data, size_t len, size_t *turn_bytes);

/* Ends it with an error and its message, unless there is one already. Returns the error. */
int http_answer_refuse(struct http_answer *answer, int error, const char *message);

/* Every byte was there, if `is_whole`: settles result.error, .message and .error_body. */
void http_answer_finish(struct http_answer *answer, bool is_whole);
