/*
 * Unpinned reads without a lock and without a shared count: each thread has one hazard, where it
 * writes down the view it is reading; whoever replaced a view looks at all hazards before freeing
 * it.
 *
 * The reader's store must be seen before its second look at the pointer. On Linux the writer pays
 * for that, with membarrier(2); where that is refused the reader does, with a full barrier.
 */
#pragma once

#include <stdatomic.h>

#include "proto/std.h"

struct hazard {
	_Atomic(const void *) holds;
	_Atomic(bool) is_owned; /* by a thread that lives */
	struct hazard *next;
};

/*
 * A thread's own where the reader's store is cheap, or NULL: a read that has one needs no other
 * look. Its place is known when the library is loaded: one instruction.
 */
extern _Thread_local struct hazard *hazard_own
	__attribute__((visibility("hidden"), tls_model("initial-exec")));
extern bool hazard_is_cheap __attribute__((visibility("hidden"))); /* set once, before any read */

/* Before the first read of this process; any number of times. */
void hazard_set_up(void);

/* This thread's hazard, made when there is none yet; NULL: no memory. */
struct hazard *hazard_make(void);

static inline struct hazard *hazard_of_thread(void)
{
	return __builtin_expect(hazard_own != NULL, 1) ? hazard_own : hazard_make();
}

/* As hazard_enter(), which has the words, with hazard_own; NULL: try that. */
static inline const void *hazard_enter_once(struct hazard *own, const void *_Atomic *source)
{
	const void *seen = atomic_load_explicit(source, memory_order_acquire);

	atomic_store_explicit(&own->holds, seen, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	return __builtin_expect(atomic_load_explicit(source, memory_order_acquire) == seen, 1)
		       ? seen
		       : NULL;
}

/* What *source points to, which stays until hazard_leave(). Does not nest. *source is written to
 * with memory_order_seq_cst. */
static inline const void *hazard_enter(struct hazard *hazard, const void *_Atomic *source)
{
	const void *seen = atomic_load_explicit(source, memory_order_acquire), *again;

	for (;;) {
		if (__builtin_expect(hazard_is_cheap, 1)) {
			atomic_store_explicit(&hazard->holds, seen, memory_order_relaxed);
			atomic_signal_fence(memory_order_seq_cst);
			again = atomic_load_explicit(source, memory_order_acquire);
		} else {
			atomic_store(&hazard->holds, seen);
			again = atomic_load(source);
		}
		if (__builtin_expect(again == seen, 1))
			return seen;
		seen = again;
	}
}

static inline void hazard_leave(struct hazard *hazard)
{
	atomic_store_explicit(&hazard->holds, NULL, memory_order_release);
}

/*
 * Whether some thread may still be reading what no reader can come by any more. Waits a little for
 * readers to finish; true after that means: ask again later.
 */
bool hazard_is_held(const void *what);
