/*
 * What is held of a service: the answers that its layers keep aside, seen as one.
 */
#pragma once

#include "daemon/service.h"

struct held {
	unsigned n_layers; /* that hold something */
	const char *reason; /* of the first of them */
	uint64_t since; /* the oldest; loop_now() */
	size_t n_keys; /* of what is held */
	uint64_t
		digest; /* of what is held: of one layer its own, which is the same on every host */
};

/* False: nothing is held. */
bool held_find(const struct service *service, struct held *ret_held);

/* The contents of each layer as they would be if what is held were accepted, for
 * publication_new(); borrowed, NULL where a layer has none yet. */
void held_sets(const struct service *service, struct kvset *ret_sets[LIMIT_LAYERS]);

/* Makes what is held the contents, also for the services that share these layers. */
void held_accept(struct service *service);
