/*
 * One run from a service's backup to what can be served, and then to what each layer had, in
 * slices. The snapshot comes first: a client need not wait for the rest.
 */
#pragma once

#include "daemon/backup.h"
#include "daemon/kvset.h"

struct restore;

/* -ENOENT: there is no backup of this identity; -ENOMEM. */
int restore_new(struct backup *backup, const char *names, size_t names_size, unsigned n_layers,
	struct restore **ret_restore);
struct restore *restore_free(struct restore *restore);

/* About a millisecond of work. 1: more to do; 0: done; -errno: as far as it came. A backup that
 * cannot be believed has been set aside. */
int restore_step(struct restore *restore);

/* As soon as it is there, once; a reference for the caller. NULL: not yet. */
struct snapshot *restore_take(struct restore *restore);

/* After the last step: compares what is known of a layer with what its tree has said already, about
 * a millisecond of it. 1: more to do; 0: nothing is known that could be lost; -ENODATA: that looks
 * like loss. One layer after the other. */
int restore_compare(struct restore *restore, unsigned layer, struct kvset *said);

/* What is known of a layer, after the last step: a reference for the caller, or NULL. Of several
 * layers the lower ones lack the keys that a higher one had, too. */
struct kvset *restore_take_layer(struct restore *restore, unsigned layer);
