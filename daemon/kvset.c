#include "daemon/kvset.h"

#include "proto/hash.h"
#include "proto/image.h"
#include "proto/key.h"

_Static_assert(KVSET_SAMPLE % IMAGE_SAMPLE == 0, "an image's samples serve");

int kvset_new(size_t max_bytes, struct kvset *model, struct kvset **ret_set)
{
	struct kvset *set = calloc(1, sizeof(*set));

	if (!set)
		return -ENOMEM;
	set->refs = 1;
	set->sorted = true;
	set->max_bytes = max_bytes;
	if (model)
		set->model = kvset_ref(model);
	*ret_set = set;
	return 0;
}

struct kvset *kvset_ref(struct kvset *set)
{
	set->refs++;
	return set;
}

struct kvset *kvset_unref(struct kvset *set)
{
	if (set && --set->refs == 0) {
		if (set->give_back)
			set->give_back(set->lender);
		else if (!set->model && !set->owner)
			records_done(&set->records);
		if (!set->owner)
			free(set->samples);
		kvset_unref(set->model);
		kvset_unref(set->owner);
		free(set);
	}
	return NULL;
}

static void add_to_digests(struct kvset *set, const struct record *record)
{
	set->digest = hash_chain(set->digest, record->key, record->key_len);
	set->digest = hash_chain(set->digest, record->value, record->value_len);
	if (record->flags != 0) {
		le64 flags = le64_of(record->flags);

		set->flags_digest = hash_chain(set->flags_digest, record->key, record->key_len);
		set->flags_digest = hash_chain(set->flags_digest, &flags, sizeof(flags));
	}
}

/* The entry that the model has here, if that is this one. */
static bool is_same_again(struct kvset *set, const struct record *record)
{
	const struct records *records = &set->model->records;
	struct record old;
	size_t off = set->records.size, end;

	if (off >= records->size)
		return false;
	end = record_decode(records->data, records->size, off, &old);
	if (end == 0 || old.key_len != record->key_len || old.value_len != record->value_len ||
		old.modify_index != record->modify_index || old.flags != record->flags ||
		memcmp(old.key, record->key, old.key_len) != 0 ||
		memcmp(old.value, record->value, old.value_len) != 0)
		return false;
	set->last_off = off;
	set->records.size = end;
	set->records.n++;
	return true;
}

/* How many samples n records have. */
static size_t count_samples(size_t n)
{
	return n > 0 ? (n - 1) / KVSET_SAMPLE : 0;
}

/* Of a record that was added at off, the last so far. */
static int add_sample(struct kvset *set, size_t off)
{
	size_t n = set->n_samples;

	if (count_samples(set->records.n) == n)
		return 0;
	/* Full at every power of two. */
	if ((n & (n - 1)) == 0) {
		size_t *samples = reallocarray(set->samples, n == 0 ? 1 : 2 * n, sizeof(*samples));

		if (!samples)
			return -ENOMEM;
		set->samples = samples;
	}
	set->samples[set->n_samples++] = off;
	return 0;
}

/* Those of the model that are ours, too. */
static int copy_samples(struct kvset *set)
{
	size_t n = MIN(count_samples(set->records.n), set->model->n_samples), allocated = 1;

	if (n == 0)
		return 0;
	while (allocated < n)
		allocated *= 2;
	set->samples = calloc(allocated, sizeof(*set->samples));
	if (!set->samples)
		return -ENOMEM;
	memcpy(set->samples, set->model->samples, n * sizeof(*set->samples));
	set->n_samples = n;
	return 0;
}

/* From here on the answer differs: what came so far is copied. */
static int leave_model(struct kvset *set)
{
	size_t size = set->records.size;
	uint8_t *data = NULL;

	if (copy_samples(set) < 0)
		return -ENOMEM;
	if (size > 0) {
		data = malloc(size);
		if (!data)
			return -ENOMEM;
		memcpy(data, set->model->records.data, size);
	}
	set->records.data = data;
	set->records.allocated = size;
	set->model = kvset_unref(set->model);
	return 0;
}

