/*
 * HTTP requests on the wire. The only door to libcurl: one multi handle, driven by the loop. Knows
 * sockets, TLS and options; must not know queues, deadlines or what is in an answer.
 *
 * libcurl cannot lose a request while it calls back: the owner hears enter() before and leave()
 * after each stretch in which line() and body() may be called, and frees nothing in between.
 * end() and leave() come when libcurl has returned.
 */
#pragma once

#include "daemon/http.h"

struct transport;
struct transport_get;

struct transport_owner {
	void (*enter)(void *owner);
	void (*leave)(void *owner);
	/* With the userdata of a request. 0: go on; negative: end it; body: 1: pause it. */
	int (*line)(const char *line, size_t len, void *userdata);
	int (*body)(const void *data, size_t len, void *userdata);
	/* The request is over: 0, or an error of http.h with a message. Free it here or later. */
	void (*end)(int error, const char *message, void *userdata);
};

int transport_new(struct loop *loop, const struct http_settings *settings,
	const struct transport_owner *fns, void *owner, struct transport **ret_transport);
/* All its requests are freed before. */
struct transport *transport_free(struct transport *transport);

void transport_set_max_connections(struct transport *transport, unsigned n);
unsigned transport_n_connections(const struct transport *transport); /* open, idle ones too */
/* Whether the last answer came over HTTP/2. */
bool transport_is_multiplexed(const struct transport *transport);
void transport_set_multiplexed(struct transport *transport, bool is_multiplexed);

/* Prepared, not started. 0, -ENOMEM, -EINVAL. */
int transport_get_new(struct transport *transport, const struct http_get *wanted, void *userdata,
	struct transport_get **ret_get);
int transport_get_start(struct transport_get *get); /* once; 0, -ENOMEM */
/* After a pause: body() gets the piece it refused again, perhaps with more behind it. */
void transport_get_resume(struct transport_get *get);
struct transport_get *transport_get_free(
	struct transport_get *get); /* not between enter and leave */
