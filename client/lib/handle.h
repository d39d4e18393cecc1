/*
 * A handle, what ccfg_open() gives: the newest view of one service, shared by threads, inherited by
 * children.
 *
 * A read of an unchanged service looks at two words and at the view, under a hazard: no lock, no
 * system call. When the words differ one thread works at following the service, without holding
 * the lock; the others read on.
 */
#pragma once

#include <pthread.h>

#include "client/lib/bound.h"
#include "client/lib/events.h"
#include "client/lib/follow.h"
#include "client/lib/hazard.h"
#include "client/lib/watches.h"

struct ccfg {
	/* Of every read: one line of the cache that nobody writes to while nothing changes. */
	_Atomic(const _Atomic uint64_t *) change; /* what says that there is something newer */
	_Atomic uint64_t seen; /* ... when it is no longer this */
	const void *_Atomic view; /* struct ccfg_view, never NULL; written under the lock */
	_Atomic uint64_t generation; /* the view's; written after it */

	char service[LIMIT_SERVICE_NAME + 1];
	bool is_manual; /* reads take nothing: only dispatch and wait do */
	bool is_fixed; /* an image from a file */
	bool may_fall_back; /* to a backup, where there is no daemon at open */
	_Atomic uint64_t epoch; /* fork_epoch() for which the rest is good */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* the view, or is_busy fell */
	bool is_busy; /* a thread works */

	/* Under the lock. */
	uint32_t state; /* enum wire_state as the daemon last said */
	uint64_t confirmed_at; /* by the source, usec of CLOCK_BOOTTIME; 0: not known; a difference
				* to now is right also when it was before the host started */
	bool is_backup; /* the view is from the disk, and no daemon has spoken since */
	struct backoff asking; /* the daemon about the service */
	int asking_error;
	uint64_t index; /* Consul's */
	struct bound *bounds;
	struct watches watches;
	struct events events;
	bool is_dispatching;
	pthread_t dispatcher; /* the thread, then */

	/* Of the thread that is busy, else under the lock. */
	struct follow follow;
	struct backoff waiting; /* for a daemon that does not answer */
	struct ccfg_view
		*retired; /* replaced, and still in a reader's hands when that was looked at */
};

/* Connects nothing. 0; -EINVAL: not a service name; -ENAMETOOLONG, -ENOMEM. */
int handle_new(const char *service, const char *socket_path, struct ccfg **ret_handle);
/* Of an image in a file: never changes. As view_read(). */
int handle_new_fixed(const char *path, struct ccfg **ret_handle);
struct ccfg *handle_free(struct ccfg *handle);

/* From now on reads take nothing newer. */
void handle_be_manual(struct ccfg *handle);

/* Waits for the first data. 0, -ETIMEDOUT, or why the daemon cannot be reached or refuses. */
int handle_open(struct ccfg *handle, uint64_t deadline);

/* One try of at most a read's time. 0, also without a daemon or data; or why the daemon refuses. */
int handle_open_now(struct ccfg *handle);

/* Takes what is newer; waits as long as a read may. */
void handle_catch_up(struct ccfg *handle);

static inline bool handle_is_current(struct ccfg *handle)
{
	uint64_t seen = atomic_load_explicit(&handle->seen, memory_order_acquire);
	const _Atomic uint64_t *change =
		atomic_load_explicit(&handle->change, memory_order_acquire);

	return atomic_load_explicit(change, memory_order_acquire) == seen;
}

/* A read under way. */
struct handle_read {
	const struct ccfg_view *view;
	struct hazard *hazard; /* NULL: no memory for one, the view is referenced */
};

/* The newest view, a reference for the caller. Waits as long as a read may. */
struct ccfg_view *handle_view(struct ccfg *handle);

/* The same for the time until handle_leave(), which does not nest; cheaper. */
static inline struct handle_read handle_enter(struct ccfg *handle)
{
	struct hazard *hazard = hazard_of_thread();

	if (__builtin_expect(!handle_is_current(handle), 0))
		handle_catch_up(handle);
	if (__builtin_expect(!hazard, 0))
		return (struct handle_read){ handle_view(handle), NULL };
	return (struct handle_read){ hazard_enter(hazard, &handle->view), hazard };
}

static inline void handle_leave(struct handle_read read)
{
	if (__builtin_expect(read.hazard != NULL, 1))
		hazard_leave(read.hazard);
	else
		view_unref((struct ccfg_view *)(uintptr_t)read.view);
}

/* Until the view has another generation: 0, -ETIMEDOUT, -EINTR. */
int handle_wait(struct ccfg *handle, uint64_t after_generation, uint64_t deadline);

/* Adds a bound value, set from the newest view; NULL with errno. */
struct bound *handle_bind(
	struct ccfg *handle, enum bound_type type, const char *key, uint64_t fallback);
