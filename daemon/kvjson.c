/*
 * The door to yajl's parser.
 *
 * yajl does not look at what its allocator returns, so the one it gets here never returns NULL:
 * when memory is short it hands out a reserve that was taken before the bytes went in, large enough
 * for anything that yajl may ask for until it returns, and the answer fails with -ENOMEM then.
 */
#include "daemon/kvjson.h"

#include <assert.h>
#include <malloc.h>

#include <yajl/yajl_parse.h>

#include "daemon/base64.h"

#define SLICE ((size_t)4 << 10) /* bytes that yajl gets at a time: bounds the reserve */
#define RESERVE_ALIGN ((size_t)16)
#define RESERVE_BASE ((size_t)8 << 10) /* yajl's structs and the first size of its two buffers */
#define RESERVE_FACTOR 8 /* two buffers that double, with all that they were before */

enum member { MEMBER_OTHER, MEMBER_KEY, MEMBER_VALUE, MEMBER_FLAGS, MEMBER_MODIFY_INDEX };

struct text {
	char *data;
	size_t len;
	size_t allocated;
};

/* Memory for when there is none; blocks lie one behind the other, each after its size. */
struct reserve {
	char *data;
	size_t size;
	size_t used;
	char *last;
	bool is_touched;
};

struct kvjson {
	yajl_handle yajl;
	yajl_alloc_funcs functions;
	struct reserve reserve;
	struct kvset *set;
	char *prefix;
	size_t prefix_len;
	uint64_t max_value;
	unsigned depth; /* open arrays and objects */
	bool is_complete;
	size_t pending; /* bytes fed since the last callback: yajl holds at most these */
	bool was_called;
	/* The entry so far */
	enum member member;
	bool has_key, has_value, is_null;
	struct text key, value;
	uint64_t flags, modify_index;
	int error;
	const char *message;
};

static void *reserve_take(struct reserve *reserve, size_t size)
{
	size_t n = RESERVE_ALIGN + ((size + RESERVE_ALIGN - 1) & ~(RESERVE_ALIGN - 1));
	char *block = reserve->data + reserve->used;

	assert(n >= size && n <= reserve->size - reserve->used);
	reserve->is_touched = true;
	reserve->used += n;
	reserve->last = block;
	memcpy(block, &size, sizeof(size));
	return block + RESERVE_ALIGN;
}

static bool reserve_holds(const struct reserve *reserve, const void *ptr)
{
	uintptr_t p = (uintptr_t)ptr, begin = (uintptr_t)reserve->data;

	return reserve->data && p >= begin && p < begin + reserve->size;
}

static void *on_malloc(void *ctx, size_t size)
{
	struct reserve *reserve = ctx;
	void *ptr = malloc(size);

	return ptr ? ptr : reserve_take(reserve, size);
}

static void *on_realloc(void *ctx, void *ptr, size_t size)
{
	struct reserve *reserve = ctx;
	size_t old_size;
	void *larger;

	if (!ptr)
		return on_malloc(ctx, size);
	if (!reserve_holds(reserve, ptr)) {
		larger = realloc(ptr, size);
		if (larger)
			return larger;
		old_size = malloc_usable_size(ptr);
		larger = memcpy(reserve_take(reserve, size), ptr, MIN(old_size, size));
		free(ptr);
		return larger;
	}
	memcpy(&old_size, (char *)ptr - RESERVE_ALIGN, sizeof(old_size));
	/* The one that grows is the last one: it grows in place. */
	if ((char *)ptr - RESERVE_ALIGN == reserve->last)
		reserve->used = (size_t)(reserve->last - reserve->data);
	larger = reserve_take(reserve, size);
	return larger == ptr ? ptr : memcpy(larger, ptr, MIN(old_size, size));
}

static void on_free(void *ctx, void *ptr)
{
	if (!reserve_holds(ctx, ptr))
		free(ptr);
}

/*
 * For a call of yajl that has n_held bytes in hand: it holds an unfinished string in one buffer and
 * an unescaped one in another, and doubles either until the string fits.
 */
