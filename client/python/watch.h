/*
 * Watch: a prefix, and whom to call for each key below it whose value has changed. Belongs to a
 * config, which keeps it while it is open.
 */
#pragma once

#include "client/python/config.h"

struct watch {
	PyObject ob_base;
	struct config *config; /* NULL: closed */
	ccfg_watch *watch;
	PyObject *prefix; /* str */
	PyObject *callback;
};

extern PyTypeObject watch_type;

/* config.on_change(prefix, callback) */
PyObject *watch_open(struct config *config, PyObject *prefix, PyObject *callback);

/* Without the library's part, which ends with its handle. */
void watch_forget(struct watch *watch);
