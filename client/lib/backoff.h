/*
 * When to try again: soon after the first failure, then after twice as long each time.
 */
#pragma once

#include "proto/limits.h"
#include "proto/std.h"

/* Zeros: try at once. */
struct backoff {
	uint64_t retry_at; /* clock_now_usec() */
	uint64_t step_usec;
};

static inline void backoff_fail(struct backoff *backoff, uint64_t now)
{
	backoff->step_usec = backoff->step_usec == 0
				     ? LIMIT_BACKOFF_FIRST_USEC
				     : MIN(backoff->step_usec * 2, LIMIT_BACKOFF_MAX_USEC);
	backoff->retry_at = now + backoff->step_usec;
}

static inline void backoff_reset(struct backoff *backoff)
{
	*backoff = (struct backoff){ 0 };
}