static int reserve_prepare(struct reserve *reserve, size_t n_held)
{
	size_t size = RESERVE_BASE + RESERVE_FACTOR * n_held;

	if (reserve->size >= size)
		return 0;
	size = MAX(size, reserve->size + reserve->size / 4);
	free(reserve->data);
	*reserve = (struct reserve){ .data = malloc(size) };
	if (!reserve->data)
		return -ENOMEM;
	reserve->size = size;
	return 0;
}

static int text_reserve(struct text *text, size_t size)
{
	char *data;

	if (size <= text->allocated)
		return 0;
	size = MAX(size, MAX((size_t)256, text->allocated * 2));
	data = realloc(text->data, size);
	if (!data)
		return -ENOMEM;
	text->data = data;
	text->allocated = size;
	return 0;
}

/* Ends the parse; the value is that of a callback. */
static int fail(struct kvjson *kvjson, int error, const char *message)
{
	kvjson->error = error;
	kvjson->message = message;
	return 0;
}

static int take_key(struct kvjson *kvjson, const char *text, size_t len)
{
	if (len < kvjson->prefix_len || memcmp(text, kvjson->prefix, kvjson->prefix_len) != 0)
		return fail(kvjson, -EBADMSG, "a key outside the prefix that was asked for");
	text += kvjson->prefix_len;
	len -= kvjson->prefix_len;
	if (text_reserve(&kvjson->key, len) < 0)
		return fail(kvjson, -ENOMEM, "out of memory");
	if (len > 0)
		memcpy(kvjson->key.data, text, len);
	kvjson->key.len = len;
	kvjson->has_key = true;
	return 1;
}

static int take_value(struct kvjson *kvjson, const char *text, size_t len)
{
	size_t n = base64_decoded_len(text, len);

	if (n > kvjson->max_value)
		return fail(kvjson, -EFBIG, "a value larger than max_value");
	if (text_reserve(&kvjson->value, n) < 0)
		return fail(kvjson, -ENOMEM, "out of memory");
	if (base64_decode(text, len, kvjson->value.data) < 0)
		return fail(kvjson, -EBADMSG, "a value that is not base64");
	kvjson->value.len = n;
	kvjson->has_value = true;
	kvjson->is_null = false;
	return 1;
}

static int take_number(struct kvjson *kvjson, const char *text, size_t len, uint64_t *ret_number)
{
	uint64_t n = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned digit = (unsigned char)text[i] - '0';

		if (digit > 9 || __builtin_mul_overflow(n, 10, &n) ||
			__builtin_add_overflow(n, digit, &n))
			return fail(kvjson, -EBADMSG, "a number that is no unsigned 64-bit one");
	}
	*ret_number = n;
	return 1;
}

/* Whether a scalar may stand here; when it is no member of an entry, it is ignored. */
static int check_place(struct kvjson *kvjson)
{
	kvjson->was_called = true;
	if (kvjson->depth < 2)
		return fail(kvjson, -EBADMSG, "no array of objects");
	return 1;
}

static bool is_member(const struct kvjson *kvjson, enum member member)
{
	return kvjson->depth == 2 && kvjson->member == member;
}

static bool is_other(const struct kvjson *kvjson)
{
	return kvjson->depth > 2 || kvjson->member == MEMBER_OTHER;
}

static int on_null(void *ctx)
{
	struct kvjson *kvjson = ctx;

	if (!check_place(kvjson))
		return 0;
	if (is_member(kvjson, MEMBER_VALUE)) {
		kvjson->value.len = 0;
		kvjson->has_value = kvjson->is_null = true;
		return 1;
	}
	return is_other(kvjson) ? 1 : fail(kvjson, -EBADMSG, "a member of the wrong type");
}

static int on_boolean(void *ctx, int value)
{
	struct kvjson *kvjson = ctx;

	(void)value;
	if (!check_place(kvjson))
		return 0;
	return is_other(kvjson) ? 1 : fail(kvjson, -EBADMSG, "a member of the wrong type");
}

