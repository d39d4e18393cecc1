#include "proto/image-builder.h"

#define SLOTS_PER_ENTRY 4 /* 1.2 slots per hit, 16 bytes per entry */
#define MAX_PROBE 256 /* beyond it the seed is unlucky, or an attacker's: take the next one */
#define MAX_SEED 64 /* no honest set of keys is unlucky this often */

struct image_builder {
	const struct records *records;
	struct image_header *head; /* header, slots and samples in one run */
	size_t head_size;
	le32 *slots;
	le32 *samples;
	uint32_t n_slots;
	uint32_t n_all_slots;
	uint32_t max_probe;
	uint32_t unit_mask;
	uint64_t digest;
	uint64_t seed;
	size_t off; /* of the next record to index */
	size_t n; /* records indexed */
};

static size_t align_up(size_t n)
{
	return (n + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1);
}

int image_builder_new(
	const struct records *records, uint64_t digest, struct image_builder **ret_builder)
{
	AUTO_FREE struct image_builder *b = NULL;
	size_t n_slots = MAX(records->n * SLOTS_PER_ENTRY, (size_t)1);
	/* An even number, so that what follows is aligned. */
	size_t n_all_slots =
		(n_slots + MIN(MAX(records->n, (size_t)1), (size_t)MAX_PROBE) + 1) & ~(size_t)1;
	size_t n_samples = (records->n + IMAGE_SAMPLE - 1) / IMAGE_SAMPLE;
	size_t samples_off = sizeof(struct image_header) + n_all_slots * sizeof(le32);
	size_t head_size = align_up(samples_off + n_samples * sizeof(le32));

	if (records->n > LIMIT_ENTRIES || head_size + records->size > IMAGE_MAX_SIZE)
		return -EFBIG;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->head = calloc(1, head_size);
	if (!b->head)
		return -ENOMEM;
	b->records = records;
	b->head_size = head_size;
	b->slots = (le32 *)(void *)(b->head + 1);
	b->samples = (le32 *)(void *)((uint8_t *)b->head + samples_off);
	b->n_slots = (uint32_t)n_slots;
	b->n_all_slots = (uint32_t)n_all_slots;
	b->unit_mask = image_unit_mask(head_size + records->size);
	b->digest = digest;
	*ret_builder = TAKE_PTR(b);
	return 0;
}

struct image_builder *image_builder_free(struct image_builder *b)
{
	if (b) {
		free(b->head);
		free(b);
	}
	return NULL;
}

/* False when no slot is left within reach of the key's home. */
static bool place(struct image_builder *b, const struct record *record, uint32_t unit)
{
	uint64_t hash = hash_key(record->key, record->key_len, b->seed);
	uint32_t home = (uint32_t)((hash >> 32) * b->n_slots >> 32);

	for (uint32_t i = home; i < b->n_all_slots; i++) {
		if (le32_get(b->slots[i]) != 0)
			continue;
		b->slots[i] = le32_of(((uint32_t)hash & ~b->unit_mask) | unit);
		b->max_probe = MAX(b->max_probe, i - home + 1);
		return b->max_probe <= b->n_all_slots - b->n_slots;
	}
	return false;
}

static int start_over_with_next_seed(struct image_builder *b)
{
	if (b->seed == MAX_SEED)
		return -EFBIG;
	b->seed++;
	b->off = b->n = 0;
	b->max_probe = 0;
	memset(b->slots, 0, b->n_all_slots * sizeof(le32));
	return 1;
}

static void fill_header(struct image_builder *b)
{
	size_t samples_off = (size_t)((uint8_t *)b->samples - (uint8_t *)b->head);

	*b->head = (struct image_header){
		.magic = IMAGE_MAGIC_BYTES,
		.major = le16_of(IMAGE_MAJOR),
		.minor = le16_of(IMAGE_MINOR),
		.header_size = le32_of(sizeof(struct image_header)),
		.size = le64_of(b->head_size + b->records->size),
		.n_entries = le64_of(b->records->n),
		.digest = le64_of(b->digest),
		.seed = le64_of(b->seed),
		.n_slots = le32_of(b->n_slots),
		.max_probe = le32_of(b->max_probe),
		.n_samples = le32_of((uint32_t)((b->records->n + IMAGE_SAMPLE - 1) / IMAGE_SAMPLE)),
		.slots_off = le64_of(sizeof(struct image_header)),
		.samples_off = le64_of(samples_off),
		.records_off = le64_of(b->head_size),
	};
}

int image_builder_step(struct image_builder *b, size_t max_entries)
{
	const struct records *records = b->records;

	for (size_t i = 0; i < max_entries && b->off < records->size; i++) {
		uint32_t unit = (uint32_t)((b->head_size + b->off) / RECORD_ALIGN);
		struct record record;
		size_t end = record_decode(records->data, records->size, b->off, &record);

		if (end == 0)
			return -EBADMSG;
		if (!place(b, &record, unit))
			return start_over_with_next_seed(b);
		if (b->n % IMAGE_SAMPLE == 0)
			b->samples[b->n / IMAGE_SAMPLE] = le32_of(unit);
		b->n++;
		b->off = end;
	}
	if (b->off < records->size)
		return 1;
	fill_header(b);
	return 0;
}

void image_builder_bytes(const struct image_builder *b, struct iovec iov[2])
{
	iov[0] = (struct iovec){ b->head, b->head_size };
	iov[1] = (struct iovec){ b->records->data, b->records->size };
}

static void image_builder_freep(struct image_builder **b)
{
	image_builder_free(*b);
}

int image_build(const struct records *records, uint64_t digest, void **ret_data, size_t *ret_size)
{
	CLEANUP(image_builder_freep) struct image_builder *b = NULL;
	struct iovec iov[2];
	uint8_t *data;
	int r;

	r = image_builder_new(records, digest, &b);
	if (r < 0)
		return r;
	do
		r = image_builder_step(b, SIZE_MAX);
	while (r > 0);
	if (r < 0)
		return r;
	image_builder_bytes(b, iov);
	data = malloc(iov[0].iov_len + iov[1].iov_len);
	if (!data)
		return -ENOMEM;
	memcpy(data, iov[0].iov_base, iov[0].iov_len);
	if (iov[1].iov_len > 0)
		memcpy(data + iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
	*ret_data = data;
	*ret_size = iov[0].iov_len + iov[1].iov_len;
	return 0;
}
