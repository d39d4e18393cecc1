/*
 * The few helpers that every room uses. The list is closed: what fits a noun goes to its file.
 *
 * Cleanup attributes: a local declared AUTO_FREE or AUTO_CLOSE is released when it leaves its
 * scope; the line that hands it over reads TAKE_PTR(p) or TAKE_FD(fd).
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define NSEC_PER_USEC UINT64_C(1000)
#define NSEC_PER_SEC UINT64_C(1000000000)

#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define AUTO_FREE CLEANUP(std_freep)
#define AUTO_CLOSE CLEANUP(std_closep)
#define PRINTF_FORMAT(fmt, args) __attribute__((format(printf, fmt, args)))
#define ALWAYS_INLINE __attribute__((always_inline))
#define HIDDEN __attribute__((visibility("hidden")))

#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) taken_ = (p);                                                        \
		(p) = NULL;                                                                        \
		taken_;                                                                            \
	})
#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int taken_ = (fd);                                                                 \
		(fd) = -1;                                                                         \
		taken_;                                                                            \
	})

static inline void std_freep(void *p)
{
	free(*(void **)p);
}

/* Closes without touching errno; an unset descriptor is -1. */
static inline void std_closep(const int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline bool std_streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}
