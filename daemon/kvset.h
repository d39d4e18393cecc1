/*
 * The contents of one watched prefix as one answer of its source gave them: records in key order.
 * Filled entry by entry, then finished, then immutable and shared by reference.
 *
 * Nearly every answer says what the one before said. With that one as its model a set stores
 * nothing as long as the entries are the same: the memory for 100 000 keys that would be written,
 * compared and thrown away was a tenth of a resync.
 *
 * Samples, the offsets of every KVSET_SAMPLE-th record, find a key among a million: those are 10 ms
 * of looking one by one.
 */
#pragma once

#include "proto/record.h"

#define KVSET_SAMPLE ((size_t)64) /* an eighth of a byte for each record; of images, a multiple */

struct image;

struct kvset {
	unsigned refs;
	bool sorted; /* so far every key was above the one before */
	struct records records;
	struct kvset
		*model; /* of which records.size bytes came again so far; NULL: none any more */
	struct kvset
		*owner; /* of the memory of records, which are all the same; NULL: they are ours */
	size_t *samples; /* of the records KVSET_SAMPLE, 2 * KVSET_SAMPLE, …; the owner's if any */
	size_t n_samples;
	void (*give_back)(void *lender); /* of records that are lent; NULL: they are not */
	void *lender;
	size_t last_off; /* of the record added last */
	uint64_t digest; /* over keys and values */
	uint64_t flags_digest; /* over keys and flags of entries that have flags */
	uint64_t body_hash; /* of the answer as it came, decoded; 0: not known */
	uint64_t index; /* Consul's index of the answer, 0: none */
	uint64_t heard_at; /* loop_now() when the source began to tell of it; 0: not known */
	uint64_t answered_cpu_usec; /* loop_cpu_usec() when the last byte of the answer had come */
	size_t max_bytes; /* of records */
	size_t n_skipped; /* entries that are not representable: bad keys */
	size_t n_dropped; /* entries whose key came twice; the last one stays */
};

/* model: a finished set or NULL; it is referenced until this one is finished, or goes. */
int kvset_new(size_t max_bytes, struct kvset *model, struct kvset **ret_set);
struct kvset *kvset_ref(struct kvset *set);
struct kvset *kvset_unref(struct kvset *set); /* NULL is fine; returns NULL */

/*
 * Adds one entry; key relative to the prefix. 0; 1: the key is not one of ours, skipped and
 * counted; -EFBIG: max_bytes or LIMIT_ENTRIES exceeded; -ENOMEM.
 */
int kvset_add(struct kvset *set, const char *key, size_t key_len, const char *value,
	size_t value_len, uint64_t flags, uint64_t modify_index);
int kvset_finish(struct kvset *set);

/*
 * A finished set of an image's records, which somebody else keeps: give_back(lender) is called when
 * the set has no use for them any more. The caller fills in flags_digest and index. 0, -ENOMEM:
 * nothing was taken.
 */
int kvset_borrow(const struct image *image, void (*give_back)(void *lender), void *lender,
	struct kvset **ret_set);

/* The same finished set, in the records of an image that was made of it; else as kvset_borrow(). */
int kvset_move(const struct kvset *set, const struct image *image, void (*give_back)(void *lender),
	void *lender, struct kvset **ret_set);
/* Of records that are lent. */
bool kvset_is_borrowed(const struct kvset *set);

/* A new set of all keys of two finished ones; of a key that both have, the entry that was written
 * last. 0, -ENOMEM. */
int kvset_unite(const struct kvset *a, const struct kvset *b, struct kvset **ret_set);

/* Same keys, values and flags; a ModifyIndex alone (a lock was taken) is no change. */
bool kvset_same(const struct kvset *a, const struct kvset *b);

/* Of a finished set. */
bool kvset_find(
	const struct kvset *set, const char *key, size_t key_len, struct record *ret_record);
