/*
 * A handle, what ccfg_open() gives: the newest view of one service, shared by threads, inherited by
 * children.
 *
 * One thread at a time works at following the service, without holding the lock; the others read
 * on.
 */
#pragma once

#include <pthread.h>

#include "client/lib/follow.h"

struct ccfg {
	char service[LIMIT_SERVICE_NAME + 1];
	_Atomic uint64_t epoch; /* fork_epoch() for which the rest is good */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* the view, or is_busy fell */
	bool is_busy; /* a thread works */

	/* Under the lock. */
	struct ccfg_view *view; /* never NULL */
	uint32_t state; /* enum wire_state as the daemon last said */
	uint64_t confirmed_at; /* by the source, usec of CLOCK_BOOTTIME; 0: not known */
	struct backoff asking; /* the daemon about the service */
	int asking_error;

	/* Of the thread that is busy, else under the lock. */
	struct follow follow;
	struct backoff waiting; /* for a daemon that does not answer */
};

struct handle_info {
	struct ccfg_view *view; /* a reference for the caller */
	enum ccfg_state state;
	int error;
	uint64_t age_usec; /* UINT64_MAX: not known */
};

/* Connects nothing. 0; -EINVAL: not a service name; -ENAMETOOLONG, -ENOMEM. */
int handle_new(const char *service, const char *socket_path, struct ccfg **ret_handle);
struct ccfg *handle_free(struct ccfg *handle);

/* Waits for the first data. 0, -ETIMEDOUT, or why the daemon cannot be reached or refuses. */
int handle_open(struct ccfg *handle, uint64_t deadline);

/* One try of at most a read's time. 0, also without a daemon or data; or why the daemon refuses. */
int handle_open_now(struct ccfg *handle);

/* The newest view, a reference for the caller. Waits as long as a read may. */
struct ccfg_view *handle_view(struct ccfg *handle);

/* Until the view has another generation: 0, -ETIMEDOUT, -EINTR. */
int handle_wait(struct ccfg *handle, uint64_t after_generation, uint64_t deadline);

/* Asks the daemon about the service. Waits as long as a read may. */
void handle_ask(struct ccfg *handle, struct handle_info *ret_info);
