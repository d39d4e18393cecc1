/*
 * Tells watches of changes. The library calls without the interpreter's lock and its calls are
 * written down; the callbacks run when it has returned, so that they may do anything, also close
 * their config.
 */
#pragma once

#include "client/python/config.h"

/* For ccfg_on_change(); userdata is a struct watch. */
void dispatch_note(ccfg *cfg, const struct ccfg_change *change, void *userdata);

/* config.dispatch(): how many callbacks ran. */
PyObject *dispatch_run(struct config *config);

/* What was not told yet. */
void dispatch_forget(struct config *config);
