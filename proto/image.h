/*
 * An image: the configuration of one service as one immutable run of bytes that needs no
 * relocation. The same bytes serve as shared memory, as backup and as input of tools. Same
 * content, same bytes. consulcfg-image(5) describes it for strangers.
 *
 *   header (128 bytes) | slots | samples | records
 *
 * Slots are an open-addressed index of le32. A slot's lower bits are a record's offset / 8, as many
 * as the image's size / 8 needs; the upper ones are a tag, those bits of the key's hash; 0 is
 * empty. A key's home is (hash >> 32) * n_slots >> 32; a lookup walks up to max_probe slots from
 * there and stops at an empty one. max_probe spare slots stand at the end, so that no walk wraps.
 * Four slots per entry: walks are short enough to be predicted, which among 100 keys counts more
 * than anything else. Samples are the le32 offset / 8 of every IMAGE_SAMPLE-th record, for prefix
 * walks. Records are as in record.h, in key order.
 *
 * The header is checked once, when an image is opened; every offset is checked when it is
 * followed, so opening costs the same at 10 keys and at a million.
 */
#pragma once

#include "proto/hash.h"
#include "proto/record.h"

#define IMAGE_MAGIC "CCFGIMG\n"
#define IMAGE_MAGIC_BYTES                                                                          \
	{                                                                                          \
		'C', 'C', 'F', 'G', 'I', 'M', 'G', '\n'                                            \
	}
#define IMAGE_MAJOR 1 /* another major: another layout, not readable */
#define IMAGE_MINOR 0 /* a higher minor only adds what readers may ignore */
#define IMAGE_SAMPLE 8
#define IMAGE_MAX_SIZE ((size_t)8 << 30) /* leaves two bits for the tag */

struct image_header {
	uint8_t magic[8];
	le16 major;
	le16 minor;
	le32 header_size; /* slots begin here; a higher minor may grow the header */
	le64 size; /* of the whole image */
	le64 n_entries;
	le64 digest; /* over keys and values alone: the same on every host */
	le64 seed; /* of hash_key() */
	le32 n_slots; /* homes, without the spare slots behind them */
	le32 max_probe;
	le32 n_samples;
	le32 reserved_zero;
	le64 slots_off;
	le64 samples_off;
	le64 records_off;
	uint8_t unused[40];
};

_Static_assert(sizeof(struct image_header) == 128, "image layout");
_Static_assert(offsetof(struct image_header, n_slots) == 48, "image layout");
_Static_assert(offsetof(struct image_header, slots_off) == 64, "image layout");

/* An opened image; plain data, owns nothing, valid as long as the bytes behind it. */
struct image {
	const uint8_t *data;
	size_t size;
	const le32 *slots;
	const le32 *samples;
	size_t records_off;
	uint64_t seed;
	uint64_t n_entries;
	uint64_t digest;
	uint32_t n_slots;
	uint32_t max_probe;
	uint32_t n_samples;
	uint32_t unit_mask; /* of a slot */
};

/*
 * Opens size bytes at data (aligned to 8). 0; -EBADMSG: not an image or its header lies;
 * -EPROTONOSUPPORT: another major version.
 */
int image_open(const void *data, size_t size, struct image *ret_image);

/* The bits of a slot that number every multiple of 8 in an image of this size. */
static inline uint32_t image_unit_mask(size_t size)
{
	return (UINT32_C(1) << (64 - (unsigned)__builtin_clzll(size / RECORD_ALIGN))) - 1;
}

/* The lookup: the value, NUL-terminated, of a key. A damaged record is none. */
ALWAYS_INLINE static inline bool image_find_value(const struct image *image, const char *key,
	size_t key_len, const char **ret_value, size_t *ret_len)
{
	uint64_t hash = hash_key(key, key_len, image->seed);
	const le32 *slot = image->slots + ((hash >> 32) * image->n_slots >> 32);
	const le32 *end = slot + image->max_probe;
	uint32_t unit_mask = image->unit_mask;

	/* The home itself is a slot in any image. */
	do {
		uint32_t v = le32_get(*slot);
		size_t off = (size_t)(v & unit_mask) * RECORD_ALIGN;

		if (v == 0)
			return false;
		if (((v ^ (uint32_t)hash) & ~unit_mask) == 0 &&
			record_match(
				image->data, image->size, off, key, key_len, ret_value, ret_len))
			return true;
	} while (++slot < end);
	return false;
}

/* The same with all the fields of the entry. */
static inline bool image_find(
	const struct image *image, const char *key, size_t key_len, struct record *ret_record)
{
	const char *value;
	size_t value_len;

	return image_find_value(image, key, key_len, &value, &value_len) &&
	       record_decode(image->data, image->size, record_offset(image->data, key_len, value),
		       ret_record) != 0;
}

/*
 * Walks the entries whose key starts with prefix, in key order. *cursor is 0 before the first
 * call and belongs to this image and prefix. False at the end.
 */
bool image_next(const struct image *image, const char *prefix, size_t prefix_len, size_t *cursor,
	struct record *ret_record);

/* How far a check of an image's records has come; zeroes: at the start. */
struct image_check {
	size_t off;
	uint64_t n;
	const char *last;
	size_t last_len;
};

/*
 * Whether the records are whole up to the end, in key order and as many as the header says: who
 * takes them for a layer counts on it. At most max_entries a call; 1: more to do, 0, -EBADMSG.
 */
int image_check_records(const struct image *image, struct image_check *check, unsigned max_entries);

/* Follows every offset once: what a tool does with a file it was handed. 0, -EBADMSG. */
int image_verify(const struct image *image);
