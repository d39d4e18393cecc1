/*
 * What the control groups of this process leave it of memory. The pages of a snapshot are charged
 * to the daemon for as long as any client holds it, however old it is: near the limit there must be
 * no more of them. Knows the files of the kernel's memory controller, both versions; must not know
 * what memory is for.
 */
#pragma once

#include "proto/std.h"

#define MEMORY_UNLIMITED UINT64_MAX

/*
 * Whether a snapshot of this size leaves what the next change needs. Asks the kernel now and
 * then, near the limit at most every LIMIT_MEMORY_AGE_USEC, and counts along in between. Tells once
 * when it begins to say no, and once when all that it refused would fit.
 */
bool memory_take(uint64_t bytes);

/* The same of what is known to be left. For tests. */
struct memory_shortage {
	uint64_t needed; /* the most that was refused; 0: there is none */
};
bool memory_has(struct memory_shortage *shortage, uint64_t needed, uint64_t left);

/* Bytes until the tightest limit, not counting what the kernel can drop. For tests: where the files
 * are; memory_take() asks "/proc/self/cgroup" and "/sys/fs/cgroup". */
uint64_t memory_left(const char *membership, const char *mount);
