/*
 * A loss: the keys that were held and that an answer does not have any more. Knows when they are
 * too many to be believed; must not know what became of them.
 */
#pragma once

#include "daemon/kvset.h"

/* They are counted in slices, and samples of them are taken. */
struct loss {
	const struct kvset *held, *fresh; /* borrowed */
	bool (*is_askable)(const char *key); /* may be a sample; NULL: none may */
	size_t held_off, fresh_off;
	size_t n_gone;
	size_t n_askable; /* of those */
	size_t stride; /* each one of so many is a sample: they are spread over all that are gone */
	size_t sample_offs[LIMIT_SAMPLES]; /* of records of `held` */
	unsigned n_samples;
};

void loss_init(struct loss *loss, const struct kvset *held, const struct kvset *fresh,
	bool (*is_askable)(const char *key));
int loss_step(struct loss *loss, size_t max_entries); /* 1: more to do, 0: done */

/* After the last step: more than half of at least 10 keys gone, or all of them, or any at an index
 * that went backwards. */
bool loss_is_suspicious(const struct loss *loss);
