/*
 * GET requests over a pool of connections. Knows queues, deadlines, HTTP answers and the one header
 * of Consul's that decides (X-Consul-Index); must not know what the answers mean.
 *
 * Never follows a redirect, uses a proxy, .netrc or a cookie; speaks HTTP/1.1, and HTTP/2 over TLS.
 * Requests beyond what the connections can carry wait their turn, first come, first served; their
 * deadlines begin when they leave the queue. No callback of a request runs before http_get()
 * returns.
 */
#pragma once

#include "daemon/loop.h"

struct http;
struct http_request;

struct http_settings {
	const char *ca_file, *ca_path, *cert_file, *key_file; /* NULL: the system's, none */
	bool verify; /* certificate and name */
	unsigned max_connections;
};

struct http_result {
	int error; /* 0: a whole answer; else as below */
	const char *message; /* a few words on the error, never NULL; no header or body in it */
	int status; /* 0: none came */
	bool has_index; /* X-Consul-Index came */
	bool is_index_valid; /* once, or the same each time, and an unsigned 64-bit number */
	uint64_t index;
	uint64_t answered_usec; /* from leaving the queue to the end of the answer's head */
	uint64_t n_bytes; /* of body, decoded */
	const char *error_body; /* of a status but 200: its beginning, not NUL-terminated */
	size_t error_body_len; /* up to LIMIT_ERROR_BODY */
};

/*
 * Errors: -ETIMEDOUT: a deadline passed; -EFBIG: max_bytes exceeded; -EBADMSG: not HTTP, truncated,
 * an encoding nobody asked for, or damaged; -EPROTO: TLS; -EINVAL: the address makes no request;
 * -ENOMEM; what the body callback returned; others: no connection, or it broke.
 */

/* The body of a 200, piece by piece; negative gives the request up with this error. */
typedef int (*http_body_fn)(const void *data, size_t len, void *userdata);
/* Once, unless cancelled. The request is gone when this is called. */
typedef void (*http_done_fn)(const struct http_result *result, void *userdata);

struct http_get {
	const char *url;
	const char *unix_path; /* connect here instead, or NULL */
	const char *connect_to; /* "NAME:PORT:HOST:PORT": connect there, verify NAME; or NULL */
	const char *token; /* X-Consul-Token, or NULL; our copy is wiped */
	const char *auth; /* user:password, or NULL */
	bool closes; /* the connection is not kept for another request */
	bool accept_gzip; /* a gzipped answer is understood either way */
	uint64_t answer_usec; /* until the end of the answer's head */
	uint64_t body_usec; /* from there to the end of its body */
	uint64_t max_bytes; /* of body, decoded, counted while they arrive */
	http_body_fn body;
	http_done_fn done;
	void *userdata;
};

int http_new(struct loop *loop, const struct http_settings *settings, struct http **ret_http);
/* Ends all requests without calling back. Not from a callback of one of them. */
struct http *http_free(struct http *http);

/* Copies what it needs of `get`. 0, -ENOMEM, -EINVAL. */
int http_get(struct http *http, const struct http_get *get, struct http_request **ret_request);

/* No callback comes after either; both work from within callbacks, also the request's own. */
struct http_request *http_cancel(struct http_request *request);
/* Lets it run to its end unheard: an agent counts a poll until then whether we listen or not. */
struct http_request *http_abandon(struct http_request *request);

/* loop_now() time by which it calls back, UINT64_MAX while it waits for a connection. */
uint64_t http_due_at(const struct http_request *request);

void http_set_max_connections(struct http *http, unsigned max_connections);
/* Requests that it carries at a time, and requests that want to be carried. */
unsigned http_capacity(const struct http *http);
unsigned http_n_requests(const struct http *http);
/* Connections open now, idle ones too. */
unsigned http_n_connections(const struct http *http);

/* Whether the last answer came over HTTP/2, so that a connection carries many requests. A pool that
 * did not ask yet can be told what another one found. */
bool http_is_multiplexed(const struct http *http);
void http_set_multiplexed(struct http *http, bool is_multiplexed);
