#include "client/tools/json.h"

#include <yajl/yajl_parse.h>

#include "proto/limits.h"

#define PATH_SIZE 128

struct walker {
	json_fn fn;
	void *userdata;
	size_t item;
	unsigned depth; /* 1: in the array of items, 2: in an item */
	size_t ends[LIMIT_STATUS_DEPTH + 1]; /* of the path at each depth */
	char path[PATH_SIZE];
};

static int emit(struct walker *w, const char *text, size_t len)
{
	if (w->depth < 2)
		return 0;
	w->fn(w->userdata, w->item, w->path, text, len);
	return 1;
}

static int on_null(void *userdata)
{
	return emit(userdata, NULL, 0);
}

static int on_boolean(void *userdata, int value)
{
	return emit(userdata, value ? "true" : "false", value ? 4 : 5);
}

static int on_number(void *userdata, const char *text, size_t len)
{
	return emit(userdata, text, len);
}

static int on_string(void *userdata, const unsigned char *text, size_t len)
{
	return emit(userdata, (const char *)text, len);
}

static int open_level(struct walker *w)
{
	if (w->depth == LIMIT_STATUS_DEPTH)
		return 0;
	w->ends[w->depth + 1] = strlen(w->path);
	w->depth++;
	return 1;
}

static int close_level(struct walker *w)
{
	w->path[w->ends[w->depth]] = '\0';
	w->depth--;
	if (w->depth == 1)
		w->item++;
	return 1;
}

static int on_start_map(void *userdata)
{
	return open_level(userdata);
}

static int on_start_array(void *userdata)
{
	struct walker *w = userdata;

	return w->depth == 1 ? 0 : open_level(w);
}

static int on_end(void *userdata)
{
	return close_level(userdata);
}

static int on_key(void *userdata, const unsigned char *key, size_t len)
{
	struct walker *w = userdata;
	size_t end = w->ends[w->depth];

	if (end + 1 + len >= sizeof(w->path))
		return 0;
	if (end > 0)
		w->path[end++] = '.';
	memcpy(w->path + end, key, len);
	w->path[end + len] = '\0';
	return 1;
}

static bool parse(yajl_handle parser, const char *text, size_t len)
{
	return yajl_parse(parser, (const unsigned char *)text, len) == yajl_status_ok;
}

int json_walk(const char *text, size_t len, json_fn fn, void *userdata)
{
	static const yajl_callbacks callbacks = {
		.yajl_null = on_null,
		.yajl_boolean = on_boolean,
		.yajl_number = on_number,
		.yajl_string = on_string,
		.yajl_start_map = on_start_map,
		.yajl_map_key = on_key,
		.yajl_end_map = on_end,
		.yajl_start_array = on_start_array,
		.yajl_end_array = on_end,
	};
	struct walker walker = { .fn = fn, .userdata = userdata };
	yajl_handle parser = yajl_alloc(&callbacks, NULL, &walker);
	bool is_good;

	if (!parser)
		return -ENOMEM;
	is_good = parse(parser, "[", 1) && parse(parser, text, len) && parse(parser, "]", 1) &&
		  yajl_complete_parse(parser) == yajl_status_ok;
	yajl_free(parser);
	return is_good ? 0 : -EBADMSG;
}
