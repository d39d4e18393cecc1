#include "daemon/shard.h"

/* A range of the keys, all that begin with their first `len` bytes; branches that were taken out of
 * it have places of their own. */
struct part {
	size_t begin, end;
	size_t len;
	uint64_t weight; /* without what was taken out */
	bool is_whole; /* cannot be divided any more */
};

struct division {
	const struct shard_key *keys;
	struct part *parts;
	unsigned n, max;
};

size_t shard_common(const char *a, const char *b)
{
	size_t len = 0;

	while (a[len] != '\0' && a[len] == b[len])
		len++;
	return len;
}

static struct part part_of(const struct division *division, size_t begin, size_t end)
{
	const struct shard_key *keys = division->keys;
	struct part part = { .begin = begin, .end = end };

	part.len = shard_common(keys[begin].prefix, keys[end - 1].prefix);
	part.is_whole = end - begin == 1;
	for (size_t i = begin; i < end; i++)
		part.weight += keys[i].weight;
	return part;
}

/* The branch of a part that begins there; a key that is the part's own prefix is none. */
static size_t branch_end(const struct division *division, const struct part *part, size_t begin)
{
	const struct shard_key *keys = division->keys;
	size_t end = begin + 1;

	while (end < part->end && keys[end].prefix[part->len] == keys[begin].prefix[part->len])
		end++;
	return end;
}

static size_t first_branch(const struct division *division, const struct part *part)
{
	return part->begin + (division->keys[part->begin].prefix[part->len] == '\0');
}

static struct part *heaviest(struct division *division)
{
	struct part *found = NULL;

	for (unsigned i = 0; i < division->n; i++) {
		struct part *part = &division->parts[i];

		if (!part->is_whole && (!found || part->weight > found->weight))
			found = part;
	}
	return found;
}

/* The branches of a part, heaviest first; keeps `max` of them. */
static unsigned choose_branches(const struct division *division, const struct part *part,
	struct part *branches, unsigned max)
{
	unsigned n = 0;

	for (size_t begin = first_branch(division, part), end; begin < part->end; begin = end) {
		struct part branch;
		unsigned at = n;

		end = branch_end(division, part, begin);
		branch = part_of(division, begin, end);
		while (at > 0 && branches[at - 1].weight < branch.weight)
			at--;
		if (at >= max)
			continue;
		n += n < max;
		memmove(&branches[at + 1], &branches[at], (n - at - 1) * sizeof(*branches));
		branches[at] = branch;
	}
	return n;
}

/* One part becomes its branches; what is left over of it stays a part. */
static void divide(struct division *division, struct part *part)
{
	unsigned room = division->max - division->n + 1;
	struct part *branches = &division->parts[division->max];
	unsigned n = choose_branches(division, part, branches, room);
	uint64_t left = part->weight;

	for (unsigned i = 0; i < n; i++)
		left -= branches[i].weight;
	if (left > 0 && n == room)
		left += branches[--n].weight;
	part->is_whole = true;
	part->weight = left;
	if (left == 0)
		*part = branches[--n];
	for (unsigned i = 0; i < n; i++)
		division->parts[division->n++] = branches[i];
}

static int name_shards(const struct division *division, struct shard **ret_shards)
{
	struct shard *shards = calloc(division->n, sizeof(*shards));

	if (!shards)
		return -ENOMEM;
	for (unsigned i = 0; i < division->n; i++) {
		const struct part *part = &division->parts[i];

		shards[i].weight = part->weight;
		shards[i].prefix = strndup(division->keys[part->begin].prefix, part->len);
		if (!shards[i].prefix) {
			shard_free(shards, i);
			return -ENOMEM;
		}
	}
	*ret_shards = shards;
	return (int)division->n;
}

int shard_divide(const struct shard_key *keys, size_t n, unsigned max, struct shard **ret_shards)
{
	struct division division = { .keys = keys, .max = max };
	struct part *part;
	int r;

	if (n == 0) {
		*ret_shards = NULL;
		return 0;
	}
	/* As many again, and one, for the branches of the one that is being divided. */
	division.parts = calloc(2 * (size_t)max + 1, sizeof(*division.parts));
	if (!division.parts)
		return -ENOMEM;
	division.parts[division.n++] = part_of(&division, 0, n);
	while (division.n < max && (part = heaviest(&division)))
		divide(&division, part);
	r = name_shards(&division, ret_shards);
	free(division.parts);
	return r;
}

struct shard *shard_free(struct shard *shards, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free(shards[i].prefix);
	free(shards);
	return NULL;
}
