/*
 * What libevent allocates may fail as well: it asks the same functions, which fail-nth.c replaces.
 */
#include <stdlib.h>

#include <event2/event.h>

static void *allocate(size_t size)
{
	return malloc(size);
}

static void *reallocate(void *ptr, size_t size)
{
	return realloc(ptr, size);
}

__attribute__((constructor)) static void lend(void)
{
	event_set_mem_functions(allocate, reallocate, free);
}
