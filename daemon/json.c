/*
 * yajl's own output buffer ends the process when memory is short; this file prints into a buffer
 * of its own, and gives the generator its few hundred bytes of state from inside the struct.
 */
#include "daemon/json.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include <yajl/yajl_gen.h>

#include "daemon/buffer.h"
#include "proto/key.h"

#define JSON_STATE 4096 /* the generator takes about 700 bytes of it */

struct json {
	yajl_gen gen;
	struct buffer text;
	bool is_incomplete; /* memory was short */
	size_t n_state;
	max_align_t state[JSON_STATE / sizeof(max_align_t)];
};

static void *json_state_alloc(void *userdata, size_t size)
{
	struct json *json = userdata;
	void *at = (char *)json->state + json->n_state;

	json->n_state +=
		(size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
	assert(json->n_state <= sizeof(json->state));
	return at;
}

static void *json_state_realloc(void *userdata, void *old, size_t size)
{
	(void)old;
	return json_state_alloc(userdata, size);
}

static void json_state_free(void *userdata, void *at)
{
	(void)userdata;
	(void)at;
}

static void json_print(void *userdata, const char *text, size_t len)
{
	struct json *json = userdata;

	if (buffer_append(&json->text, text, len) < 0)
		json->is_incomplete = true;
}

static void put_string(struct json *json, const char *text, size_t len)
{
	yajl_gen_string(json->gen, (const unsigned char *)text, len);
}

int json_new(struct json **ret_json)
{
	struct json *json = calloc(1, sizeof(*json));
	yajl_alloc_funcs funcs = { json_state_alloc, json_state_realloc, json_state_free, json };

	if (!json)
		return -ENOMEM;
	json->gen = yajl_gen_alloc(&funcs);
	yajl_gen_config(json->gen, yajl_gen_print_callback, json_print, json);
	*ret_json = json;
	return 0;
}

struct json *json_free(struct json *json)
{
	if (!json)
		return NULL;
	buffer_done(&json->text);
	free(json);
	return NULL;
}

void json_begin_object(struct json *json)
{
	yajl_gen_map_open(json->gen);
}

void json_end_object(struct json *json)
{
	yajl_gen_map_close(json->gen);
}

void json_begin_array(struct json *json)
{
	yajl_gen_array_open(json->gen);
}

void json_end_array(struct json *json)
{
	yajl_gen_array_close(json->gen);
}

void json_key(struct json *json, const char *key)
{
	put_string(json, key, strlen(key));
}

void json_string(struct json *json, const char *text)
{
	char escaped[1024];

	if (!text)
		json_null(json);
	else if (key_is_utf8(text, strlen(text)))
		put_string(json, text, strlen(text));
	else
		json_key(json, key_escape(text, strlen(text), escaped, sizeof(escaped)));
}

static void put_number(struct json *json, const char *text)
{
	yajl_gen_number(json->gen, text, strlen(text));
}

void json_uint(struct json *json, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	put_number(json, text);
}

void json_hex(struct json *json, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%016" PRIx64, value);
	json_key(json, text);
}

void json_seconds(struct json *json, uint64_t usec)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64 ".%03u", usec / USEC_PER_SEC,
		(unsigned)(usec % USEC_PER_SEC / USEC_PER_MSEC));
	put_number(json, text);
}

void json_null(struct json *json)
{
	yajl_gen_null(json->gen);
}

void json_next(struct json *json)
{
	yajl_gen_reset(json->gen, ",");
}

size_t json_size(const struct json *json)
{
	return json->text.len;
}

int json_text(const struct json *json, const char **ret_text, size_t *ret_len)
{
	if (json->is_incomplete)
		return -ENOMEM;
	*ret_text = json->text.len > 0 ? (const char *)buffer_bytes(&json->text) : "";
	*ret_len = json->text.len;
	return 0;
}
