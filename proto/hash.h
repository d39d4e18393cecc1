/*
 * The hash of the image index and of content digests: XXH3. The only door to xxHash, header only
 * so that a lookup inlines it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define HASH_SHORT 128 /* bytes that are hashed without a call */

/*
 * XXH3_64bits_withSeed(), whose way for keys of usual length the compiler will not inline by
 * itself: the call and what is saved around it were a fifth of a lookup among 100 keys.
 */
static inline uint64_t hash_key(const char *key, size_t len, uint64_t seed)
{
	if (__builtin_expect(len > 16 && len <= HASH_SHORT, 1))
		return XXH3_len_17to128_64b(
			(const xxh_u8 *)key, len, XXH3_kSecret, sizeof(XXH3_kSecret), seed);
	if (__builtin_expect(len <= 16, 1))
		return XXH3_len_0to16_64b((const xxh_u8 *)key, len, XXH3_kSecret, seed);
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

/* Of bytes that come in pieces: the same for any pieces. */
typedef XXH3_state_t hash_stream;

/* NULL: no memory. */
static inline hash_stream *hash_stream_new(void)
{
	XXH3_state_t *stream = XXH3_createState();

	if (stream)
		XXH3_64bits_reset(stream);
	return stream;
}

static inline void hash_stream_free(hash_stream *stream)
{
	XXH3_freeState(stream);
}

static inline void hash_stream_add(hash_stream *stream, const void *data, size_t len)
{
	XXH3_64bits_update(stream, data, len);
}

static inline uint64_t hash_stream_digest(const hash_stream *stream)
{
	return XXH3_64bits_digest(stream);
}
