/*
 * What has been counted since the start, for monitoring: numbers that only go up, beside the noun
 * that they belong to.
 */
#pragma once

#include "proto/std.h"

#define TALLY_N_BOUNDS 10

/* Of the delay from when the source told of a change to its publication; the last bucket has no
 * bound. */
extern const uint64_t tally_bounds_usec[TALLY_N_BOUNDS];

struct tally {
	uint64_t n_updates; /* publications */
	uint64_t n_delays[TALLY_N_BOUNDS + 1]; /* by bucket, each delay in one */
	uint64_t delays_usec; /* their sum */
};

/* changed_at: loop_now() of the change; 0: there was none at the source. */
void tally_update(struct tally *tally, uint64_t changed_at);
