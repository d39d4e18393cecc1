#include "proto/record.h"

#include "proto/key.h"

static int records_reserve(struct records *records, size_t more)
{
	size_t wanted = records->size + more, allocated = MAX(records->allocated, (size_t)256);
	uint8_t *data;

	if (wanted <= records->allocated)
		return 0;
	while (allocated < wanted)
		allocated += allocated / 2;
	allocated = (allocated + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1);
	data = realloc(records->data, allocated);
	if (!data)
		return -ENOMEM;
	records->data = data;
	records->allocated = allocated;
	return 0;
}

int records_append(struct records *records, const struct record *record)
{
	bool has_flags = record->flags != 0;
	size_t size = record_size(record->key_len, record->value_len, has_flags);
	struct record_head head = {
		.modify_index = le64_of(record->modify_index),
		.value_len = le32_of(record->value_len),
		.key_len = le16_of((uint16_t)record->key_len),
		.layer = record->layer,
		.meta = has_flags ? RECORD_HAS_FLAGS : 0,
	};
	uint8_t *p;
	int r;

	r = records_reserve(records, size);
	if (r < 0)
		return r;
	p = records->data + records->size;
	/* The terminators and the padding: same content, same bytes. */
	memset(p + size - 2 * RECORD_ALIGN, 0, 2 * RECORD_ALIGN);
	if (has_flags) {
		le64 flags = le64_of(record->flags);

		memcpy(p + size - sizeof(flags), &flags, sizeof(flags));
	}
	memcpy(p, &head, sizeof(head));
	p += sizeof(head);
	memcpy(p, record->key, record->key_len);
	p += record->key_len;
	*p++ = '\0';
	if (record->value_len > 0)
		memcpy(p, record->value, record->value_len);
	p[record->value_len] = '\0';
	records->size += size;
	records->n++;
	return 0;
}

void records_done(struct records *records)
{
	free(records->data);
	*records = (struct records){ 0 };
}

void records_trim(struct records *records)
{
	uint8_t *data;

	if (records->size == 0) {
		free(records->data);
		records->data = NULL;
		records->allocated = 0;
		return;
	}
	data = realloc(records->data, records->size);
	if (!data)
		return;
	records->data = data;
	records->allocated = records->size;
}

struct sort_item {
	const char *key;
	size_t key_len;
	size_t off;
	size_t end;
};

/* Equal keys keep the order in which they came. */
static int compare_items(const void *a, const void *b)
{
	const struct sort_item *x = a, *y = b;
	int r = key_compare(x->key, x->key_len, y->key, y->key_len);

	return r != 0 ? r : (x->off > y->off) - (x->off < y->off);
}

static int collect_items(const struct records *records, struct sort_item *items)
{
	size_t off = 0;

	for (size_t i = 0; i < records->n; i++) {
		struct record record;
		size_t end = record_decode(records->data, records->size, off, &record);

		if (end == 0)
			return -EBADMSG;
		items[i] = (struct sort_item){ record.key, record.key_len, off, end };
		off = end;
	}
	return 0;
}

int records_sort(struct records *records, size_t *ret_dropped)
{
	AUTO_FREE struct sort_item *items = NULL;
	AUTO_FREE uint8_t *data = NULL;
	size_t size = 0, n = 0, dropped = 0;

	if (records->n < 2) {
		*ret_dropped = 0;
		return 0;
	}
	items = calloc(records->n, sizeof(*items));
	data = malloc(records->size);
	if (!items || !data)
		return -ENOMEM;
	if (collect_items(records, items) < 0)
		return -EBADMSG;
	qsort(items, records->n, sizeof(*items), compare_items);
	for (size_t i = 0; i < records->n; i++) {
		const struct sort_item *item = &items[i], *next = item + 1;

		if (i + 1 < records->n &&
			key_compare(item->key, item->key_len, next->key, next->key_len) == 0) {
			dropped++;
			continue;
		}
		memcpy(data + size, records->data + item->off, item->end - item->off);
		size += item->end - item->off;
		n++;
	}
	free(records->data);
	records->allocated = records->size;
	records->data = TAKE_PTR(data);
	records->size = size;
	records->n = n;
	*ret_dropped = dropped;
	return 0;
}
