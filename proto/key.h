/*
 * Names of services and keys: syntax and order. Knows bytes only.
 *
 * A service name is [A-Za-z0-9][A-Za-z0-9._-]{0,63}. A key is valid UTF-8 without NUL, 1 to
 * LIMIT_KEY bytes, relative to its layer's prefix.
 */
#pragma once

#include "proto/std.h"

bool key_is_service_name(const char *name, size_t len);

/* 0; -EINVAL: empty, a NUL or not UTF-8; -ENAMETOOLONG: more than LIMIT_KEY bytes. */
int key_check(const char *key, size_t len);

bool key_is_utf8(const char *text, size_t len);

/* Byte order, the order of Consul's answers and of image records: <0, 0, >0. */
int key_compare(const char *a, size_t a_len, const char *b, size_t b_len);

/*
 * Writes `text` into buf so that it can stand in one line of a log: control bytes and bytes that
 * are not UTF-8 as \xNN, cut with "..." when it does not fit. size >= 8. Returns buf.
 */
char *key_escape(const char *text, size_t len, char *buf, size_t size);
