/*
 * What every unit test includes: cmocka and its prerequisites, and a few helpers.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/std.h"

/* A heap copy of exactly size bytes, so that a read beyond its end is found; free it. */
static inline void *test_copy(const void *data, size_t size)
{
	void *copy = malloc(size > 0 ? size : 1);

	assert_non_null(copy);
	if (size > 0)
		memcpy(copy, data, size);
	return copy;
}
