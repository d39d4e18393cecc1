/*
 * The loop with a clock that a test moves by hand: timers only.
 */
#pragma once

#include "daemon/loop.h"

/* Moves the clock on and runs what becomes due on the way, in order. */
void fake_loop_advance(uint64_t usec);

/* Moves the clock without running anything: a loop that is stuck. */
void fake_loop_stall(uint64_t usec);

/* The next timers cannot be had: so many of them. */
void fake_loop_fail_timers(unsigned n);