static bool is_above_last(const struct kvset *set, const char *key, size_t key_len)
{
	struct record last;

	if (set->records.n == 0)
		return true;
	if (record_decode(set->records.data, set->records.size, set->last_off, &last) == 0)
		return false;
	return key_compare(last.key, last.key_len, key, key_len) < 0;
}

int kvset_add(struct kvset *set, const char *key, size_t key_len, const char *value,
	size_t value_len, uint64_t flags, uint64_t modify_index)
{
	const struct record record = {
		.key = key,
		.key_len = (uint32_t)key_len,
		.value = value,
		.value_len = (uint32_t)value_len,
		.flags = flags,
		.modify_index = modify_index,
	};
	size_t off = set->records.size;
	int r;

	if (set->model && is_same_again(set, &record)) {
		add_to_digests(set, &record);
		return 0;
	}
	if (key_check(key, key_len) < 0) {
		set->n_skipped++;
		return 1;
	}
	if (set->records.n >= LIMIT_ENTRIES || value_len > set->max_bytes ||
		off + record_size(key_len, value_len, flags != 0) > set->max_bytes)
		return -EFBIG;
	if (set->model) {
		r = leave_model(set);
		if (r < 0)
			return r;
	}
	set->sorted = set->sorted && is_above_last(set, key, key_len);
	r = records_append(&set->records, &record);
	if (r < 0)
		return r;
	set->last_off = off;
	/* In order, as Consul answers: the digests grow with the body and are ready at its end. */
	if (!set->sorted)
		return 0;
	add_to_digests(set, &record);
	return add_sample(set, off);
}

/* What adding in order has done already. */
static int look_through(struct kvset *set)
{
	const struct records records = set->records;
	struct record record;
	size_t off = 0, end;

	set->digest = set->flags_digest = 0;
	set->n_samples = set->records.n = 0;
	free(set->samples);
	set->samples = NULL;
	while (off < records.size) {
		end = record_decode(records.data, records.size, off, &record);
		if (end == 0)
			return -EBADMSG;
		add_to_digests(set, &record);
		set->records.n++;
		if (add_sample(set, off) < 0)
			return -ENOMEM;
		off = end;
	}
	return 0;
}

int kvset_finish(struct kvset *set)
{
	int r;

	if (set->model && set->records.size == set->model->records.size) {
		set->records = set->model->records;
		set->samples = set->model->samples;
		set->n_samples = set->model->n_samples;
		set->owner =
			set->model->owner ? kvset_ref(set->model->owner) : kvset_ref(set->model);
		set->model = kvset_unref(set->model);
		return 0;
	}
	if (set->model) {
		r = leave_model(set);
		if (r < 0)
			return r;
	}
	records_trim(&set->records);
	if (set->sorted)
		return 0;
	r = records_sort(&set->records, &set->n_dropped);
	if (r < 0)
		return r;
	set->sorted = true;
	return look_through(set);
}

/* The image's samples that are ours: they are as true as its records, and checked when used. */
static int borrow_samples(struct kvset *set, const struct image *image)
{
	size_t n = count_samples(image->n_entries), step = KVSET_SAMPLE / IMAGE_SAMPLE;

	if (n == 0 || n * step >= image->n_samples)
		return 0;
	set->samples = calloc(n, sizeof(*set->samples));
	if (!set->samples)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		set->samples[i] = (size_t)le32_get(image->samples[(i + 1) * step]) * RECORD_ALIGN -
				  image->records_off;
	set->n_samples = n;
	return 0;
}

int kvset_borrow(const struct image *image, void (*give_back)(void *lender), void *lender,
	struct kvset **ret_set)
{
	struct kvset *set;
	int r = kvset_new(image->size, NULL, &set);

