/*
 * How good is what a handle holds: from what the daemon shows in memory, else by asking it.
 */
#pragma once

#include "client/lib/handle.h"

struct handle_info {
	struct ccfg_view *view; /* a reference for the caller */
	enum ccfg_state state;
	int error;
	uint64_t age_usec; /* UINT64_MAX: not known */
	uint64_t index;
	uint64_t n_unparsable;
};

/* Asks about the service. Waits as long as a read may. */
void handle_ask(struct ccfg *handle, struct handle_info *ret_info);
