/*
 * Reads the daemon's JSON: the only door to yajl in the tools. Knows no meaning.
 */
#pragma once

#include "proto/std.h"

/*
 * Called for each scalar of an array of objects: `item` counts the array's elements from 0, `path`
 * names the member ("last_error.message"; elements of inner arrays share their array's path), text
 * is a string's contents, a number or true/false as written, or NULL for null.
 */
typedef void (*json_fn)(
	void *userdata, size_t item, const char *path, const char *text, size_t len);

/* Walks "{…}, {…}", objects separated by commas. 0, -EBADMSG: no JSON; -ENOMEM. */
int json_walk(const char *text, size_t len, json_fn fn, void *userdata);