	if (r < 0)
		return r;
	r = borrow_samples(set, image);
	if (r < 0) {
		kvset_unref(set);
		return r;
	}
	set->records = (struct records){
		.data = (uint8_t *)(uintptr_t)image->data + image->records_off,
		.size = image->size - image->records_off,
		.n = image->n_entries,
	};
	set->digest = image->digest;
	set->give_back = give_back;
	set->lender = lender;
	*ret_set = set;
	return 0;
}

int kvset_move(const struct kvset *set, const struct image *image, void (*give_back)(void *lender),
	void *lender, struct kvset **ret_set)
{
	struct kvset *moved;
	int r = kvset_borrow(image, give_back, lender, &moved);

	if (r < 0)
		return r;
	moved->flags_digest = set->flags_digest;
	moved->body_hash = set->body_hash;
	moved->index = set->index;
	moved->heard_at = set->heard_at;
	moved->answered_cpu_usec = set->answered_cpu_usec;
	moved->n_skipped = set->n_skipped;
	moved->n_dropped = set->n_dropped;
	*ret_set = moved;
	return 0;
}

bool kvset_is_borrowed(const struct kvset *set)
{
	return set->owner ? set->owner->give_back : set->give_back;
}

static int add_record(struct kvset *set, const struct record *record)
{
	int r = kvset_add(set, record->key, record->key_len, record->value, record->value_len,
		record->flags, record->modify_index);

	return MIN(r, 0);
}

static size_t record_at(const struct kvset *set, size_t off, struct record *ret_record)
{
	return off < set->records.size
		       ? record_decode(set->records.data, set->records.size, off, ret_record)
		       : 0;
}

static int add_both(struct kvset *set, const struct kvset *a, const struct kvset *b)
{
	size_t a_off = 0, b_off = 0;
	int r = 0;

	while (r == 0) {
		struct record in_a, in_b;
		size_t a_end = record_at(a, a_off, &in_a), b_end = record_at(b, b_off, &in_b);
		int order = a_end == 0 ? 1 : -1;

		if (a_end == 0 && b_end == 0)
			return 0;
		if (a_end > 0 && b_end > 0)
			order = key_compare(in_a.key, in_a.key_len, in_b.key, in_b.key_len);
		r = add_record(
			set, order < 0 || (order == 0 && in_a.modify_index >= in_b.modify_index)
				     ? &in_a
				     : &in_b);
		if (order <= 0)
			a_off = a_end;
		if (order >= 0)
			b_off = b_end;
	}
	return r;
}

int kvset_unite(const struct kvset *a, const struct kvset *b, struct kvset **ret_set)
{
	struct kvset *set;
	int r = kvset_new(a->records.size + b->records.size, NULL, &set);

	if (r < 0)
		return r;
	r = add_both(set, a, b);
	if (r == 0)
		r = kvset_finish(set);
	if (r < 0) {
		kvset_unref(set);
		return r;
	}
	set->index = MAX(a->index, b->index);
	*ret_set = set;
	return 0;
}

bool kvset_same(const struct kvset *a, const struct kvset *b)
{
	return a->records.n == b->records.n && a->digest == b->digest &&
	       a->flags_digest == b->flags_digest;
}

/* The offset of the last sample that is not above the key. */
static size_t find_sample(const struct kvset *set, const char *key, size_t key_len)
{
	size_t low = 0, high = set->n_samples;
	struct record record;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (record_decode(set->records.data, set->records.size, set->samples[middle],
			    &record) != 0 &&
			key_compare(record.key, record.key_len, key, key_len) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 ? set->samples[low - 1] : 0;
}

bool kvset_find(const struct kvset *set, const char *key, size_t key_len, struct record *ret_record)
{
	const struct records *records = &set->records;
	size_t off = find_sample(set, key, key_len);
	int order = -1;

	while (order < 0 && off < records->size) {
		off = record_decode(records->data, records->size, off, ret_record);
		if (off == 0)
			return false;
		order = key_compare(ret_record->key, ret_record->key_len, key, key_len);
	}
	return order == 0;
}
