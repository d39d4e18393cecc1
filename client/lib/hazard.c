#include "client/lib/hazard.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "proto/limits.h"

_Thread_local struct hazard *hazard_own;
static _Thread_local struct hazard *own; /* cheap or not */
bool hazard_is_cheap;

static _Atomic(struct hazard *) hazards; /* only grows; those without a thread are taken again */
static pthread_key_t exit_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool has_exit_key;

static int barrier(int command)
{
	return (int)syscall(SYS_membarrier, command, 0, 0);
}

static void on_thread_exit(void *userdata)
{
	struct hazard *hazard = userdata;

	own = hazard_own = NULL;
	atomic_store(&hazard->holds, NULL);
	atomic_store(&hazard->is_owned, false);
}

static void set_up(void)
{
	has_exit_key = pthread_key_create(&exit_key, on_thread_exit) == 0;
#ifndef __SANITIZE_THREAD__ /* which knows no barrier of other threads */
	hazard_is_cheap = barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
#endif
}

void hazard_set_up(void)
{
	pthread_once(&once, set_up);
}

static struct hazard *take_abandoned(void)
{
	struct hazard *hazard;
	bool expected;

	for (hazard = atomic_load(&hazards); hazard; hazard = hazard->next) {
		expected = false;
		if (!atomic_load(&hazard->is_owned) &&
			atomic_compare_exchange_strong(&hazard->is_owned, &expected, true))
			return hazard;
	}
	return NULL;
}

struct hazard *hazard_make(void)
{
	struct hazard *hazard = own ? own : take_abandoned();

	if (!hazard) {
		/* A line of the cache of its own: other threads write to theirs. */
		hazard = aligned_alloc(64, 64);
		if (!hazard)
			return NULL;
		atomic_init(&hazard->holds, NULL);
		atomic_init(&hazard->is_owned, true);
		hazard->next = atomic_load(&hazards);
		while (!atomic_compare_exchange_weak(&hazards, &hazard->next, hazard))
			;
	}
	if (!own && has_exit_key)
		pthread_setspecific(exit_key, hazard);
	own = hazard;
	hazard_own = hazard_is_cheap ? hazard : NULL;
	return hazard;
}

/* Every other thread has passed a full barrier. A child of a fork may have to register again. */
static bool pass_barrier(void)
{
	/* Then all accesses are in one order as they are. */
	if (!hazard_is_cheap)
		return true;
	if (barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0)
		return true;
	return barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 &&
	       barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
}

static bool is_held_now(const void *what)
{
	for (struct hazard *hazard = atomic_load(&hazards); hazard; hazard = hazard->next)
		if (atomic_load(&hazard->holds) == what)
			return true;
	return false;
}

bool hazard_is_held(const void *what)
{
	if (!pass_barrier())
		return true;
	for (unsigned i = 0; i < LIMIT_HAZARD_TURNS; i++)
		if (!is_held_now(what))
			return false;
	return true;
}
