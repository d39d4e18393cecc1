/*
 * HTTP for people and monitoring: the door to libevent's HTTP server. Answers GET and nothing
 * else; knows no path.
 *
 * A visitor costs a connection and one piece of a reply: long replies are made piece by piece, the
 * next when the last one was taken. Whoever is silent, slow or never reads is shown out; while the
 * places are taken nobody new comes in, and what waits in the kernel's queue waits there.
 */
#pragma once

#include "daemon/loop.h"

struct web;
struct web_reply;

/* One request; answered by web_send() or web_stream(), before this returns. */
typedef void (*web_fn)(struct web_reply *reply, const char *path, void *userdata);

/* Makes the next piece with web_write(). 1: there is more; 0: that was all; -errno: it ends here,
 * and the visitor sees that it is cut. */
typedef int (*web_piece_fn)(struct web_reply *reply, void *userdata);

/* Of hosts: names by which the server may be called besides localhost and IP addresses; borrowed.
 * 0, -ENOMEM. */
int web_new(struct loop *loop, char *const hosts[], unsigned n_hosts, web_fn fn, void *userdata,
	struct web **ret_web);
struct web *web_free(struct web *web);

/* Instead of those before. */
void web_set_hosts(struct web *web, char *const hosts[], unsigned n_hosts);

/* A bound and listening socket; consumed on success. 0, -ENOMEM. */
int web_listen(struct web *web, int fd);

/* type is borrowed for the call; the text is copied. */
void web_send(struct web_reply *reply, int status, const char *type, const char *text, size_t len);

/* A reply in pieces. free_fn(userdata) comes once, at the end or when the visitor has gone. */
void web_stream(struct web_reply *reply, const char *type, web_piece_fn piece,
	void (*free_fn)(void *userdata), void *userdata);
void web_write(struct web_reply *reply, const char *text, size_t len);
