/*
 * Memory for configuration in somebody else's process: whole pages of their own that stay out of
 * core dumps.
 */
#pragma once

#include "proto/std.h"

/* Zeroed, at least `size` bytes, more than 0. 0, -ENOMEM. */
int secret_map(size_t size, void **ret_data);

/* Moves to a new size; bytes up to the smaller one stay. On failure nothing changed. */
int secret_remap(void **data, size_t old_size, size_t new_size);

/* `size` as it was asked for; NULL is fine. */
void secret_unmap(void *data, size_t size);
