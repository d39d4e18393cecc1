#include "test.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "daemon/publication.h"
#include "proto/limits.h"

#define LARGE ((size_t)64 << 20)

static struct kvset *new_set(void)
{
	struct kvset *set;

	assert_int_equal(kvset_new(LARGE, NULL, &set), 0);
	return set;
}

/* "a=1 b=2": keys and values of one byte. */
static struct kvset *set_of(const char *entries)
{
	struct kvset *set = new_set();

	for (const char *p = entries; *p; p += p[3] ? 4 : 3)
		assert_int_equal(kvset_add(set, p, 1, p + 2, 1, 0, 0), 0);
	assert_int_equal(kvset_finish(set), 0);
	return set;
}

/* Keys 000000 and so on, every `step`-th. */
static struct kvset *many(unsigned n, unsigned step, const char *value)
{
	struct kvset *set = new_set();

	for (unsigned i = 0; i < n; i += step) {
		char key[16];
		int len = snprintf(key, sizeof(key), "%06u", i);

		assert_int_equal(kvset_add(set, key, (size_t)len, value, strlen(value), 0, 0), 0);
	}
	assert_int_equal(kvset_finish(set), 0);
	return set;
}

/* Takes the sets. 0 with the snapshot, or the error of a step. */
static int publish(
	struct kvset **sets, unsigned n, size_t max_bytes, struct snapshot **ret_snapshot)
{
	struct publication *publication;
	int r;

	assert_int_equal(publication_new(sets, n, max_bytes, &publication), 0);
	for (unsigned i = 0; i < n; i++)
		kvset_unref(sets[i]);
	while ((r = publication_step(publication)) > 0)
		;
	if (r == 0)
		assert_int_equal(publication_take(publication, 7, ret_snapshot), 0);
	assert_null(publication_free(publication));
	return r;
}

static struct snapshot *published(struct kvset **sets, unsigned n)
{
	struct snapshot *snapshot = NULL;

	assert_int_equal(publish(sets, n, LARGE, &snapshot), 0);
	assert_int_equal(image_verify(&snapshot->image), 0);
	return snapshot;
}

/* Lowest first, up to a NULL. */
static struct snapshot *published_layers(const char *const *layers)
{
	struct kvset *sets[LIMIT_LAYERS];
	unsigned n = 0;

	for (; layers[n]; n++)
		sets[n] = set_of(layers[n]);
	return published(sets, n);
}

#define LAYERS(...) published_layers((const char *const[]){ __VA_ARGS__, NULL })

/* "a=1/0 b=2/1": with the layer that each came from. */
static void expect_entries(struct snapshot *snapshot, const char *expected)
{
	char text[256] = "";
	size_t len = 0, cursor = 0;
	struct record record;

	while (image_next(&snapshot->image, "", 0, &cursor, &record))
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%.*s=%.*s/%u",
			len > 0 ? " " : "", (int)record.key_len, record.key, (int)record.value_len,
			record.value, record.layer);
	assert_string_equal(text, expected);
	snapshot_unref(snapshot);
}

static void expect_same_bytes(struct snapshot *a, struct snapshot *b)
{
	assert_ptr_not_equal(a, b);
	assert_int_equal(a->image.size, b->image.size);
	assert_memory_equal(a->image.data, b->image.data, a->image.size);
	snapshot_unref(a);
	snapshot_unref(b);
}

static void one_layer_is_published_as_it_is(void **state)
{
	struct snapshot *snapshot = LAYERS("b=2 a=1 c=3");

	(void)state;
	assert_int_equal(snapshot->generation, 7);
	assert_int_equal(snapshot->image.n_entries, 3);
	expect_entries(snapshot, "a=1/0 b=2/0 c=3/0");
}

static void no_keys_are_an_image_too(void **state)
{
	(void)state;
	expect_entries(LAYERS(""), "");
	expect_entries(LAYERS("", ""), "");
	expect_entries(LAYERS("", "a=1", ""), "a=1/1");
}

static void of_equal_keys_the_one_of_the_last_layer_wins(void **state)
{
	(void)state;
	expect_entries(LAYERS("a=1 c=1", "b=2 c=2"), "a=1/0 b=2/1 c=2/1");
	expect_entries(LAYERS("a=1 b=1 c=1", "b=2", "c=3"), "a=1/0 b=2/1 c=3/2");
	expect_entries(LAYERS("a=1", "a=2", "a=3"), "a=3/2");
	expect_entries(LAYERS("z=1", "a=2"), "a=2/1 z=1/0");
}

