#include "test.h"

#include "proto/record.h"

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

static void a_record_reads_back_with_all_its_fields(void **state)
{
	struct records records = { 0 };
	const struct record in = {
		.key = "db/url",
		.key_len = 6,
		.value = "a\0b",
		.value_len = 3,
		.flags = UINT64_MAX,
		.modify_index = 42,
		.layer = 3,
	};
	struct record out;

	(void)state;
	assert_int_equal(records_append(&records, &in), 0);
	assert_int_equal(record_decode(records.data, records.size, 0, &out), records.size);
	assert_string_equal(out.key, "db/url");
	assert_int_equal(out.value_len, 3);
	assert_memory_equal(out.value, "a\0b\0", 4);
	assert_true(out.flags == UINT64_MAX);
	assert_int_equal(out.modify_index, 42);
	assert_int_equal(out.layer, 3);
	records_done(&records);
}

static void records_start_on_multiples_of_eight(void **state)
{
	struct records records = { 0 };

	(void)state;
	for (char len = 1; len < 20; len++) {
		char key[20];

		memset(key, 'k', sizeof(key));
		key[(int)len] = '\0';
		append(&records, key, "v");
		assert_int_equal(records.size % RECORD_ALIGN, 0);
	}
	records_done(&records);
}

static void an_empty_value_is_a_value(void **state)
{
	struct records records = { 0 };
	struct record out;

	(void)state;
	append(&records, "k", "");
	assert_int_not_equal(record_decode(records.data, records.size, 0, &out), 0);
	assert_int_equal(out.value_len, 0);
	assert_string_equal(out.value, "");
	records_done(&records);
}

static void a_record_that_leaves_the_buffer_is_refused_at_every_length(void **state)
{
	struct records records = { 0 };
	struct record out;

	(void)state;
	append(&records, "some/key", "some value");
	for (size_t size = 0; size < records.size; size++) {
		/* A copy of exactly this size: a read beyond it is the sanitizer's to find. */
		uint8_t *copy = test_copy(records.data, size);

		assert_int_equal(record_decode(copy, size, 0, &out), 0);
		free(copy);
	}
	records_done(&records);
}

static void lying_lengths_and_missing_terminators_are_refused(void **state)
{
	struct records records = { 0 };
	struct record out;
	struct record_head *head;

	(void)state;
	append(&records, "key", "value");
	head = (struct record_head *)(void *)records.data;
	head->value_len = le32_of(UINT32_MAX);
	assert_int_equal(record_decode(records.data, records.size, 0, &out), 0);
	head->value_len = le32_of(4);
	assert_int_equal(record_decode(records.data, records.size, 0, &out), 0);
	head->value_len = le32_of(5);
	head->key_len = le16_of(0);
	assert_int_equal(record_decode(records.data, records.size, 0, &out), 0);
	head->key_len = le16_of(2);
	assert_int_equal(record_decode(records.data, records.size, 0, &out), 0);
	assert_int_equal(record_decode(records.data, records.size, 4, &out), 0);
	assert_int_equal(record_decode(records.data, records.size, 1 << 30, &out), 0);
	records_done(&records);
}

static void sorting_keeps_the_last_of_equal_keys(void **state)
{
	struct records records = { 0 };
	struct record out;
	size_t dropped, off;

	(void)state;
	append(&records, "b", "1");
	append(&records, "a", "2");
	append(&records, "b", "3");
	append(&records, "a\xff", "4");
	assert_int_equal(records_sort(&records, &dropped), 0);
	assert_int_equal(dropped, 1);
	assert_int_equal(records.n, 3);
	off = record_decode(records.data, records.size, 0, &out);
	assert_string_equal(out.key, "a");
	off = record_decode(records.data, records.size, off, &out);
	assert_string_equal(out.key, "a\xff");
	off = record_decode(records.data, records.size, off, &out);
	assert_string_equal(out.value, "3");
	assert_int_equal(off, records.size);
	records_done(&records);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_reads_back_with_all_its_fields),
		cmocka_unit_test(records_start_on_multiples_of_eight),
		cmocka_unit_test(an_empty_value_is_a_value),
		cmocka_unit_test(a_record_that_leaves_the_buffer_is_refused_at_every_length),
		cmocka_unit_test(lying_lengths_and_missing_terminators_are_refused),
		cmocka_unit_test(sorting_keeps_the_last_of_equal_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
