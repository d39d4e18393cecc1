#include "test.h"

#include <stdio.h>

#include "daemon/kvset.h"
#include "proto/image-builder.h"

static struct kvset *set_like(size_t max_bytes, struct kvset *model)
{
	struct kvset *set;

	assert_int_equal(kvset_new(max_bytes, model, &set), 0);
	return set;
}

static struct kvset *set_of(size_t max_bytes)
{
	return set_like(max_bytes, NULL);
}

static int add(struct kvset *set, const char *key, const char *value)
{
	return kvset_add(set, key, strlen(key), value, strlen(value), 0, 0);
}

static void the_order_of_arrival_does_not_matter(void **state)
{
	struct kvset *a = set_of(1 << 20), *b = set_of(1 << 20);

	(void)state;
	add(a, "x", "1");
	add(a, "y", "2");
	add(a, "z", "3");
	add(b, "z", "3");
	add(b, "x", "1");
	add(b, "y", "2");
	assert_int_equal(kvset_finish(a), 0);
	assert_int_equal(kvset_finish(b), 0);
	assert_true(kvset_same(a, b));
	assert_int_equal(a->records.size, b->records.size);
	assert_memory_equal(a->records.data, b->records.data, a->records.size);
	kvset_unref(a);
	kvset_unref(b);
}

static void of_two_entries_with_one_key_the_last_stays(void **state)
{
	struct kvset *set = set_of(1 << 20), *expected = set_of(1 << 20);

	(void)state;
	add(set, "k", "first");
	add(set, "k", "second");
	assert_int_equal(kvset_finish(set), 0);
	add(expected, "k", "second");
	assert_int_equal(kvset_finish(expected), 0);
	assert_int_equal(set->n_dropped, 1);
	assert_true(kvset_same(set, expected));
	kvset_unref(set);
	kvset_unref(expected);
}

static void keys_that_are_not_representable_are_skipped_and_counted(void **state)
{
	struct kvset *set = set_of(1 << 20);
	char long_key[LIMIT_KEY + 1];

	(void)state;
	memset(long_key, 'k', sizeof(long_key));
	assert_int_equal(kvset_add(set, "a\0b", 3, "v", 1, 0, 0), 1);
	assert_int_equal(kvset_add(set, "\xff", 1, "v", 1, 0, 0), 1);
	assert_int_equal(kvset_add(set, "", 0, "v", 1, 0, 0), 1);
	assert_int_equal(kvset_add(set, long_key, sizeof(long_key), "v", 1, 0, 0), 1);
	assert_int_equal(add(set, "good", "v"), 0);
	assert_int_equal(kvset_finish(set), 0);
	assert_int_equal(set->n_skipped, 4);
	assert_int_equal(set->records.n, 1);
	kvset_unref(set);
}

static void a_difference_in_value_key_or_flags_is_seen_and_one_of_index_is_not(void **state)
{
	struct kvset *base = set_of(1 << 20), *index = set_of(1 << 20), *flags = set_of(1 << 20),
		     *value = set_of(1 << 20), *shifted = set_of(1 << 20);

	(void)state;
	kvset_add(base, "ab", 2, "c", 1, 0, 7);
	kvset_add(index, "ab", 2, "c", 1, 0, 8);
	kvset_add(flags, "ab", 2, "c", 1, 5, 7);
	kvset_add(value, "ab", 2, "d", 1, 0, 7);
	kvset_add(shifted, "a", 1, "bc", 2, 0, 7);
	assert_true(kvset_same(base, index));
	assert_false(kvset_same(base, flags));
	assert_false(kvset_same(base, value));
	assert_false(kvset_same(base, shifted));
	kvset_unref(base);
	kvset_unref(index);
	kvset_unref(flags);
	kvset_unref(value);
	kvset_unref(shifted);
}

/* "a=1 b=2": keys of one byte. */
static struct kvset *filled(const char *entries, uint64_t index, struct kvset *model)
{
	struct kvset *set = set_like(1 << 20, model);

	for (const char *p = entries; *p; p += p[3] ? 4 : 3)
		assert_int_equal(kvset_add(set, p, 1, p + 2, 1, p[2] == 'f' ? 9 : 0, index), 0);
	assert_int_equal(kvset_finish(set), 0);
	return set;
}

