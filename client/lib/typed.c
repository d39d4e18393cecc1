/*
 * Typed reads: a lookup and the value grammar; the grammar alone; bound values.
 */
#include "client/lib/handle.h"
#include "proto/value.h"

#define DEFINE_TYPE(name, type)                                                                    \
	int ccfg_read_##name(ccfg *cfg, const char *key, type *ret)                                \
	{                                                                                          \
		struct handle_read read;                                                           \
		const char *value;                                                                 \
		size_t len;                                                                        \
		int r = -ENOENT;                                                                   \
                                                                                                   \
		if (!key)                                                                          \
			return -EINVAL;                                                            \
		read = handle_enter(cfg);                                                          \
		if (image_find_value(&read.view->image, key, strlen(key), &value, &len))           \
			r = value_##name(value, len, ret);                                         \
		handle_leave(read);                                                                \
		return r;                                                                          \
	}                                                                                          \
                                                                                                   \
	int ccfg_parse_##name(const char *text, size_t len, type *ret)                             \
	{                                                                                          \
		return text ? value_##name(text, len, ret) : -EINVAL;                              \
	}                                                                                          \
                                                                                                   \
	type ccfg_get_##name(ccfg *cfg, const char *key, type fallback)                            \
	{                                                                                          \
		type value;                                                                        \
                                                                                                   \
		return ccfg_read_##name(cfg, key, &value) == 0 ? value : fallback;                 \
	}

/* What is bound to a key: the value of the newest generation, parsed when that came. */
#define DEFINE_BOUND(name, type, bound_type, to_bits, of_bits)                                     \
	ccfg_##name *ccfg_bind_##name(ccfg *cfg, const char *key, type fallback)                   \
	{                                                                                          \
		return (ccfg_##name *)handle_bind(cfg, bound_type, key, to_bits(fallback));        \
	}                                                                                          \
                                                                                                   \
	type ccfg_##name##_value(const ccfg_##name *bound)                                         \
	{                                                                                          \
		const struct bound *b = (const struct bound *)bound;                               \
                                                                                                   \
		if (__builtin_expect(!handle_is_current(b->handle), 0))                            \
			handle_catch_up(b->handle);                                                \
		return of_bits(atomic_load_explicit(&b->bits, memory_order_relaxed));              \
	}

DEFINE_BOUND(bool, bool, BOUND_BOOL, (uint64_t), (bool))
DEFINE_BOUND(int64, int64_t, BOUND_INT64, (uint64_t), (int64_t))
DEFINE_BOUND(double, double, BOUND_DOUBLE, bound_bits_of_double, bound_double_of_bits)
DEFINE_BOUND(duration_us, uint64_t, BOUND_DURATION, , )

DEFINE_TYPE(bool, bool)
DEFINE_TYPE(int64, int64_t)
DEFINE_TYPE(double, double)
DEFINE_TYPE(duration_us, uint64_t)