static int on_number(void *ctx, const char *text, size_t len)
{
	struct kvjson *kvjson = ctx;

	if (!check_place(kvjson))
		return 0;
	if (is_member(kvjson, MEMBER_FLAGS))
		return take_number(kvjson, text, len, &kvjson->flags);
	if (is_member(kvjson, MEMBER_MODIFY_INDEX))
		return take_number(kvjson, text, len, &kvjson->modify_index);
	return is_other(kvjson) ? 1 : fail(kvjson, -EBADMSG, "a member of the wrong type");
}

static int on_string(void *ctx, const unsigned char *text, size_t len)
{
	struct kvjson *kvjson = ctx;

	if (!check_place(kvjson))
		return 0;
	if (is_member(kvjson, MEMBER_KEY))
		return take_key(kvjson, (const char *)text, len);
	if (is_member(kvjson, MEMBER_VALUE))
		return take_value(kvjson, (const char *)text, len);
	return is_other(kvjson) ? 1 : fail(kvjson, -EBADMSG, "a member of the wrong type");
}

/* Opens an array or object that is the value of a member we do not know. */
static int open_other(struct kvjson *kvjson)
{
	if (!is_other(kvjson))
		return fail(kvjson, -EBADMSG, "a member of the wrong type");
	if (kvjson->depth >= LIMIT_JSON_DEPTH)
		return fail(kvjson, -EBADMSG, "nested too deep");
	kvjson->depth++;
	return 1;
}

static int on_start_map(void *ctx)
{
	struct kvjson *kvjson = ctx;

	kvjson->was_called = true;
	if (kvjson->depth >= 2)
		return open_other(kvjson);
	if (kvjson->depth == 0)
		return fail(kvjson, -EBADMSG, "no array of objects");
	kvjson->depth++;
	kvjson->member = MEMBER_OTHER;
	kvjson->has_key = kvjson->has_value = kvjson->is_null = false;
	kvjson->flags = kvjson->modify_index = 0;
	return 1;
}

static int on_map_key(void *ctx, const unsigned char *text, size_t len)
{
	static const struct {
		const char *name;
		size_t len;
		enum member member;
	} members[] = {
		{ "Key", 3, MEMBER_KEY },
		{ "Value", 5, MEMBER_VALUE },
		{ "Flags", 5, MEMBER_FLAGS },
		{ "ModifyIndex", 11, MEMBER_MODIFY_INDEX },
	};
	struct kvjson *kvjson = ctx;

	kvjson->was_called = true;
	if (kvjson->depth > 2)
		return 1;
	kvjson->member = MEMBER_OTHER;
	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		if (len == members[i].len && memcmp(text, members[i].name, len) == 0)
			kvjson->member = members[i].member;
	return 1;
}

static bool is_folder(const struct kvjson *kvjson)
{
	return kvjson->key.len == 0 ||
	       (kvjson->is_null && kvjson->key.data[kvjson->key.len - 1] == '/');
}

static int on_end_map(void *ctx)
{
	struct kvjson *kvjson = ctx;
	int r;

	kvjson->was_called = true;
	if (--kvjson->depth >= 2)
		return 1;
	if (!kvjson->has_key || !kvjson->has_value)
		return fail(kvjson, -EBADMSG, "an entry without Key or Value");
	if (is_folder(kvjson))
		return 1;
	r = kvset_add(kvjson->set, kvjson->key.data, kvjson->key.len,
		kvjson->value.len > 0 ? kvjson->value.data : "", kvjson->value.len, kvjson->flags,
		kvjson->modify_index);
	if (r < 0)
		return fail(kvjson, r, r == -EFBIG ? "larger than max_service" : "out of memory");
	return 1;
}

static int on_start_array(void *ctx)
{
	struct kvjson *kvjson = ctx;

	kvjson->was_called = true;
	if (kvjson->depth >= 2)
		return open_other(kvjson);
	if (kvjson->depth == 1)
		return fail(kvjson, -EBADMSG, "no array of objects");
	kvjson->depth++;
	return 1;
}

