/*
 * One page that the kernel zeroes in every child (MADV_WIPEONFORK, Linux 4.14) holds the epoch.
 * Handlers of pthread_atfork would miss children made by clone() and _Fork(), and outlive
 * dlclose(). Where there is no such page, the process id, one system call, stands in.
 */
#include "client/lib/fork.h"

#include <stdatomic.h>
#include <sys/mman.h>

static _Atomic(_Atomic uint64_t *) epoch_page;
static _Atomic uint64_t no_page; /* epoch_page points here: use the process id */
static _Atomic uint64_t last_epoch; /* inherited, so that a child's is above its parent's */

static _Atomic uint64_t *set_up(void)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	_Atomic uint64_t *expected = NULL, *wanted = page;

	if (page != MAP_FAILED && madvise(page, size, MADV_WIPEONFORK) < 0) {
		munmap(page, size);
		page = MAP_FAILED;
	}
	if (page == MAP_FAILED)
		wanted = &no_page;
	if (atomic_compare_exchange_strong(&epoch_page, &expected, wanted))
		return wanted;
	if (page != MAP_FAILED)
		munmap(page, size);
	return expected;
}

uint64_t fork_epoch(void)
{
	_Atomic uint64_t *page = atomic_load_explicit(&epoch_page, memory_order_acquire);
	uint64_t epoch, next;

	if (!page)
		page = set_up();
	if (page == &no_page)
		return (uint64_t)getpid();
	epoch = atomic_load_explicit(page, memory_order_relaxed);
	if (epoch != 0)
		return epoch;
	next = atomic_fetch_add(&last_epoch, 1) + 1;
	return atomic_compare_exchange_strong(page, &epoch, next) ? next : epoch;
}
