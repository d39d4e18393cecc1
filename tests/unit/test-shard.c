/*
 * Few prefixes for many keys: each key has one, and the heaviest share is as light as can be.
 */
#include "daemon/shard.h"
#include "test.h"

#define MAX_KEYS 2000

static char names[MAX_KEYS][32];
static struct shard_key keys[MAX_KEYS];

/* config/svc-0000/ and so on. */
static size_t name_keys(size_t n)
{
	for (size_t i = 0; i < n; i++) {
		snprintf(names[i], sizeof(names[i]), "config/svc-%04zu/", i);
		keys[i] = (struct shard_key){ names[i], 1 };
	}
	return n;
}

static size_t list_keys(const char *const *prefixes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		keys[i] = (struct shard_key){ prefixes[i], 1 };
	return n;
}

/* Which one a key has: the longest. */
static size_t shard_of(const struct shard *shards, unsigned n, const char *key)
{
	size_t found = SIZE_MAX;

	for (unsigned i = 0; i < n; i++)
		if (strncmp(key, shards[i].prefix, strlen(shards[i].prefix)) == 0 &&
			(found == SIZE_MAX ||
				strlen(shards[i].prefix) > strlen(shards[found].prefix)))
			found = i;
	return found;
}

/* Divides, and sees that every key has a prefix and every prefix weighs what its keys do. */
static uint64_t divide(size_t n_keys, unsigned max, unsigned *ret_n)
{
	struct shard *shards;
	uint64_t weights[64] = { 0 }, heaviest = 0;
	int n = shard_divide(keys, n_keys, max, &shards);

	assert_in_range(n, 1, max);
	for (size_t i = 0; i < n_keys; i++) {
		size_t at = shard_of(shards, (unsigned)n, keys[i].prefix);

		assert_true(at != SIZE_MAX);
		weights[at] += keys[i].weight;
	}
	for (int i = 0; i < n; i++) {
		assert_int_equal(shards[i].weight, weights[i]);
		assert_true(weights[i] > 0);
		heaviest = MAX(heaviest, weights[i]);
	}
	shard_free(shards, (unsigned)n);
	*ret_n = (unsigned)n;
	return heaviest;
}

static void many_keys_are_divided_evenly(void **state)
{
	unsigned n;

	(void)state;
	assert_int_equal(divide(name_keys(1000), 10, &n), 100);
	assert_int_equal(n, 10);
}

static void one_prefix_is_what_all_begin_with(void **state)
{
	struct shard *shards;

	(void)state;
	assert_int_equal(shard_divide(keys, name_keys(1000), 1, &shards), 1);
	assert_string_equal(shards[0].prefix, "config/svc-0");
	assert_int_equal(shards[0].weight, 1000);
	shard_free(shards, 1);
}

static void fewer_keys_than_prefixes_have_one_each(void **state)
{
	struct shard *shards;

	(void)state;
	assert_int_equal(shard_divide(keys, name_keys(3), 14, &shards), 3);
	for (unsigned i = 0; i < 3; i++)
		assert_string_equal(
			shards[shard_of(shards, 3, keys[i].prefix)].prefix, keys[i].prefix);
	shard_free(shards, 3);
}

/* 26 branches and room for 5: four of them and the rest. */
static void more_branches_than_room_leave_a_rest(void **state)
{
	unsigned n;

	(void)state;
	for (size_t i = 0; i < 26; i++) {
		snprintf(names[i], sizeof(names[i]), "config/%c/", (char)('a' + (char)i));
		keys[i] = (struct shard_key){ names[i], i == 7 || i == 20 ? 100 : 1 };
	}
	assert_int_equal(divide(26, 5, &n), 100);
	assert_int_equal(n, 5);
}

static void a_key_within_another_is_found(void **state)
{
	static const char *const nested[] = { "a/", "a/b/", "a/b/c/", "a/b/d/", "a/e/" };
	unsigned n;

	(void)state;
	for (unsigned max = 1; max <= 8; max++)
		divide(list_keys(nested, ARRAY_SIZE(nested)), max, &n);
	assert_int_equal(n, ARRAY_SIZE(nested));
}

/* The empty prefix: every write of the cluster, but there is nothing else. */
static void keys_without_anything_in_common(void **state)
{
	static const char *const apart[] = { "config/a/", "config/b/", "env/a/", "web/" };
	struct shard *shards;
	unsigned n;

	(void)state;
	assert_int_equal(shard_divide(keys, list_keys(apart, ARRAY_SIZE(apart)), 1, &shards), 1);
	assert_string_equal(shards[0].prefix, "");
	shard_free(shards, 1);
	divide(ARRAY_SIZE(apart), 3, &n);
	assert_int_equal(n, 3);
}

/* A thousand invented names do not take the places of ten that are used. */
static void light_keys_take_little_room(void **state)
{
	size_t n_keys = name_keys(1000);
	struct shard *shards;
	int n;

	(void)state;
	for (size_t i = 0; i < 10; i++) {
		snprintf(names[n_keys], sizeof(names[0]), "config/z%zu/", i);
		keys[n_keys] = (struct shard_key){ names[n_keys], 1000 };
		n_keys++;
	}
	n = shard_divide(keys, n_keys, 12, &shards);
	for (size_t i = n_keys - 10; i < n_keys; i++)
		assert_string_equal(shards[shard_of(shards, (unsigned)n, keys[i].prefix)].prefix,
			keys[i].prefix);
	shard_free(shards, (unsigned)n);
}

static void nothing_needs_no_prefix(void **state)
{
	struct shard *shards;

	(void)state;
	assert_int_equal(shard_divide(keys, 0, 4, &shards), 0);
	shard_free(shards, 0);
}

static void every_room_is_kept_to(void **state)
{
	size_t n_keys = name_keys(1000);
	unsigned n;

	(void)state;
	for (unsigned max = 1; max <= 60; max++)
		divide(n_keys, max, &n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_keys_are_divided_evenly),
		cmocka_unit_test(one_prefix_is_what_all_begin_with),
		cmocka_unit_test(fewer_keys_than_prefixes_have_one_each),
		cmocka_unit_test(more_branches_than_room_leave_a_rest),
		cmocka_unit_test(a_key_within_another_is_found),
		cmocka_unit_test(keys_without_anything_in_common),
		cmocka_unit_test(light_keys_take_little_room),
		cmocka_unit_test(nothing_needs_no_prefix),
		cmocka_unit_test(every_room_is_kept_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