static int on_end_array(void *ctx)
{
	struct kvjson *kvjson = ctx;

	kvjson->was_called = true;
	if (--kvjson->depth == 0)
		kvjson->is_complete = true;
	return 1;
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_start_map,
	.yajl_map_key = on_map_key,
	.yajl_end_map = on_end_map,
	.yajl_start_array = on_start_array,
	.yajl_end_array = on_end_array,
};

int kvjson_new(
	const char *prefix, uint64_t max_value, struct kvset *set, struct kvjson **ret_kvjson)
{
	struct kvjson *kvjson = calloc(1, sizeof(*kvjson));

	if (!kvjson)
		return -ENOMEM;
	kvjson->set = set;
	kvjson->max_value = MIN(max_value, (uint64_t)UINT32_MAX);
	kvjson->prefix = strdup(prefix);
	if (!kvjson->prefix || reserve_prepare(&kvjson->reserve, 0) < 0)
		goto fail;
	kvjson->prefix_len = strlen(prefix);
	kvjson->functions = (yajl_alloc_funcs){
		.malloc = on_malloc,
		.realloc = on_realloc,
		.free = on_free,
		.ctx = &kvjson->reserve,
	};
	kvjson->yajl = yajl_alloc(&callbacks, &kvjson->functions, kvjson);
	if (kvjson->reserve.is_touched)
		goto fail;
	/* Values are base64 and keys are checked by the set: no need to check all strings. */
	yajl_config(kvjson->yajl, yajl_dont_validate_strings, 1);
	*ret_kvjson = kvjson;
	return 0;

fail:
	kvjson_free(kvjson);
	return -ENOMEM;
}

struct kvjson *kvjson_free(struct kvjson *kvjson)
{
	if (!kvjson)
		return NULL;
	if (kvjson->yajl)
		yajl_free(kvjson->yajl);
	free(kvjson->reserve.data);
	free(kvjson->key.data);
	free(kvjson->value.data);
	free(kvjson->prefix);
	free(kvjson);
	return NULL;
}

static int check_parse(struct kvjson *kvjson, yajl_status status)
{
	if (kvjson->reserve.is_touched)
		fail(kvjson, -ENOMEM, "out of memory");
	else if (status == yajl_status_error)
		fail(kvjson, -EBADMSG, "not JSON, or cut off");
	return kvjson->error;
}

static int feed_slice(struct kvjson *kvjson, const unsigned char *data, size_t len)
{
	if (kvjson->pending + len > kvjson->max_value / 3 * 4 + LIMIT_JSON_SLACK) {
		fail(kvjson, -EFBIG, "a value larger than max_value");
		return kvjson->error;
	}
	if (reserve_prepare(&kvjson->reserve, kvjson->pending + len) < 0) {
		fail(kvjson, -ENOMEM, "out of memory");
		return kvjson->error;
	}
	kvjson->was_called = false;
	check_parse(kvjson, yajl_parse(kvjson->yajl, data, len));
	kvjson->pending = (kvjson->was_called ? 0 : kvjson->pending) + len;
	return kvjson->error;
}

int kvjson_feed(struct kvjson *kvjson, const void *data, size_t len)
{
	const unsigned char *bytes = data;

	while (len > 0 && kvjson->error == 0) {
		size_t n = MIN(len, SLICE);

		feed_slice(kvjson, bytes, n);
		bytes += n;
		len -= n;
	}
	return kvjson->error;
}

int kvjson_finish(struct kvjson *kvjson)
{
	if (kvjson->error < 0)
		return kvjson->error;
	if (!kvjson->is_complete) {
		fail(kvjson, -EBADMSG, "not JSON, or cut off");
		return kvjson->error;
	}
	return check_parse(kvjson, yajl_complete_parse(kvjson->yajl));
}

const char *kvjson_error(const struct kvjson *kvjson)
{
	return kvjson->message;
}
