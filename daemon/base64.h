/*
 * Base64 as Consul writes it: the standard alphabet, padded, in one piece. Pure.
 */
#pragma once

#include "proto/std.h"

/* Bytes that text of this length decodes to at most. */
#define BASE64_DECODED_MAX(len) ((len) / 4 * 3)

/* Bytes that it decodes to if it is valid; reads the padding only. */
size_t base64_decoded_len(const char *text, size_t len);

/*
 * Writes base64_decoded_len() bytes. 0; -EBADMSG: not base64, not padded, or with bits behind its
 * end: there is one way to write each value.
 */
int base64_decode(const char *text, size_t len, char *buf);
