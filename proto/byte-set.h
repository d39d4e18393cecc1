/*
 * A set of bytes, as a bracket expression of a pattern writes it. The same in any locale.
 */
#pragma once

#include "proto/std.h"

struct byte_set {
	uint8_t bits[32];
};

static inline bool byte_set_has(const struct byte_set *set, unsigned char byte)
{
	return set->bits[byte / 8] >> byte % 8 & 1;
}

/* Adds what stands behind the '[' at *at, which ends up behind its ']'. 0; -EINVAL: does not read,
 * *ret_why says why. */
int byte_set_parse(struct byte_set *set, const char **at, const char **ret_why);

/* Adds what the letter means behind a '\': w, W, s, S. False: nothing. */
bool byte_set_escape(struct byte_set *set, char letter);
