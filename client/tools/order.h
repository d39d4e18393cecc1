/*
 * What an operator tells the daemon about a service: freeze, override and so on.
 */
#pragma once

#include "client/tools/query.h"

enum { ORDER_FOR = 300, ORDER_REASON };

#define ORDER_OPTIONS                                                                              \
	{ ORDER_FOR, "for", "DURATION", "end it by itself after this time, as in 30min or 2h" },   \
	{                                                                                          \
		ORDER_REASON, "reason", "TEXT", "why; shown in the status and in the log"          \
	}

/* --for and --reason. 0, or an exit code: said. */
int order_option(struct args *args, int code, const char *argument, struct wire_request *request);

/* The service from the operands. 0, or an exit code: said. */
int order_service(struct args *args, const char *service, struct wire_request *request);

/* Sends it; `nothing` is said, and EXIT_NOTHING returned, where the daemon finds nothing to do. */
int order_send(struct context *context, const struct wire_request *request, const char *nothing);
