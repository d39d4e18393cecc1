#include "test.h"

#include "proto/image-builder.h"

struct built {
	void *data;
	size_t size;
	struct image image;
};

static void append(struct records *records, const char *key, const char *value)
{
	const struct record record = {
		.key = key,
		.key_len = (uint32_t)strlen(key),
		.value = value,
		.value_len = (uint32_t)strlen(value),
	};

	assert_int_equal(records_append(records, &record), 0);
}

static uint64_t digest_of(const struct records *records)
{
	struct record record;
	uint64_t digest = 0;

	for (size_t off = 0; off < records->size;) {
		off = record_decode(records->data, records->size, off, &record);
		assert_int_not_equal(off, 0);
		digest = hash_chain(digest, record.key, record.key_len);
		digest = hash_chain(digest, record.value, record.value_len);
	}
	return digest;
}

static struct built build(const struct records *records)
{
	struct built built;

	assert_int_equal(image_build(records, digest_of(records), &built.data, &built.size), 0);
	assert_int_equal(image_open(built.data, built.size, &built.image), 0);
	return built;
}

/* Keys k00000, k00001 … : in order. */
static struct records numbered(unsigned n)
{
	struct records records = { 0 };

	for (unsigned i = 0; i < n; i++) {
		char key[32], value[32];

		snprintf(key, sizeof(key), "k%05u", i);
		snprintf(value, sizeof(value), "value %u", i);
		append(&records, key, value);
	}
	return records;
}

static void every_key_is_found_and_no_other(void **state)
{
	const unsigned sizes[] = { 0, 1, 2, 7, 8, 9, 100, 5000 };

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		struct records records = numbered(sizes[s]);
		struct built built = build(&records);
		struct record found;

		for (unsigned i = 0; i < sizes[s]; i++) {
			char key[32], value[32];
			size_t len = (size_t)snprintf(key, sizeof(key), "k%05u", i);

			snprintf(value, sizeof(value), "value %u", i);
			assert_true(image_find(&built.image, key, len, &found));
			assert_string_equal(found.value, value);
		}
		assert_false(image_find(&built.image, "k", 1, &found));
		assert_false(image_find(&built.image, "k000000", 7, &found));
		assert_false(image_find(&built.image, "", 0, &found));
		assert_int_equal(image_verify(&built.image), 0);
		free(built.data);
		records_done(&records);
	}
}

static void same_content_gives_same_bytes(void **state)
{
	struct records a = numbered(1000), b = numbered(1000);
	struct built x = build(&a), y = build(&b);

	(void)state;
	assert_int_equal(x.size, y.size);
	assert_memory_equal(x.data, y.data, x.size);
	free(x.data);
	free(y.data);
	records_done(&a);
	records_done(&b);
}

static void building_in_slices_gives_the_same_bytes(void **state)
{
	struct records records = numbered(1000);
	struct built whole = build(&records);
	struct image_builder *builder;
	struct iovec iov[2];
	int r;

	(void)state;
	assert_int_equal(image_builder_new(&records, digest_of(&records), &builder), 0);
	do
		r = image_builder_step(builder, 7);
	while (r > 0);
	assert_int_equal(r, 0);
	image_builder_bytes(builder, iov);
	assert_int_equal(iov[0].iov_len + iov[1].iov_len, whole.size);
	assert_memory_equal(iov[0].iov_base, whole.data, iov[0].iov_len);
	assert_memory_equal(
		iov[1].iov_base, (uint8_t *)whole.data + iov[0].iov_len, iov[1].iov_len);
	image_builder_free(builder);
	free(whole.data);
	records_done(&records);
}

static unsigned count(const struct image *image, const char *prefix)
{
	struct record record;
	size_t cursor = 0;
	unsigned n = 0;

	while (image_next(image, prefix, strlen(prefix), &cursor, &record)) {
		assert_memory_equal(record.key, prefix, strlen(prefix));
		n++;
	}
	assert_false(image_next(image, prefix, strlen(prefix), &cursor, &record));
	return n;
}

static void a_prefix_walk_sees_just_its_keys_in_order(void **state)
{
	struct records records = numbered(1000);
	struct built built = build(&records);

	(void)state;
	assert_int_equal(count(&built.image, ""), 1000);
	assert_int_equal(count(&built.image, "k0000"), 10);
	assert_int_equal(count(&built.image, "k00123"), 1);
	assert_int_equal(count(&built.image, "k009"), 100);
	assert_int_equal(count(&built.image, "a"), 0);
	assert_int_equal(count(&built.image, "k001230"), 0);
	assert_int_equal(count(&built.image, "z"), 0);
	free(built.data);
	records_done(&records);
}

static void an_entry_costs_at_most_forty_bytes_beyond_key_and_value(void **state)
{
	struct records records = numbered(50000);
	struct built built = build(&records);
	struct record record;
	size_t payload = 0, cursor = 0;

	(void)state;
	while (image_next(&built.image, "", 0, &cursor, &record))
		payload += record.key_len + record.value_len;
	assert_true(built.size - payload <= 40 * 50000);
	free(built.data);
	records_done(&records);
}

static void a_truncated_image_is_refused_at_every_length(void **state)
{
	struct records records = numbered(3);
	struct built built = build(&records);
	struct image image;

	(void)state;
	for (size_t size = 0; size < built.size; size++) {
		void *copy = test_copy(built.data, size);

		assert_int_equal(image_open(copy, size, &image), -EBADMSG);
		free(copy);
	}
	free(built.data);
	records_done(&records);
}

static void another_major_version_is_told_apart_from_damage(void **state)
{
	struct records records = numbered(3);
	struct built built = build(&records);
	struct image_header *header = built.data;
	struct image image;

	(void)state;
	header->major = le16_of(IMAGE_MAJOR + 1);
	assert_int_equal(image_open(built.data, built.size, &image), -EPROTONOSUPPORT);
	header->major = le16_of(IMAGE_MAJOR);
	header->minor = le16_of(IMAGE_MINOR + 9);
	assert_int_equal(image_open(built.data, built.size, &image), 0);
	header->magic[0] ^= 1;
	assert_int_equal(image_open(built.data, built.size, &image), -EBADMSG);
	free(built.data);
	records_done(&records);
}

/* Whatever one flipped bit does, no read leaves the image; verify finds those that matter. */
static void a_flipped_bit_anywhere_never_leads_outside(void **state)
{
	struct records records = numbered(20);
	struct built built = build(&records);

	(void)state;
	for (size_t bit = 0; bit < built.size * 8; bit++) {
		uint8_t *copy = test_copy(built.data, built.size);
		struct record record;
		struct image image;

		copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (image_open(copy, built.size, &image) == 0) {
			(void)image_verify(&image);
			for (unsigned i = 0; i < 20; i++) {
				char key[32];
				size_t len = (size_t)snprintf(key, sizeof(key), "k%05u", i);

				(void)image_find(&image, key, len, &record);
			}
		}
		free(copy);
	}
	free(built.data);
	records_done(&records);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_key_is_found_and_no_other),
		cmocka_unit_test(same_content_gives_same_bytes),
		cmocka_unit_test(building_in_slices_gives_the_same_bytes),
		cmocka_unit_test(a_prefix_walk_sees_just_its_keys_in_order),
		cmocka_unit_test(an_entry_costs_at_most_forty_bytes_beyond_key_and_value),
		cmocka_unit_test(a_truncated_image_is_refused_at_every_length),
		cmocka_unit_test(another_major_version_is_told_apart_from_damage),
		cmocka_unit_test(a_flipped_bit_anywhere_never_leads_outside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
