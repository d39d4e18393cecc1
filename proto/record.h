/*
 * One entry as it stands in an image, and a growing buffer of them. Records lie one behind the
 * other, each on a multiple of 8, in key order; a buffer of records is both what one answer of a
 * source is kept as and, copied as it is, the last part of an image.
 *
 *   0  le64 modify_index   Consul's ModifyIndex, 0 where the source has none
 *   8  le32 value_len
 *  12  le16 key_len        1 to LIMIT_KEY
 *  14  u8   layer          the layer it came from, 0 = the lowest
 *  15  u8   meta           RECORD_HAS_FLAGS
 *  16  key, NUL, value, NUL, zeros up to a multiple of 8
 *   …  le64 flags          only with RECORD_HAS_FLAGS; behind the rest, so that a lookup, which has
 *                          no use for them, finds the key at the same place in every record
 *
 * Never trusts the bytes it reads: every length is checked against the end of the buffer.
 */
#pragma once

#include "proto/le.h"
#include "proto/limits.h"
#include "proto/std.h"

#define RECORD_ALIGN ((size_t)8)
#define RECORD_HAS_FLAGS 0x01u

struct record_head {
	le64 modify_index;
	le32 value_len;
	le16 key_len;
	uint8_t layer;
	uint8_t meta;
};

_Static_assert(sizeof(struct record_head) == 16, "record layout");
_Static_assert(offsetof(struct record_head, key_len) == 12, "record layout");

/* A decoded record; the pointers are into the buffer it was read from. */
struct record {
	const char *key; /* NUL-terminated */
	const char *value; /* NUL-terminated, may hold NULs */
	uint32_t key_len;
	uint32_t value_len;
	uint64_t flags;
	uint64_t modify_index;
	uint8_t layer;
};

/* Bytes that one record takes. */
static inline size_t record_size(size_t key_len, size_t value_len, bool has_flags)
{
	size_t n = sizeof(struct record_head) + key_len + value_len + 2;

	return ((n + (RECORD_ALIGN - 1)) & ~(size_t)(RECORD_ALIGN - 1)) + (has_flags ? 8 : 0);
}

/*
 * Decodes the record at data + off, where `size` is the end of the readable bytes. Returns the
 * offset behind it, or 0 when the bytes there are no record. Inline: it is the second half of
 * every lookup.
 */
static inline size_t record_decode(
	const uint8_t *data, size_t size, size_t off, struct record *ret_record)
{
	const struct record_head *head;
	size_t key_len, value_len, end;

	if (off % RECORD_ALIGN != 0 || off > size || size - off < sizeof(*head))
		return 0;
	head = (const struct record_head *)(const void *)(data + off);
	key_len = le16_get(head->key_len);
	value_len = le32_get(head->value_len);
	end = off + record_size(key_len, value_len, head->meta & RECORD_HAS_FLAGS);
	if (key_len == 0 || end > size)
		return 0;
	ret_record->key = (const char *)(head + 1);
	ret_record->value = ret_record->key + key_len + 1;
	ret_record->key_len = (uint32_t)key_len;
	ret_record->value_len = (uint32_t)value_len;
	ret_record->modify_index = le64_get(head->modify_index);
	ret_record->layer = head->layer;
	ret_record->flags = head->meta & RECORD_HAS_FLAGS
				    ? le64_get(*(const le64 *)(const void *)(data + end - 8))
				    : 0;
	/* Readers hand these out as C strings: a missing terminator is a broken record. */
	return ret_record->key[key_len] == '\0' && ret_record->value[value_len] == '\0' ? end : 0;
}

static inline uint64_t record_load64(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t record_load32(const char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t record_difference16(const char *a, const char *b)
{
	return (record_load64(a) ^ record_load64(b)) |
	       (record_load64(a + 8) ^ record_load64(b + 8));
}

/* By words that overlap at the end: a call of memcmp() is a fifth of a lookup. */
static inline bool record_same_key(const char *a, const char *b, size_t len)
{
	if (__builtin_expect(len >= 16, 1)) {
		for (size_t i = 0; i + 16 < len; i += 16)
			if (record_difference16(a + i, b + i) != 0)
				return false;
		return record_difference16(a + len - 16, b + len - 16) == 0;
	}
	if (len >= 8)
		return record_load64(a) == record_load64(b) &&
		       record_load64(a + len - 8) == record_load64(b + len - 8);
	if (len >= 4)
		return record_load32(a) == record_load32(b) &&
		       record_load32(a + len - 4) == record_load32(b + len - 4);
	for (size_t i = 0; i < len; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

/*
 * The value of the record at data + off (size is at least that of a head) if it has this key. The
 * whole of a lookup behind the index, and kept lean: every instruction here narrows how far the
 * processor looks ahead over a cache miss.
 */
static inline bool record_match(const uint8_t *data, size_t size, size_t off, const char *key,
	size_t key_len, const char **ret_value, size_t *ret_len)
{
	const struct record_head *head = (const struct record_head *)(const void *)(data + off);
	size_t value_len;
	const char *value;

	if (off > size - sizeof(*head) || le16_get(head->key_len) != key_len)
		return false;
	value_len = le32_get(head->value_len);
	if (off + sizeof(*head) + key_len + value_len + 2 > size)
		return false;
	if (!record_same_key((const char *)(head + 1), key, key_len))
		return false;
	value = (const char *)(head + 1) + key_len + 1;
	*ret_value = value;
	*ret_len = value_len;
	return value[value_len] == '\0';
}

/* Where the record lies whose value record_match() gave. */
static inline size_t record_offset(const uint8_t *data, size_t key_len, const char *value)
{
	return (size_t)((const uint8_t *)value - data) - key_len - 1 - sizeof(struct record_head);
}

/* A growing buffer of records; owned by whoever holds the struct. */
struct records {
	uint8_t *data;
	size_t size;
	size_t allocated;
	size_t n;
};

/*
 * Appends one record; key and value are copied and may not point into the buffer. 0, -ENOMEM.
 * The order is the caller's duty.
 */
int records_append(struct records *records, const struct record *record);
void records_done(struct records *records);

/* Gives back what growing took too much. */
void records_trim(struct records *records);

/*
 * Sorts by key; of several records with one key the one appended last stays. *ret_dropped is how
 * many went. 0, -ENOMEM.
 */
int records_sort(struct records *records, size_t *ret_dropped);
