#include "test.h"

#include "daemon/changes.h"
#include "daemon/publication.h"
#include "fake-loop.h"

static struct loop *the_loop;

/* In the place of the real one. */
uint64_t loop_realtime_usec(void)
{
	return loop_now();
}

static struct snapshot *snapshot_of(struct kvset *set, uint64_t generation)
{
	struct publication *publication;
	struct snapshot *snapshot;

	assert_int_equal(kvset_finish(set), 0);
	assert_int_equal(publication_new(&set, 1, (size_t)64 << 20, &publication), 0);
	kvset_unref(set);
	while (publication_step(publication) > 0)
		;
	assert_int_equal(publication_take(publication, generation, &snapshot), 0);
	publication_free(publication);
	return snapshot;
}

/* "a=1 b=2": keys and values of one byte. */
static struct snapshot *snapshot_of_text(const char *entries, uint64_t generation)
{
	struct kvset *set;

	assert_int_equal(kvset_new((size_t)64 << 20, NULL, &set), 0);
	for (const char *p = entries; *p; p += p[3] ? 4 : 3)
		assert_int_equal(kvset_add(set, p, 1, p + 2, 1, 0, 0), 0);
	return snapshot_of(set, generation);
}

/* n keys of this length; of a number on with another value. */
static struct snapshot *snapshot_of_many(unsigned n, size_t key_len, unsigned other)
{
	struct kvset *set;
	char key[LIMIT_KEY + 1];

	assert_int_equal(kvset_new((size_t)64 << 20, NULL, &set), 0);
	for (unsigned i = 0; i < n; i++) {
		memset(key, 'k', key_len);
		snprintf(key + key_len - 8, 9, "%08u", i);
		assert_int_equal(kvset_add(set, key, key_len, i < other ? "1" : "2", 1, 0, 0), 0);
	}
	return snapshot_of(set, 5);
}

static struct changes *start(void)
{
	struct changes *changes;

	assert_int_equal(loop_new(&the_loop), 0);
	assert_int_equal(changes_new(the_loop, &changes), 0);
	return changes;
}

static void stop(struct changes *changes)
{
	assert_null(changes_free(changes));
	loop_free(the_loop);
}

/* Takes both. */
static void note(
	struct changes *changes, const char *service, struct snapshot *old, struct snapshot *new)
{
	changes_note(changes, service, old, new, 42);
	snapshot_unref(old);
	snapshot_unref(new);
}

/* All that waits. */
static void compare(void)
{
	fake_loop_advance(USEC_PER_SEC);
}

static void keys_are_named_with_what_became_of_them(void **state)
{
	struct changes *changes = start();
	const struct change *change;
	static const char keys[] = "\3a\0\1b\0\2d";

	(void)state;
	note(changes, "billing", snapshot_of_text("a=1 c=1 d=1", 4),
		snapshot_of_text("b=1 c=1 d=2", 5));
	change = changes_find(changes, changes_newest(changes));
	assert_false(change->is_compared);
	compare();
	assert_true(change->is_compared);
	assert_string_equal(change->service, "billing");
	assert_int_equal(change->generation, 5);
	assert_int_equal(change->index, 42);
	assert_int_equal(change->n[CHANGE_ADDED], 1);
	assert_int_equal(change->n[CHANGE_CHANGED], 1);
	assert_int_equal(change->n[CHANGE_REMOVED], 1);
	assert_int_equal(change->n_keys, 3);
	assert_int_equal(change->keys_len, sizeof(keys));
	assert_memory_equal(change->keys, keys, sizeof(keys));
	stop(changes);
}

static void the_same_keys_and_values_are_no_change(void **state)
{
	struct changes *changes = start();

	(void)state;
	note(changes, "billing", snapshot_of_text("a=1", 4), snapshot_of_text("a=1", 5));
	assert_int_equal(changes_newest(changes), 0);
	assert_null(changes_find(changes, 0));
	stop(changes);
}

static void more_keys_than_can_be_named_are_counted(void **state)
{
	struct changes *changes = start();
	const struct change *change;

	(void)state;
	note(changes, "many", snapshot_of_many(10000, 20, 10000), snapshot_of_many(10000, 20, 10));
	compare();
	change = changes_find(changes, 1);
	assert_true(change->is_compared);
	assert_int_equal(change->n[CHANGE_CHANGED], 9990);
	assert_int_equal(change->n_keys, LIMIT_CHANGE_KEYS);
	stop(changes);
}

static void keys_that_are_too_long_are_counted(void **state)
{
	struct changes *changes = start();
	const struct change *change;

	(void)state;
	note(changes, "long", snapshot_of_many(3, 800, 3), snapshot_of_many(3, 800, 0));
	note(changes, "longest", snapshot_of_many(3, LIMIT_KEY, 3),
		snapshot_of_many(3, LIMIT_KEY, 0));
	compare();
	change = changes_find(changes, 1);
	assert_int_equal(change->n[CHANGE_CHANGED], 3);
	assert_int_equal(change->n_keys, 1);
	change = changes_find(changes, 2);
	assert_int_equal(change->n[CHANGE_CHANGED], 3);
	assert_int_equal(change->n_keys, 0);
	stop(changes);
}

static void the_oldest_give_way_also_those_that_wait(void **state)
{
	struct changes *changes = start();

	(void)state;
	for (unsigned i = 0; i < LIMIT_CHANGES + 5; i++)
		note(changes, "storm", snapshot_of_text("a=1", 4), snapshot_of_text("a=2", 5));
	assert_int_equal(changes_newest(changes), LIMIT_CHANGES + 5);
	assert_null(changes_find(changes, 5));
	assert_non_null(changes_find(changes, 6));
	compare();
	for (unsigned i = 6; i <= LIMIT_CHANGES + 5; i++)
		assert_true(changes_find(changes, i)->is_compared);
	assert_null(changes_find(changes, LIMIT_CHANGES + 6));
	stop(changes);
}

static void images_that_would_take_too_much_memory_are_not_held(void **state)
{
	struct changes *changes = start();
	struct snapshot *old = snapshot_of_many(150000, 60, 150000);
	struct snapshot *new = snapshot_of_many(150000, 60, 0);
	unsigned n_refs;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		changes_note(changes, "large", old, new, 42);
	n_refs = old->refs - 1;
	assert_true(n_refs >= 1 && n_refs <= LIMIT_CHANGE_BYTES / old->image.size);
	compare();
	for (unsigned i = 1; i <= 10; i++)
		assert_int_equal(changes_find(changes, i)->is_compared, i <= n_refs);
	assert_int_equal(old->refs, 1);
	changes_note(changes, "large", old, new, 42);
	compare();
	assert_true(changes_find(changes, 11)->is_compared);
	snapshot_unref(old);
	snapshot_unref(new);
	stop(changes);
}

static void what_waits_ends_with_it(void **state)
{
	struct changes *changes = start();

	(void)state;
	note(changes, "billing", snapshot_of_text("a=1", 4), snapshot_of_text("a=2", 5));
	stop(changes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_are_named_with_what_became_of_them),
		cmocka_unit_test(the_same_keys_and_values_are_no_change),
		cmocka_unit_test(more_keys_than_can_be_named_are_counted),
		cmocka_unit_test(keys_that_are_too_long_are_counted),
		cmocka_unit_test(the_oldest_give_way_also_those_that_wait),
		cmocka_unit_test(images_that_would_take_too_much_memory_are_not_held),
		cmocka_unit_test(what_waits_ends_with_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
