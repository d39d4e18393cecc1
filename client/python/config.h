/*
 * Config: an open service. Closing waits for nobody: threads that are in the library when it is
 * closed leave with Closed, and the last one closes the library's handle.
 */
#pragma once

#include <sys/types.h>

#include "client/python/reader.h"

struct change_record;

struct config {
	struct reader reader; /* its cfg is NULL from close() on */
	ccfg *handle; /* the same, until nobody is in the library */
	unsigned n_inside; /* threads in the library without the interpreter's lock */
	pid_t pid; /* whose threads those are */
	PyObject *watches; /* list: what is open */
	PyObject *parting; /* list: what was closed while a thread may be about to tell it */
	struct change_record *queue; /* not told yet */
	bool is_telling;
	PyObject *weak_references;
};

extern PyTypeObject config_type;

/* Around calls without the interpreter's lock; leave: the handle may be gone afterwards. */
void config_enter(struct config *config);
void config_leave(struct config *config);

/* Pins the newest view in place of what is held. 0, or -1 with an exception. */
int config_refresh(struct reader *reader);

/* Forgets a watch that was closed, as soon as that is safe. */
void config_let_go(struct config *config, PyObject *watch);
