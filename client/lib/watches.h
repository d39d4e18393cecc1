/*
 * The watches of a handle: prefixes, and whom to call for each key below them whose value is
 * another one. Each remembers the view that it told of last. Knows no link and no lock.
 */
#pragma once

#include "client/lib/view.h"

struct ccfg_watch {
	struct ccfg_watch *next; /* watches::first */
	struct ccfg *handle;
	struct ccfg_view *view; /* what was told of last, a reference */
	ccfg_change_fn *fn;
	void *userdata;
	_Atomic(bool) is_closed; /* told no more; freed when nobody walks the list */
	size_t prefix_len;
	char prefix[];
};

struct watches {
	struct ccfg_watch *first;
};

/* Takes a reference to the view. NULL: no memory. */
struct ccfg_watch *watch_new(struct ccfg *handle, struct ccfg_view *view, const char *prefix,
	ccfg_change_fn *fn, void *userdata);
struct ccfg_watch *watch_free(struct ccfg_watch *watch);

/* Calls for each difference between the views, in key order, until the watch is closed. Returns how
 * often. */
unsigned watch_tell(const struct ccfg_watch *watch, const struct ccfg_view *before,
	const struct ccfg_view *after);

/* Frees the closed ones, or all of them. */
void watches_sweep(struct watches *watches);
void watches_done(struct watches *watches);
