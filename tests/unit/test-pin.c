#include "test.h"

#include "daemon/pin.h"
#include "proto/image-builder.h"

static const struct pin_note note = {
	.by = "uid 7", .reason = "a bad push", .since = 1000, .until = 5000
};
static const struct pin_note endless = { .by = "uid 0", .since = 1 };

static void set(struct pins *pins, const char *key, const char *value, const struct pin_note *why)
{
	assert_int_equal(pins_override(pins, key, strlen(key), value, strlen(value), why), 0);
}

static const struct pin *nth(const struct pins *pins, unsigned n)
{
	const struct list *node = pins->overrides.next;

	while (n-- > 0)
		node = node->next;
	return LIST_ENTRY((struct list *)(uintptr_t)node, struct pin, link);
}

static void overrides_are_in_order_and_the_last_one_counts(void **state)
{
	struct pins pins;
	struct kvset *layer;
	struct record record;

	(void)state;
	pins_init(&pins);
	assert_true(pins_are_empty(&pins));
	set(&pins, "m", "1", &note);
	set(&pins, "z", "2", &note);
	set(&pins, "a", "3", &note);
	set(&pins, "m", "4", &endless);
	assert_int_equal(pins.n_overrides, 3);
	assert_string_equal(nth(&pins, 0)->key, "a");
	assert_string_equal(nth(&pins, 1)->value, "4");
	assert_string_equal(nth(&pins, 2)->key, "z");
	assert_int_equal(pins_layer(&pins, &layer), 0);
	assert_int_equal(layer->records.n, 3);
	assert_true(record_decode(layer->records.data, layer->records.size, 0, &record) > 0);
	assert_string_equal(record.key, "a");
	kvset_unref(layer);
	assert_int_equal(pins_clear(&pins, "n", 1), 0);
	assert_int_equal(pins_clear(&pins, "m", 1), 1);
	assert_int_equal(pins_clear(&pins, NULL, 0), 2);
	assert_true(pins_are_empty(&pins));
	pins_done(&pins);
}

static void what_was_kept_is_what_was_said(void **state)
{
	struct pins pins, again;
	struct image image;
	size_t size;
	void *data;

	(void)state;
	pins_init(&pins);
	pins.is_frozen = true;
	pins.frozen = note;
	pins.frozen_digest = 77;
	set(&pins, "empty", "", &endless);
	assert_int_equal(pins_override(&pins, "nul", 3, "a\0b", 3, &note), 0);
	assert_int_equal(pins_encode(&pins, &data, &size), 0);
	assert_int_equal(image_open(data, size, &image), 0);
	assert_int_equal(pins_decode(&image, &again), 0);
	assert_true(again.is_frozen);
	assert_int_equal(again.frozen_digest, 77);
	assert_string_equal(again.frozen.by, "uid 7");
	assert_string_equal(again.frozen.reason, "a bad push");
	assert_int_equal(again.frozen.since, 1000);
	assert_int_equal(again.frozen.until, 5000);
	assert_int_equal(again.n_overrides, 2);
	assert_int_equal(nth(&again, 0)->value_len, 0);
	assert_int_equal(nth(&again, 0)->note.until, 0);
	assert_int_equal(nth(&again, 1)->value_len, 3);
	assert_memory_equal(nth(&again, 1)->value, "a\0b", 4);
	free(data);
	pins_done(&again);
	pins_done(&pins);
}

/* What another version wrote, or nobody. */
static void an_image_of_something_else_is_refused(void **state)
{
	const char *const values[] = { "", "short", "sixteen bytes   by, and no reason" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		const struct record record = { .key = "f",
			.key_len = 1,
			.value = values[i],
			.value_len = (uint32_t)strlen(values[i]) };
		struct records records = { 0 };
		struct image image;
		struct pins pins;
		size_t size;
		void *data;

		assert_int_equal(records_append(&records, &record), 0);
		assert_int_equal(image_build(&records, 0, &data, &size), 0);
		assert_int_equal(image_open(data, size, &image), 0);
		assert_int_equal(pins_decode(&image, &pins), -EBADMSG);
		free(data);
		records_done(&records);
	}
}

static void each_ends_in_its_time(void **state)
{
	struct pins pins;

	(void)state;
	pins_init(&pins);
	assert_int_equal(pins_next_end(&pins), 0);
	pins.is_frozen = true;
	pins.frozen = note;
	set(&pins, "a", "1", &endless);
	assert_int_equal(pins_next_end(&pins), 5000);
	pins.frozen.until = 9000;
	set(&pins, "b", "1", &note);
	assert_int_equal(pins_next_end(&pins), 5000);
	assert_false(pins_expire(&pins, 4999));
	assert_true(pins_expire(&pins, 5000));
	assert_int_equal(pins.n_overrides, 1);
	assert_true(pins.is_frozen);
	assert_int_equal(pins_next_end(&pins), 9000);
	assert_true(pins_expire(&pins, 10000));
	assert_false(pins.is_frozen);
	assert_int_equal(pins_next_end(&pins), 0);
	pins_done(&pins);
}

static void overrides_have_a_limit(void **state)
{
	struct pins pins;
	char key[16];

	(void)state;
	pins_init(&pins);
	for (unsigned i = 0; i < LIMIT_PINS; i++) {
		snprintf(key, sizeof(key), "key%u", i);
		set(&pins, key, "", &endless);
	}
	assert_int_equal(pins_override(&pins, "more", 4, "", 0, &endless), -ENOBUFS);
	set(&pins, "key7", "another", &endless);
	assert_int_equal(pins.n_overrides, LIMIT_PINS);
	assert_string_equal(pins_find(&pins, "key7", 4)->value, "another");
	pins_done(&pins);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(overrides_are_in_order_and_the_last_one_counts),
		cmocka_unit_test(what_was_kept_is_what_was_said),
		cmocka_unit_test(an_image_of_something_else_is_refused),
		cmocka_unit_test(each_ends_in_its_time),
		cmocka_unit_test(overrides_have_a_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
