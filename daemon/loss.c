#include "daemon/loss.h"

#include "proto/key.h"

void loss_init(struct loss *loss, const struct kvset *held, const struct kvset *fresh,
	bool (*is_askable)(const char *key))
{
	*loss = (struct loss){
		.held = held, .fresh = fresh, .is_askable = is_askable, .stride = 1
	};
}

static void take_sample(struct loss *loss, size_t off)
{
	if (loss->n_askable++ % loss->stride != 0)
		return;
	if (loss->n_samples == LIMIT_SAMPLES) {
		/* Every other one stays, and half as many come from here on. */
		loss->stride *= 2;
		loss->n_samples /= 2;
		for (unsigned i = 1; i < loss->n_samples; i++)
			loss->sample_offs[i] = loss->sample_offs[(size_t)2 * i];
	}
	loss->sample_offs[loss->n_samples++] = off;
}

/* The record at off and the offset behind it; 0 at the end. */
static size_t record_at(const struct kvset *set, size_t off, struct record *ret_record)
{
	return off < set->records.size
		       ? record_decode(set->records.data, set->records.size, off, ret_record)
		       : 0;
}

int loss_step(struct loss *loss, size_t max_entries)
{
	for (size_t n = 0; n < max_entries; n++) {
		struct record held, fresh;
		size_t held_end = record_at(loss->held, loss->held_off, &held);
		size_t fresh_end = record_at(loss->fresh, loss->fresh_off, &fresh);
		int order = 1;

		if (held_end == 0)
			return 0;
		if (fresh_end > 0)
			order = key_compare(fresh.key, fresh.key_len, held.key, held.key_len);
		if (order > 0) {
			loss->n_gone++;
			if (loss->is_askable && loss->is_askable(held.key))
				take_sample(loss, loss->held_off);
		}
		if (order <= 0)
			loss->fresh_off = fresh_end;
		if (order >= 0)
			loss->held_off = held_end;
	}
	return 1;
}

bool loss_is_suspicious(const struct loss *loss)
{
	size_t n_held = loss->held->records.n;

	if (n_held > 0 && loss->fresh->records.n == 0)
		return true;
	if (loss->n_gone > 0 && loss->fresh->index < loss->held->index)
		return true;
	return n_held >= LIMIT_LOSS_KEYS && loss->n_gone > n_held / 2;
}
