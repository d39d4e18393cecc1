/*
 * An HTTP client and a server with scripts in one loop, and what came of each request.
 */
#pragma once

#include "daemon/http.h"
#include "fake-server.h"

struct http_fixture;

struct http_asked { /* one request and what came of it */
	struct http_fixture *f;
	struct http_request *request;
	char body[64];
	size_t n_body;
	uint64_t sum;
	unsigned n_done;
	struct http_result result;
	char message[256];
	char error_body[128];
	int refuse;
	struct http_asked *cancels; /* from its body or done callback */
	bool in_body;
};

struct http_fixture {
	struct loop *loop;
	struct fake_server server;
	struct http *http;
	struct loop_timer *limit, *tick;
	unsigned n_done, wanted, n_ticks;
	bool is_late;
	struct http_get get; /* what the next request asks for; its url is filled in */
};

/* Of the group: the bodies that are compressed. */
int http_fixture_make_scripts(void **state);
int http_fixture_free_scripts(void **state);

/* Of each test. */
int http_fixture_set_up(void **state);
int http_fixture_tear_down(void **state);

/* Another pool in the place of the first, which has 4 connections. */
void http_fixture_new_pool(struct http_fixture *f, unsigned max_connections);

/* Runs until so many requests more are done; fails when they are not in time. */
void http_fixture_run(struct http_fixture *f, unsigned n_done);
void http_fixture_run_for(struct http_fixture *f, uint64_t usec);

void http_fixture_ask(struct http_fixture *f, const char *path, struct http_asked *asked);
struct http_asked http_fixture_ask_one(struct http_fixture *f, const char *path); /* to its end */

/* The callbacks of a request; userdata is its struct http_asked. */
int http_fixture_on_body(const void *data, size_t len, void *userdata);
void http_fixture_on_done(const struct http_result *result, void *userdata);
