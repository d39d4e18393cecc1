/*
 * The hash of the image index and of content digests: XXH3. The only door to xxHash, header only
 * so that a lookup inlines it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline uint64_t hash_key(const char *key, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(key, len, seed);
}

/*
 * A digest over many pieces: each piece is hashed with the chain so far as its seed. A length is
 * part of each hash, so that ("ab", "c") and ("a", "bc") differ. Starts from 0.
 */
static inline uint64_t hash_chain(uint64_t chain, const void *data, size_t len)
{
	return XXH3_64bits_withSeed(data, len, chain);
}
