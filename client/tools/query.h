/*
 * A query: one short connection that asks the daemon about one service, or about itself. Waits for
 * the daemon and the first data; what fails is kept for one message at the end.
 */
#pragma once

#include "client/lib/link.h"
#include "client/tools/verb.h"

struct query {
	const struct context *context;
	const char *service; /* NULL: about the daemon, nothing is opened */
	uint64_t timeout_usec;
	uint64_t patience_usec; /* for an answer that takes its time; 0: it does not */
	uint64_t deadline; /* for the daemon and the first data */
	struct link link;
	uint32_t open_tag; /* 0: answered */
	struct wire_info info; /* what OPEN answered last */
	char words[256]; /* of the daemon when it refused, fit for a terminal */
};

/*
 * Connects, waiting until the time-out for a daemon to be there, queues OPEN and calls attempt;
 * again when the daemon goes away in the middle and there is time left. 0 or -errno, for
 * query_fail(); what attempt returns above 0 is passed on.
 */
int query_run(
	struct query *query, int (*attempt)(struct query *query, void *userdata), void *userdata);

/*
 * The next reply but OPEN's. 0; or, with *ret_reply also filled, what its status stands for:
 * -ENODATA: a request came before the data (query_wait_open(), then ask again), -ENOENT, …; or
 * -errno of the link.
 */
int query_receive(struct query *query, struct link_reply *ret_reply);

/* Until OPEN is answered with data. */
int query_wait_open(struct query *query);

/* Says what went wrong, releases the query, returns the exit code. */
int query_fail(struct query *query, int error);

void query_done(struct query *query);
