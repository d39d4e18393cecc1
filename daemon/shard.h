/*
 * How few string prefixes divide many trees: for doorbells, which can be had in a small number
 * only, and ring for all that begins with their prefix. Pure; knows sorted strings and their
 * weights.
 */
#pragma once

#include "proto/std.h"

struct shard_key {
	const char *prefix;
	unsigned weight; /* what it counts; at least 1 */
};

struct shard {
	char *prefix;
	uint64_t weight; /* of the keys that have no longer one of these prefixes */
};

/* Bytes that two strings begin with alike. */
size_t shard_common(const char *a, const char *b);

/*
 * At most `max` (at least 1) prefixes, so that each of the n keys begins with one: the heaviest is
 * divided as long as there is room. Where it has more branches than there is room for, the heaviest
 * branches get prefixes of their own and it stays for the rest. Keys are sorted and differ. The
 * array and its prefixes go to the caller: shard_free(). Their number, or -ENOMEM.
 */
int shard_divide(const struct shard_key *keys, size_t n, unsigned max, struct shard **ret_shards);
struct shard *shard_free(struct shard *shards, unsigned n);