static void a_model_changes_nothing_but_the_memory(void **state)
{
	static const char *const answers[] = { "b=1 d=2 f=3", "b=9 d=2 f=3", "b=1 d=9 f=3",
		"b=1 d=2 f=9", "b=1 d=2", "b=1", "", "d=2 f=3", "a=0 b=1 d=2 f=3",
		"b=1 d=2 f=3 g=4", "f=3 d=2 b=1", "b=1 d=f f=3", "b=1 b=1 d=2 f=3" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		for (uint64_t index = 7; index <= 8; index++) {
			struct kvset *model = filled("b=1 d=2 f=3", 7, NULL);
			struct kvset *set = filled(answers[i], index, model);
			struct kvset *alone = filled(answers[i], index, NULL);
			bool is_again = i == 0 && index == 7;

			assert_int_equal(set->records.data == model->records.data, is_again);
			kvset_unref(model);
			assert_true(kvset_same(set, alone));
			assert_int_equal(set->records.n, alone->records.n);
			assert_int_equal(set->n_dropped, alone->n_dropped);
			assert_int_equal(set->records.size, alone->records.size);
			if (set->records.size > 0)
				assert_memory_equal(
					set->records.data, alone->records.data, set->records.size);
			kvset_unref(set);
			kvset_unref(alone);
		}
	}
}

static void what_came_again_twice_has_one_memory(void **state)
{
	struct kvset *first = filled("b=1 d=2", 7, NULL);
	struct kvset *second = filled("b=1 d=2", 7, first), *third = filled("b=1 d=2", 7, second);

	(void)state;
	kvset_unref(second);
	assert_ptr_equal(third->records.data, first->records.data);
	kvset_unref(first);
	assert_int_equal(third->records.n, 2);
	kvset_unref(third);
}

static void a_set_that_goes_half_filled_leaves_its_model(void **state)
{
	struct kvset *model = filled("b=1 d=2", 7, NULL), *set = set_like(1 << 20, model);

	(void)state;
	assert_int_equal(kvset_add(set, "b", 1, "1", 1, 0, 7), 0);
	kvset_unref(set);
	assert_int_equal(model->records.n, 2);
	kvset_unref(model);
}

static void a_set_over_its_limit_is_refused(void **state)
{
	struct kvset *set = set_of(64);

	(void)state;
	assert_int_equal(add(set, "k1", "0123456789"), 0);
	assert_int_equal(add(set, "k2", "0123456789"), 0);
	assert_int_equal(add(set, "k3", "0123456789"), -EFBIG);
	kvset_unref(set);
}

enum { N_MANY = 1000 };

static int add_number(struct kvset *set, unsigned number, unsigned value)
{
	char key[16], text[16];

	snprintf(key, sizeof(key), "k/%04u", number);
	snprintf(text, sizeof(text), "%u", value);
	return add(set, key, text);
}

/* Even numbers, of which the one at `changed` has another value. */
static struct kvset *many(struct kvset *model, bool is_reversed, unsigned changed)
{
	struct kvset *set = set_like(1 << 20, model);

	for (unsigned i = 0; i < N_MANY; i++) {
		unsigned number = 2 * (is_reversed ? N_MANY - 1 - i : i);

		assert_int_equal(add_number(set, number, number == changed ? 7777 : number), 0);
	}
	assert_int_equal(kvset_finish(set), 0);
	return set;
}

/* All that is there is found, in few steps, and nothing else. */
static void assert_finds(const struct kvset *set, unsigned changed)
{
	struct record record;
	char key[16];

	assert_int_equal(set->n_samples, (N_MANY - 1) / KVSET_SAMPLE);
	for (unsigned number = 0; number < 2 * N_MANY; number++) {
		snprintf(key, sizeof(key), "k/%04u", number);
		assert_int_equal(kvset_find(set, key, strlen(key), &record), number % 2 == 0);
		if (number % 2 == 0)
			assert_int_equal(
				atoi(record.value), number == changed ? 7777 : (int)number);
	}
	assert_false(kvset_find(set, "a", 1, &record));
	assert_false(kvset_find(set, "z", 1, &record));
}

static void a_key_is_found_however_the_set_was_made(void **state)
{
	static const unsigned changes[] = { 0, 2, 128, 130, 1000, 2 * N_MANY - 2 };
	struct kvset *model = many(NULL, false, UINT_MAX), *set;

	(void)state;
	assert_finds(model, UINT_MAX);
	set = many(NULL, true, UINT_MAX);
	assert_finds(set, UINT_MAX);
	kvset_unref(set);
	set = many(model, false, UINT_MAX);
	assert_ptr_equal(set->samples, model->samples);
	assert_finds(set, UINT_MAX);
	kvset_unref(set);
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		set = many(model, false, changes[i]);
		assert_finds(set, changes[i]);
		kvset_unref(set);
	}
	kvset_unref(model);
}

static void on_give_back(void *lender)
{
	*(bool *)lender = true;
}

