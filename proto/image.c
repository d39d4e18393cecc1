#include "proto/image.h"

#include "proto/key.h"

/* A part of n items of item_size at off, inside the image and aligned. */
static bool part_fits(uint64_t off, uint64_t n, size_t item_size, uint64_t size)
{
	return off % RECORD_ALIGN == 0 && off <= size && n <= (size - off) / item_size;
}

int image_open(const void *data, size_t size, struct image *ret_image)
{
	const struct image_header *h = data;
	uint64_t n_all_slots, slots_off, samples_off, records_off;

	if (size < sizeof(*h) || size > IMAGE_MAX_SIZE || (uintptr_t)data % RECORD_ALIGN != 0)
		return -EBADMSG;
	if (memcmp(h->magic, IMAGE_MAGIC, sizeof(h->magic)) != 0)
		return -EBADMSG;
	if (le16_get(h->major) != IMAGE_MAJOR)
		return -EPROTONOSUPPORT;

	n_all_slots = (uint64_t)le32_get(h->n_slots) + le32_get(h->max_probe);
	slots_off = le64_get(h->slots_off);
	samples_off = le64_get(h->samples_off);
	records_off = le64_get(h->records_off);
	if (le64_get(h->size) != size || le32_get(h->header_size) < sizeof(*h) ||
		le32_get(h->n_slots) == 0 || slots_off < sizeof(*h) ||
		!part_fits(slots_off, n_all_slots, sizeof(le32), size) ||
		!part_fits(samples_off, le32_get(h->n_samples), sizeof(le32), size) ||
		!part_fits(records_off, le64_get(h->n_entries), sizeof(struct record_head), size))
		return -EBADMSG;

	*ret_image = (struct image){
		.data = data,
		.size = size,
		.slots = (const le32 *)(const void *)((const uint8_t *)data + slots_off),
		.samples = (const le32 *)(const void *)((const uint8_t *)data + samples_off),
		.records_off = records_off,
		.seed = le64_get(h->seed),
		.n_entries = le64_get(h->n_entries),
		.digest = le64_get(h->digest),
		.n_slots = le32_get(h->n_slots),
		.max_probe = le32_get(h->max_probe),
		.n_samples = le32_get(h->n_samples),
		.unit_mask = image_unit_mask(size),
	};
	return 0;
}

static size_t sample_off(const struct image *image, uint32_t i)
{
	return (size_t)le32_get(image->samples[i]) * RECORD_ALIGN;
}

/* Offset of the last sampled record whose key is below the prefix; the first record if none is. */
static size_t seek(const struct image *image, const char *prefix, size_t prefix_len)
{
	uint32_t low = 0, high = image->n_samples;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		struct record record;

		if (record_decode(image->data, image->size, sample_off(image, mid), &record) == 0)
			return image->size; /* damaged: nothing to walk */
		if (key_compare(record.key, record.key_len, prefix, prefix_len) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low > 0 ? sample_off(image, low - 1) : image->records_off;
}

bool image_next(const struct image *image, const char *prefix, size_t prefix_len, size_t *cursor,
	struct record *ret_record)
{
	size_t off = *cursor != 0 ? *cursor : seek(image, prefix, prefix_len);
	struct record record;

	while (off < image->size) {
		off = record_decode(image->data, image->size, off, &record);
		if (off == 0)
			break;
		if (key_compare(record.key, MIN(record.key_len, prefix_len), prefix, prefix_len) <
			0)
			continue;
		if (record.key_len < prefix_len || memcmp(record.key, prefix, prefix_len) != 0)
			break;
		*cursor = off;
		*ret_record = record;
		return true;
	}
	*cursor = image->size;
	return false;
}

int image_check_records(const struct image *image, struct image_check *check, unsigned max_entries)
{
	size_t off = check->off != 0 ? check->off : image->records_off;
	struct record record;

	for (unsigned i = 0; off < image->size; i++) {
		if (i == max_entries) {
			check->off = off;
			return 1;
		}
		off = record_decode(image->data, image->size, off, &record);
		if (off == 0 || key_check(record.key, record.key_len) < 0 ||
			(check->last && key_compare(check->last, check->last_len, record.key,
						record.key_len) >= 0))
			return -EBADMSG;
		check->last = record.key;
		check->last_len = record.key_len;
		check->n++;
	}
	return check->n == image->n_entries ? 0 : -EBADMSG;
}

int image_verify(const struct image *image)
{
	struct image_check check = { 0 };
	size_t cursor = 0;
	uint64_t n = 0, digest = 0;
	struct record record;

	if (image_check_records(image, &check, UINT32_MAX) < 0)
		return -EBADMSG;
	while (image_next(image, "", 0, &cursor, &record)) {
		struct record found;

		if (!image_find(image, record.key, record.key_len, &found) ||
			found.key != record.key)
			return -EBADMSG;
		digest = hash_chain(digest, record.key, record.key_len);
		digest = hash_chain(digest, record.value, record.value_len);
		n++;
	}
	return n == image->n_entries && digest == image->digest ? 0 : -EBADMSG;
}
