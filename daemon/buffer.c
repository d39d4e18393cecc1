#include "daemon/buffer.h"

#define BUFFER_FIRST 512

static int buffer_reserve(struct buffer *buffer, size_t more)
{
	size_t allocated;
	uint8_t *data;

	if (buffer->allocated - buffer->off - buffer->len >= more)
		return 0;
	if (buffer->off > 0) {
		memmove(buffer->data, buffer->data + buffer->off, buffer->len);
		buffer->off = 0;
	}
	if (buffer->allocated - buffer->len >= more)
		return 0;
	allocated = MAX(buffer->allocated + buffer->allocated / 2, (size_t)BUFFER_FIRST);
	allocated = MAX(allocated, buffer->len + more);
	data = realloc(buffer->data, allocated);
	if (!data)
		return -ENOMEM;
	buffer->data = data;
	buffer->allocated = allocated;
	return 0;
}

int buffer_append(struct buffer *buffer, const void *data, size_t len)
{
	int r;

	if (len == 0)
		return 0;
	r = buffer_reserve(buffer, len);
	if (r < 0)
		return r;
	memcpy(buffer->data + buffer->off + buffer->len, data, len);
	buffer->len += len;
	return 0;
}

void buffer_consume(struct buffer *buffer, size_t len)
{
	buffer->off += len;
	buffer->len -= len;
	if (buffer->len == 0)
		buffer_done(buffer);
}

void buffer_done(struct buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct buffer){ 0 };
}