static void a_key_is_found_in_what_an_image_lends(void **state)
{
	struct kvset *model = many(NULL, false, UINT_MAX), *set, *next;
	AUTO_FREE void *data = NULL;
	bool was_given_back = false;
	struct image image;
	size_t size;

	(void)state;
	assert_int_equal(image_build(&model->records, model->digest, &data, &size), 0);
	assert_int_equal(image_open(data, size, &image), 0);
	assert_int_equal(kvset_borrow(&image, on_give_back, &was_given_back, &set), 0);
	assert_true(kvset_same(set, model));
	assert_finds(set, UINT_MAX);
	next = many(set, false, 1000);
	assert_finds(next, 1000);
	kvset_unref(next);
	kvset_unref(set);
	assert_true(was_given_back);
	kvset_unref(model);
}

static void a_set_that_moves_into_its_image_stays_what_it_is(void **state)
{
	struct kvset *set = many(NULL, false, UINT_MAX), *moved;
	AUTO_FREE void *data = NULL;
	bool was_given_back = false;
	struct image image;
	size_t size;

	(void)state;
	set->index = 7;
	set->body_hash = 8;
	set->heard_at = 9;
	set->n_skipped = 1;
	assert_int_equal(image_build(&set->records, set->digest, &data, &size), 0);
	assert_int_equal(image_open(data, size, &image), 0);
	assert_false(kvset_is_borrowed(set));
	assert_int_equal(kvset_move(set, &image, on_give_back, &was_given_back, &moved), 0);
	assert_true(kvset_is_borrowed(moved));
	assert_true(kvset_same(set, moved));
	assert_memory_equal(moved->records.data, set->records.data, set->records.size);
	assert_int_equal(moved->index, 7);
	assert_int_equal(moved->body_hash, 8);
	assert_int_equal(moved->heard_at, 9);
	assert_int_equal(moved->n_skipped, 1);
	kvset_unref(set);
	assert_finds(moved, UINT_MAX);
	/* What says the same again is borrowed as well, and keeps it. */
	set = many(moved, false, UINT_MAX);
	assert_true(kvset_is_borrowed(set));
	kvset_unref(moved);
	assert_false(was_given_back);
	assert_finds(set, UINT_MAX);
	kvset_unref(set);
	assert_true(was_given_back);
}

static void a_short_set_is_looked_through(void **state)
{
	struct kvset *set = filled("b=1 d=2", 7, NULL), *empty = filled("", 7, NULL);
	struct record record;

	(void)state;
	assert_true(kvset_find(set, "b", 1, &record) && kvset_find(set, "d", 1, &record));
	assert_false(kvset_find(set, "a", 1, &record) || kvset_find(set, "c", 1, &record) ||
		     kvset_find(set, "e", 1, &record) || kvset_find(set, "bb", 2, &record));
	assert_false(kvset_find(empty, "b", 1, &record));
	kvset_unref(set);
	kvset_unref(empty);
}

static void united_sets_have_the_keys_of_both_as_written_last(void **state)
{
	struct kvset *a = set_of(1 << 20), *b = set_of(1 << 20), *wanted = set_of(1 << 20), *united;

	(void)state;
	add(a, "a", "1");
	kvset_add(a, "both", 4, "old", 3, 0, 5);
	kvset_add(a, "newer", 5, "new", 3, 7, 6);
	kvset_add(b, "both", 4, "new", 3, 0, 6);
	kvset_add(b, "newer", 5, "old", 3, 0, 5);
	add(b, "z", "2");
	add(wanted, "a", "1");
	add(wanted, "both", "new");
	kvset_add(wanted, "newer", 5, "new", 3, 7, 6);
	add(wanted, "z", "2");
	a->index = 8;
	b->index = 9;
	assert_int_equal(kvset_finish(a), 0);
	assert_int_equal(kvset_finish(b), 0);
	assert_int_equal(kvset_finish(wanted), 0);
	assert_int_equal(kvset_unite(a, b, &united), 0);
	assert_true(kvset_same(united, wanted));
	assert_int_equal(united->index, 9);
	kvset_unref(a);
	kvset_unref(b);
	kvset_unref(wanted);
	kvset_unref(united);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_order_of_arrival_does_not_matter),
		cmocka_unit_test(of_two_entries_with_one_key_the_last_stays),
		cmocka_unit_test(keys_that_are_not_representable_are_skipped_and_counted),
		cmocka_unit_test(
			a_difference_in_value_key_or_flags_is_seen_and_one_of_index_is_not),
		cmocka_unit_test(a_model_changes_nothing_but_the_memory),
		cmocka_unit_test(what_came_again_twice_has_one_memory),
		cmocka_unit_test(a_set_that_goes_half_filled_leaves_its_model),
		cmocka_unit_test(united_sets_have_the_keys_of_both_as_written_last),
		cmocka_unit_test(a_set_over_its_limit_is_refused),
		cmocka_unit_test(a_key_is_found_however_the_set_was_made),
		cmocka_unit_test(a_key_is_found_in_what_an_image_lends),
		cmocka_unit_test(a_set_that_moves_into_its_image_stays_what_it_is),
		cmocka_unit_test(a_short_set_is_looked_through),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
