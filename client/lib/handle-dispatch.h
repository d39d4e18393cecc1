/*
 * A handle in a program's event loop: its descriptor, its watches, their calls.
 */
#pragma once

#include "client/lib/handle.h"

/* The descriptor to poll; -errno. */
int handle_fd(struct ccfg *handle);

/* Takes what has arrived, without waiting, and calls the watches. How many changes they were told.
 */
int handle_dispatch(struct ccfg *handle);

/* A watch whose first change is one after now. 0, -ENOMEM. */
int handle_watch(struct ccfg *handle, const char *prefix, ccfg_change_fn *fn, void *userdata,
	struct ccfg_watch **ret_watch);
void handle_unwatch(struct ccfg_watch *watch);
