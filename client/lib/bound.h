/*
 * Bound values: keys parsed once per generation, read with one load. They belong to a handle and
 * end with it.
 */
#pragma once

#include <stdatomic.h>

#include "client/lib/view.h"

enum bound_type { BOUND_BOOL, BOUND_INT64, BOUND_DOUBLE, BOUND_DURATION };

/* What ccfg_int64 and its like are. */
struct bound {
	_Atomic uint64_t bits; /* of the value */
	struct ccfg *handle;
	struct bound *next;
	enum bound_type type;
	uint64_t fallback; /* bits */
	bool is_bad; /* the value of the newest generation does not parse */
	size_t key_len;
	char key[];
};

/* NULL with errno EINVAL (not a key), ENOMEM. Its value is the fallback. */
struct bound *bound_new(
	struct ccfg *handle, enum bound_type type, const char *key, uint64_t fallback);
void bound_free_all(struct bound *first);

/* Parses the view's value: absent, the fallback; one that does not parse leaves the last good. */
void bound_update(struct bound *bound, const struct ccfg_view *view);

static inline uint64_t bound_bits_of_double(double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static inline double bound_double_of_bits(uint64_t bits)
{
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}
