#include "daemon/kvset.h"

#include "proto/hash.h"
#include "proto/key.h"

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

/* From here on the answer differs: what came so far is copied. */
static int leave_model(struct kvset *set)
{
	size_t size = set->records.size;
	uint8_t *data = NULL;

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
	if (set->sorted)
		add_to_digests(set, &record);
	return 0;
}

int kvset_finish(struct kvset *set)
{
	struct record record;
	size_t off = 0;
	int r;

	if (set->model && set->records.size == set->model->records.size) {
		set->records = set->model->records;
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
	set->digest = set->flags_digest = 0;
	while (off < set->records.size) {
		off = record_decode(set->records.data, set->records.size, off, &record);
		if (off == 0)
			return -EBADMSG;
		add_to_digests(set, &record);
	}
	return 0;
}

int kvset_borrow(const struct records *records, void (*give_back)(void *lender), void *lender,
	struct kvset **ret_set)
{
	struct kvset *set;
	int r = kvset_new(records->size, NULL, &set);

	if (r < 0)
		return r;
	set->records = *records;
	set->give_back = give_back;
	set->lender = lender;
	*ret_set = set;
	return 0;
}

bool kvset_same(const struct kvset *a, const struct kvset *b)
{
	return a->records.n == b->records.n && a->digest == b->digest &&
	       a->flags_digest == b->flags_digest;
}

bool kvset_find(const struct kvset *set, const char *key, size_t key_len, struct record *ret_record)
{
	const struct records *records = &set->records;
	size_t off = 0;

	while (off < records->size) {
		off = record_decode(records->data, records->size, off, ret_record);
		if (off == 0)
			return false;
		if (ret_record->key_len == key_len && memcmp(ret_record->key, key, key_len) == 0)
			return true;
	}
	return false;
}
