/*
 * Bytes on their way: appended at the end, consumed from the front, given back to the heap as soon
 * as there are none. Zeroed memory is an empty buffer.
 */
#pragma once

#include "proto/std.h"

struct buffer {
	uint8_t *data;
	size_t off; /* of the first byte */
	size_t len;
	size_t allocated;
};

int buffer_append(struct buffer *buffer, const void *data, size_t len); /* 0, -ENOMEM */
void buffer_consume(struct buffer *buffer, size_t len);
void buffer_done(struct buffer *buffer);

/* NULL when there are none. */
static inline const uint8_t *buffer_bytes(const struct buffer *buffer)
{
	return buffer->data ? buffer->data + buffer->off : NULL;
}
