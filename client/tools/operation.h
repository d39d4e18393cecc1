/*
 * An operation: one request of an operator to the daemon. Says what went wrong in the words of the
 * daemon, which knows why.
 */
#pragma once

#include "client/tools/query.h"

struct operation {
	struct query query;
	unsigned op; /* enum wire_op */
	struct wire_request request;
	void *reply; /* the head of the reply goes here */
	size_t reply_size;
};

/* EXIT_DONE, or the exit code after saying why not. */
int operation_run(struct operation *operation);
