#include "daemon/gunzip.h"

#include <limits.h>

#include <zlib.h>

#define WINDOW_GZIP_ONLY (MAX_WBITS + 16)

struct gunzip {
	z_stream stream;
	bool is_complete;
};

int gunzip_new(struct gunzip **ret_gunzip)
{
	struct gunzip *gunzip = calloc(1, sizeof(*gunzip));

	if (!gunzip)
		return -ENOMEM;
	if (inflateInit2(&gunzip->stream, WINDOW_GZIP_ONLY) != Z_OK) {
		free(gunzip);
		return -ENOMEM;
	}
	*ret_gunzip = gunzip;
	return 0;
}

struct gunzip *gunzip_free(struct gunzip *gunzip)
{
	if (!gunzip)
		return NULL;
	inflateEnd(&gunzip->stream);
	free(gunzip);
	return NULL;
}

ssize_t gunzip_step(
	struct gunzip *gunzip, const uint8_t **data, size_t *len, void *buf, size_t size)
{
	z_stream *stream = &gunzip->stream;
	size_t given = MIN(*len, (size_t)UINT_MAX), room = MIN(size, (size_t)UINT_MAX);
	int r;

	if (gunzip->is_complete)
		return *len > 0 ? -EBADMSG : 0;
	stream->next_in = (z_const Bytef *)(uintptr_t)*data; /* zlib may lack the const */
	stream->avail_in = (uInt)given;
	stream->next_out = buf;
	stream->avail_out = (uInt)room;
	r = inflate(stream, Z_NO_FLUSH);
	*data += given - stream->avail_in;
	*len -= given - stream->avail_in;
	if (r == Z_STREAM_END)
		gunzip->is_complete = true;
	else if (r == Z_MEM_ERROR)
		return -ENOMEM;
	else if (r != Z_OK && r != Z_BUF_ERROR) /* the latter: nothing to do without more input */
		return -EBADMSG;
	if (stream->avail_out == room && *len > 0)
		return -EBADMSG;
	return (ssize_t)(room - stream->avail_out);
}

bool gunzip_is_complete(const struct gunzip *gunzip)
{
	return gunzip->is_complete;
}
