/*
 * When to try again: 100 ms after the first failure, then twice as long each time, at most 1 s.
 */
#pragma once

#include "proto/std.h"

#define BACKOFF_FIRST_USEC UINT64_C(100000)
#define BACKOFF_MAX_USEC UINT64_C(1000000)

/* Zeros: try at once. */
struct backoff {
	uint64_t retry_at; /* clock_now_usec() */
	uint64_t step_usec;
};

static inline void backoff_fail(struct backoff *backoff, uint64_t now)
{
	backoff->step_usec = backoff->step_usec == 0
				     ? BACKOFF_FIRST_USEC
				     : MIN(backoff->step_usec * 2, BACKOFF_MAX_USEC);
	backoff->retry_at = now + backoff->step_usec;
}

static inline void backoff_reset(struct backoff *backoff)
{
	*backoff = (struct backoff){ 0 };
}
