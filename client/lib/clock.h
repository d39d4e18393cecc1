/*
 * Deadlines are absolute, in microseconds of CLOCK_MONOTONIC.
 */
#pragma once

#include <limits.h>
#include <time.h>

#include "proto/std.h"

#define CLOCK_NO_WAIT UINT64_C(0) /* as a deadline: take what is there */
#define CLOCK_FOREVER UINT64_MAX

static inline uint64_t clock_now_usec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_USEC;
}

/* The deadline that lies so far ahead. */
static inline uint64_t clock_after_usec(uint64_t usec)
{
	uint64_t now = clock_now_usec();

	return usec >= CLOCK_FOREVER - now ? CLOCK_FOREVER : now + usec;
}

/* What is left until a deadline as poll() takes it, rounded up. */
static inline int clock_left_ms(uint64_t deadline)
{
	uint64_t now, left;

	if (deadline == CLOCK_FOREVER)
		return -1;
	now = clock_now_usec();
	left = deadline > now ? (deadline - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC : 0;
	return (int)MIN(left, (uint64_t)INT_MAX);
}

/* Runs on while the host sleeps; what daemon and clients share. */
static inline uint64_t clock_boottime_usec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_USEC;
}