/* As LAYERS(), with keys of all layers but the n_above last locked by these globs. */
static struct snapshot *published_locked(
	const char *const *layers, unsigned n_above, char *globs[], unsigned n)
{
	const struct glob_list locks = { globs, n };
	struct publication *publication;
	struct kvset *sets[LIMIT_LAYERS];
	struct snapshot *snapshot;
	unsigned n_sets = 0;

	for (; layers[n_sets]; n_sets++)
		sets[n_sets] = set_of(layers[n_sets]);
	assert_int_equal(publication_new(sets, n_sets, LARGE, &publication), 0);
	publication_lock(publication, &locks, n_sets - n_above);
	while (publication_step(publication) > 0)
		;
	assert_int_equal(publication_take(publication, 7, &snapshot), 0);
	publication_free(publication);
	for (unsigned i = 0; i < n_sets; i++)
		kvset_unref(sets[i]);
	return snapshot;
}

#define LOCKED_BELOW(n_above, globs, ...)                                                          \
	published_locked((const char *const[]){ __VA_ARGS__, NULL }, n_above, globs,               \
		(unsigned)ARRAY_SIZE(globs))
#define LOCKED(globs, ...) LOCKED_BELOW(0, globs, __VA_ARGS__)

static void of_a_locked_key_the_one_of_the_lowest_layer_wins(void **state)
{
	char a[] = "a", star[] = "*", other[] = "x";
	char *only_a[] = { other, a }, *all[] = { star }, *none[] = { other };

	(void)state;
	expect_entries(LOCKED(only_a, "a=1 b=1", "a=2 b=2"), "a=1/0 b=2/1");
	expect_entries(LOCKED(only_a, "b=1", "a=2 b=2", "a=3"), "a=2/1 b=2/1");
	expect_entries(LOCKED(all, "a=1", "a=2 b=2", "a=3 b=3 c=3"), "a=1/0 b=2/1 c=3/2");
	expect_entries(LOCKED(none, "a=1", "a=2"), "a=2/1");
}

static void a_lock_does_not_keep_out_what_operators_say(void **state)
{
	char star[] = "*", *all[] = { star };

	(void)state;
	expect_entries(LOCKED_BELOW(1, all, "a=1 b=1", "a=2 b=2", "a=3"), "a=3/2 b=1/0");
	expect_entries(LOCKED_BELOW(1, all, "a=1", "a=2", "b=3"), "a=1/0 b=3/2");
}

static void without_its_override_a_key_is_as_it_was(void **state)
{
	(void)state;
	expect_entries(LAYERS("a=1 b=1", "b=2"), "a=1/0 b=2/1");
	expect_entries(LAYERS("a=1 b=1", ""), "a=1/0 b=1/0");
}

static void all_layers_there_can_be_are_merged(void **state)
{
	struct kvset *sets[LIMIT_LAYERS];
	struct snapshot *snapshot;
	struct record record;

	(void)state;
	for (unsigned i = 0; i < LIMIT_LAYERS; i++) {
		char own[] = { (char)('a' + i), '=', '0', ' ', 'z', '=', (char)('A' + i), 0 };

		sets[i] = set_of(own);
	}
	snapshot = published(sets, LIMIT_LAYERS);
	assert_int_equal(snapshot->image.n_entries, LIMIT_LAYERS + 1);
	assert_true(image_find(&snapshot->image, "z", 1, &record));
	assert_int_equal(record.layer, LIMIT_LAYERS - 1);
	assert_int_equal(record.value[0], 'A' + LIMIT_LAYERS - 1);
	assert_true(image_find(&snapshot->image, "c", 1, &record));
	assert_int_equal(record.layer, 2);
	snapshot_unref(snapshot);
}

static void same_content_is_the_same_bytes(void **state)
{
	(void)state;
	expect_same_bytes(LAYERS("a=1 b=2"), LAYERS("b=2 a=1"));
	expect_same_bytes(LAYERS("a=1", "b=2"), LAYERS("a=1 b=0", "b=2"));
}

static void the_digest_is_of_keys_and_values_whatever_the_layers(void **state)
{
	struct snapshot *one = LAYERS("a=1 b=2"), *two = LAYERS("a=1", "b=2"),
			*other = LAYERS("a=1", "b=3");

	(void)state;
	assert_int_equal(one->image.digest, two->image.digest);
	assert_int_not_equal(one->image.digest, other->image.digest);
	snapshot_unref(one);
	snapshot_unref(two);
	snapshot_unref(other);
}

