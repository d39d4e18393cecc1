/*
 * The HTTP client with a test at the other end: requests are kept until they are answered.
 */
#pragma once

#include "daemon/http.h"

#define FAKE_HTTP_MAX 256

struct http_request {
	bool is_used;
	struct http *http;
	char *url;
	char *token;
	struct http_get get; /* its strings are not ours: do not look */
	uint64_t started_at;
	bool is_abandoned;
};

/* Pools are numbered from 0 in the order they were made. The one request of a pool, by what its URL
 * holds; fails the test when there is another number. */
struct http_request *fake_http_expect(unsigned pool, const char *part);
void fake_http_expect_none(unsigned pool);
/* One by what its URL holds, in any pool. */
struct http_request *fake_http_find(const char *part);
/* What is under way in this place of FAKE_HTTP_MAX, abandoned or not, or NULL. */
struct http_request *fake_http_at(unsigned place);
unsigned fake_http_pool(const struct http_request *request);
unsigned fake_http_n_pending(unsigned pool);
unsigned fake_http_n_abandoned(unsigned pool);
/* Requests made since the start. */
unsigned fake_http_n_made(void);

/* Answers; index NULL: no such header. The time of the answer is the clock's. */
void fake_http_answer(
	struct http_request *request, int status, const char *index, const char *body);
void fake_http_fail(struct http_request *request, int error, const char *message);

/* Pools that are told to carry this many requests. */
unsigned fake_http_max_connections(unsigned pool);
