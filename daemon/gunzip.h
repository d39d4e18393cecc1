/*
 * The gzip coding of an HTTP answer, undone piece by piece. The only door to zlib.
 *
 * libcurl would inflate all that one read of a socket brought before it returns, and honest data
 * goes 900 to 1: here the caller sees one block at a time and may stop between two.
 */
#pragma once

#include "proto/std.h"

struct gunzip;

int gunzip_new(struct gunzip **ret_gunzip);
struct gunzip *gunzip_free(struct gunzip *gunzip);

/*
 * Takes bytes from *data on (moves *data and *len) and writes up to size bytes into buf. Returns
 * how many; 0: all input was taken and there is no more output for it; -EBADMSG: not gzip, damaged,
 * or bytes behind its end; -ENOMEM.
 */
ssize_t gunzip_step(
	struct gunzip *gunzip, const uint8_t **data, size_t *len, void *buf, size_t size);

/* Whether the end was seen: less is a truncated answer. */
bool gunzip_is_complete(const struct gunzip *gunzip);