static void more_keys_than_a_slice_come_through_whole(void **state)
{
	unsigned n = 3 * LIMIT_SLICE_ENTRIES + 1;
	struct kvset *sets[] = { many(n, 1, "low"), many(n, 2, "high") };
	struct snapshot *snapshot = published(sets, 2);

	(void)state;
	assert_int_equal(snapshot->image.n_entries, n);
	for (unsigned i = 0; i < n; i++) {
		char key[16];
		int len = snprintf(key, sizeof(key), "%06u", i);
		struct record record;

		assert_true(image_find(&snapshot->image, key, (size_t)len, &record));
		assert_int_equal(record.layer, i % 2 == 0);
		assert_string_equal(record.value, i % 2 == 0 ? "high" : "low");
	}
	snapshot_unref(snapshot);
}

static void an_image_of_just_its_limit_passes_and_a_byte_less_is_refused(void **state)
{
	(void)state;
	for (unsigned n_layers = 1; n_layers <= 2; n_layers++) {
		struct kvset *sets[] = { set_of("a=1 b=2"), set_of("c=3") };
		struct snapshot *snapshot = NULL;
		size_t size;

		for (unsigned i = 0; i < 2; i++)
			kvset_ref(sets[i]);
		assert_int_equal(publish(sets, n_layers, LARGE, &snapshot), 0);
		size = snapshot->image.size;
		snapshot = snapshot_unref(snapshot);
		for (unsigned i = 0; i < n_layers; i++)
			kvset_ref(sets[i]);
		assert_int_equal(publish(sets, n_layers, size, &snapshot), 0);
		assert_int_equal(snapshot->image.size, size);
		snapshot = snapshot_unref(snapshot);
		assert_int_equal(publish(sets, n_layers, size - 1, &snapshot), -EFBIG);
		assert_null(snapshot);
		for (unsigned i = n_layers; i < 2; i++) {
			kvset_unref(sets[i]);
			kvset_unref(sets[i]);
		}
	}
}

static void layers_that_grow_too_large_are_refused_before_they_are_merged(void **state)
{
	struct kvset *sets[] = { many(4 * LIMIT_SLICE_ENTRIES, 2, "v"), set_of("a=1") };
	struct publication *publication;

	(void)state;
	assert_int_equal(publication_new(sets, 2, 4096, &publication), 0);
	assert_int_equal(publication_step(publication), -EFBIG);
	publication_free(publication);
	kvset_unref(sets[0]);
	kvset_unref(sets[1]);
}

static void one_can_be_given_up_after_any_step(void **state)
{
	struct kvset *sets[] = { many(3 * LIMIT_SLICE_ENTRIES, 1, "v"), set_of("a=1") };
	int r = 1;

	(void)state;
	for (unsigned n_steps = 0; r > 0; n_steps++) {
		struct publication *publication;

		assert_int_equal(publication_new(sets, 2, LARGE, &publication), 0);
		for (unsigned i = 0; i < n_steps; i++)
			r = publication_step(publication);
		assert_true(r >= 0);
		publication_free(publication);
	}
	assert_int_equal(sets[0]->refs, 1);
	kvset_unref(sets[0]);
	kvset_unref(sets[1]);
}

static void what_is_published_takes_no_write(void **state)
{
	struct snapshot *snapshot = LAYERS("a=1");
	int all = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	int fd = snapshot_open_fd(snapshot);

	(void)state;
	assert_int_equal(fcntl(snapshot->fd, F_GET_SEALS) & all, all);
	assert_int_equal(write(snapshot->fd, "x", 1), -1);
	assert_int_equal(ftruncate(snapshot->fd, 0), -1);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_ptr_equal(mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	close(fd);
	snapshot_unref(snapshot);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_layer_is_published_as_it_is),
		cmocka_unit_test(no_keys_are_an_image_too),
		cmocka_unit_test(of_equal_keys_the_one_of_the_last_layer_wins),
		cmocka_unit_test(of_a_locked_key_the_one_of_the_lowest_layer_wins),
		cmocka_unit_test(a_lock_does_not_keep_out_what_operators_say),
		cmocka_unit_test(without_its_override_a_key_is_as_it_was),
		cmocka_unit_test(all_layers_there_can_be_are_merged),
		cmocka_unit_test(same_content_is_the_same_bytes),
		cmocka_unit_test(the_digest_is_of_keys_and_values_whatever_the_layers),
		cmocka_unit_test(more_keys_than_a_slice_come_through_whole),
		cmocka_unit_test(an_image_of_just_its_limit_passes_and_a_byte_less_is_refused),
		cmocka_unit_test(layers_that_grow_too_large_are_refused_before_they_are_merged),
		cmocka_unit_test(one_can_be_given_up_after_any_step),
		cmocka_unit_test(what_is_published_takes_no_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
