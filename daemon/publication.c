#include "daemon/publication.h"

#include "daemon/memory.h"
#include "proto/hash.h"
#include "proto/image-builder.h"
#include "proto/key.h"

#define WRITE_SLICE (2u << 20) /* bytes into the memfd per step: under a millisecond */

enum publication_phase {
	PUBLICATION_MERGE,
	PUBLICATION_JUDGE,
	PUBLICATION_INDEX,
	PUBLICATION_WRITE
};

struct layer_cursor {
	struct kvset *set;
	size_t off; /* behind `head` */
	bool has_head;
	struct record head;
};

struct publication {
	enum publication_phase phase;
	size_t max_bytes;
	struct layer_cursor layers[PUBLICATION_SETS];
	unsigned n_layers;
	const struct glob_list *locks; /* NULL: none */
	unsigned n_lockable; /* layers that they hold for; overrides are above them */
	struct judge *judge; /* NULL: none */
	struct judge_run judge_run;
	struct records merged;
	const struct records *records; /* the merged ones, or the only layer's */
	uint64_t digest;
	struct image_builder *builder;
	struct snapshot *snapshot;
};

static void advance(struct layer_cursor *layer)
{
	const struct records *records = &layer->set->records;
	size_t end = 0;

	if (layer->off < records->size)
		end = record_decode(records->data, records->size, layer->off, &layer->head);
	layer->has_head = end != 0;
	layer->off = end != 0 ? end : records->size;
}

int publication_new(struct kvset *const sets[], unsigned n_sets, size_t max_bytes,
	struct publication **ret_publication)
{
	struct publication *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->max_bytes = max_bytes;
	for (unsigned i = 0; i < n_sets; i++) {
		p->layers[i].set = kvset_ref(sets[i]);
		advance(&p->layers[i]);
	}
	p->n_layers = n_sets;
	p->phase = PUBLICATION_MERGE;
	if (n_sets == 1) {
		p->phase = PUBLICATION_JUDGE;
		p->records = &sets[0]->records;
		p->digest = sets[0]->digest;
	}
	*ret_publication = p;
	return 0;
}

void publication_lock(struct publication *p, const struct glob_list *locks, unsigned n_layers)
{
	p->locks = locks;
	p->n_lockable = n_layers;
}

void publication_judge(struct publication *p, struct judge *judge)
{
	p->judge = judge;
}

bool publication_is_of(const struct publication *p, const struct kvset *set)
{
	return p->records && p->records->size > 0 && p->records->data == set->records.data &&
	       p->records->size == set->records.size;
}

const char *publication_verdict(const struct publication *p)
{
	return p->judge_run.check.message;
}

uint64_t publication_digest(const struct publication *p)
{
	return p->digest;
}

size_t publication_n_keys(const struct publication *p)
{
	return p->records ? p->records->n : 0;
}

struct publication *publication_free(struct publication *p)
{
	if (!p)
		return NULL;
	judge_run_done(&p->judge_run);
	image_builder_free(p->builder);
	snapshot_unref(p->snapshot);
	records_done(&p->merged);
	for (unsigned i = 0; i < p->n_layers; i++)
		kvset_unref(p->layers[i].set);
	free(p);
	return NULL;
}

/* The lowest layer that has this key. */
static struct layer_cursor *lowest_of(struct publication *p, struct layer_cursor *best)
{
	for (unsigned i = 0; i < p->n_layers; i++) {
		struct layer_cursor *layer = &p->layers[i];

		if (layer->has_head && key_compare(layer->head.key, layer->head.key_len,
					       best->head.key, best->head.key_len) == 0)
			return layer;
	}
	return best;
}

/* The layer that supplies the next key: the smallest key, of equal ones the highest layer, or the
 * lowest where the key is locked. */
static struct layer_cursor *pick(struct publication *p)
{
	struct layer_cursor *best = NULL;

	for (unsigned i = 0; i < p->n_layers; i++) {
		struct layer_cursor *layer = &p->layers[i];

		if (layer->has_head && (!best || key_compare(layer->head.key, layer->head.key_len,
							 best->head.key, best->head.key_len) <= 0))
			best = layer;
	}
	if (best && p->locks && best < p->layers + p->n_lockable &&
		glob_list_matches(p->locks, best->head.key, best->head.key_len))
		return lowest_of(p, best);
	return best;
}

static void skip_key(struct publication *p, const struct record *taken)
{
	for (unsigned i = 0; i < p->n_layers; i++) {
		struct layer_cursor *layer = &p->layers[i];

		if (layer->has_head && key_compare(layer->head.key, layer->head.key_len, taken->key,
					       taken->key_len) == 0)
			advance(layer);
	}
}

static int step_merge(struct publication *p)
{
	for (unsigned i = 0; i < LIMIT_SLICE_ENTRIES; i++) {
		struct layer_cursor *layer = pick(p);
		struct record record;
		int r;

		if (!layer) {
			p->records = &p->merged;
			p->phase = PUBLICATION_JUDGE;
			return 1;
		}
		record = layer->head;
		record.layer = (uint8_t)(layer - p->layers);
		r = records_append(&p->merged, &record);
		if (r < 0)
			return r;
		p->digest = hash_chain(p->digest, record.key, record.key_len);
		p->digest = hash_chain(p->digest, record.value, record.value_len);
		skip_key(p, &record);
	}
	return p->merged.size > p->max_bytes ? -EFBIG : 1;
}

static int step_judge(struct publication *p)
{
	int r = 0;

	if (p->judge && !p->judge_run.judge)
		judge_run_init(&p->judge_run, p->judge, p->records);
	if (p->judge)
		r = judge_run_step(&p->judge_run);
	if (r == 0) {
		p->phase = PUBLICATION_INDEX;
		return 1;
	}
	return r;
}

static int step_index(struct publication *p)
{
	struct iovec iov[2];
	size_t size;
	int r;

	if (!p->builder) {
		r = image_builder_new(p->records, p->digest, &p->builder);
		if (r < 0)
			return r;
	}
	r = image_builder_step(p->builder, LIMIT_SLICE_ENTRIES);
	if (r != 0)
		return r;
	image_builder_bytes(p->builder, iov);
	size = iov[0].iov_len + iov[1].iov_len;
	if (size > p->max_bytes)
		return -EFBIG;
	p->phase = PUBLICATION_WRITE;
	r = memory_take(size) ? snapshot_new(&p->snapshot)
			      : snapshot_new_unshared(size, &p->snapshot);
	return r < 0 ? r : 1;
}

int publication_step(struct publication *p)
{
	struct iovec iov[2];

	switch (p->phase) {
	case PUBLICATION_MERGE:
		return step_merge(p);
	case PUBLICATION_JUDGE:
		return step_judge(p);
	case PUBLICATION_INDEX:
		return step_index(p);
	case PUBLICATION_WRITE:
		image_builder_bytes(p->builder, iov);
		return snapshot_write(p->snapshot, iov, WRITE_SLICE);
	}
	return -EINVAL;
}

int publication_take(struct publication *p, uint64_t generation, struct snapshot **ret_snapshot)
{
	int r = snapshot_seal(p->snapshot, generation);

	if (r < 0)
		return r;
	*ret_snapshot = TAKE_PTR(p->snapshot);
	return 0;
}
