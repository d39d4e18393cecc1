/*
 * JSON out: the only door to yajl's generator. Collects text; what goes wrong on the way is
 * remembered and told once, when the text is asked for.
 */
#pragma once

#include "proto/std.h"

struct json;

int json_new(struct json **ret_json); /* 0, -ENOMEM */
struct json *json_free(struct json *json);

/* Values; in an object, each after its key. */
void json_begin_object(struct json *json);
void json_end_object(struct json *json);
void json_begin_array(struct json *json);
void json_end_array(struct json *json);
void json_key(struct json *json, const char *key);
void json_string(struct json *json, const char *text); /* NULL: null; not UTF-8: escaped */
void json_uint(struct json *json, uint64_t value);
void json_hex(struct json *json, uint64_t value); /* "00c0ffee00c0ffee" */
void json_seconds(struct json *json, uint64_t usec); /* 1.500 */
void json_null(struct json *json);

/* After one whole value: a comma, and another value may follow. */
void json_next(struct json *json);

size_t json_size(const struct json *json);

/* The text so far, not NUL-terminated, valid until the next call. 0, -ENOMEM. */
int json_text(const struct json *json, const char **ret_text, size_t *ret_len);
