#include "client/lib/bound.h"

#include "proto/key.h"
#include "proto/value.h"

struct bound *bound_new(
	struct ccfg *handle, enum bound_type type, const char *key, uint64_t fallback)
{
	size_t len = key ? strlen(key) : 0;
	struct bound *bound;

	if (!key || key_check(key, len) < 0) {
		errno = EINVAL;
		return NULL;
	}
	bound = calloc(1, sizeof(*bound) + len + 1);
	if (!bound)
		return NULL;
	atomic_init(&bound->bits, fallback);
	bound->handle = handle;
	bound->type = type;
	bound->fallback = fallback;
	bound->key_len = len;
	memcpy(bound->key, key, len);
	return bound;
}

void bound_free_all(struct bound *first)
{
	while (first) {
		struct bound *next = first->next;

		free(first);
		first = next;
	}
}

static int parse(enum bound_type type, const char *text, size_t len, uint64_t *ret_bits)
{
	int64_t integer;
	double real;
	bool truth;
	int r = -EINVAL;

	switch (type) {
	case BOUND_BOOL:
		r = value_bool(text, len, &truth);
		if (r == 0)
			*ret_bits = truth;
		break;
	case BOUND_INT64:
		r = value_int64(text, len, &integer);
		if (r == 0)
			*ret_bits = (uint64_t)integer;
		break;
	case BOUND_DOUBLE:
		r = value_double(text, len, &real);
		if (r == 0)
			*ret_bits = bound_bits_of_double(real);
		break;
	case BOUND_DURATION:
		r = value_duration_us(text, len, ret_bits);
		break;
	}
	return r;
}

void bound_update(struct bound *bound, const struct ccfg_view *view)
{
	const char *value;
	size_t len;
	uint64_t bits = bound->fallback;

	bound->is_bad = false;
	if (image_find_value(&view->image, bound->key, bound->key_len, &value, &len))
		bound->is_bad = parse(bound->type, value, len, &bits) < 0;
	if (!bound->is_bad)
		atomic_store_explicit(&bound->bits, bits, memory_order_relaxed);
}
