#include "test.h"

#include "client/lib/bound.h"

static struct ccfg_view *view_of(const char *key, const char *value)
{
	struct records records = { 0 };
	struct ccfg_view *view;
	const struct record record = {
		.key = key,
		.key_len = (uint32_t)strlen(key),
		.value = value,
		.value_len = value ? (uint32_t)strlen(value) : 0,
	};

	if (value)
		assert_int_equal(records_append(&records, &record), 0);
	assert_int_equal(view_new(&records, 7, 1, &view), 0);
	records_done(&records);
	return view;
}

static uint64_t update(struct bound *bound, const char *value)
{
	struct ccfg_view *view = view_of("key", value);

	bound_update(bound, view);
	view_unref(view);
	return atomic_load(&bound->bits);
}

static void an_absent_key_gives_the_fallback(void **state)
{
	struct bound *bound = bound_new(NULL, BOUND_INT64, "key", 42);

	(void)state;
	assert_int_equal(atomic_load(&bound->bits), 42);
	assert_int_equal(update(bound, "7"), 7);
	assert_int_equal(update(bound, NULL), 42);
	assert_false(bound->is_bad);
	bound_free_all(bound);
}

static void what_does_not_parse_leaves_the_last_good_one(void **state)
{
	static const char *const bad[] = { "", "x", "7x", " 7", "0x7", "9223372036854775808",
		"7\n\n" };
	struct bound *bound = bound_new(NULL, BOUND_INT64, "key", 42);

	(void)state;
	assert_int_equal(update(bound, "seven"), 42);
	assert_true(bound->is_bad);
	assert_int_equal(update(bound, "7\n"), 7);
	assert_false(bound->is_bad);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(update(bound, bad[i]), 7);
		assert_true(bound->is_bad);
	}
	assert_int_equal(update(bound, NULL), 42);
	assert_false(bound->is_bad);
	bound_free_all(bound);
}

static void each_type_is_parsed_as_its_own(void **state)
{
	struct bound *truth = bound_new(NULL, BOUND_BOOL, "key", true);
	struct bound *real = bound_new(NULL, BOUND_DOUBLE, "key", bound_bits_of_double(0.5));
	struct bound *duration = bound_new(NULL, BOUND_DURATION, "key", 9);

	(void)state;
	assert_int_equal(update(truth, "Off"), false);
	assert_int_equal(update(truth, "2"), false);
	assert_true(truth->is_bad);
	assert_true(bound_double_of_bits(update(real, "-1.5e3")) == -1500.0);
	assert_true(bound_double_of_bits(update(real, "nan")) == -1500.0);
	assert_true(bound_double_of_bits(update(real, NULL)) == 0.5);
	assert_int_equal(update(duration, "15min"), 900000000);
	assert_int_equal(update(duration, "-1s"), 900000000);
	assert_int_equal(update(duration, NULL), 9);
	bound_free_all(truth);
	bound_free_all(real);
	bound_free_all(duration);
}

static void only_keys_are_bound(void **state)
{
	char long_key[LIMIT_KEY + 2];

	(void)state;
	memset(long_key, 'k', sizeof(long_key));
	long_key[LIMIT_KEY + 1] = '\0';
	errno = 0;
	assert_null(bound_new(NULL, BOUND_INT64, long_key, 0));
	assert_int_equal(errno, EINVAL);
	assert_null(bound_new(NULL, BOUND_INT64, "", 0));
	assert_null(bound_new(NULL, BOUND_INT64, NULL, 0));
	assert_null(bound_new(NULL, BOUND_INT64, "\xff", 0));
	long_key[LIMIT_KEY] = '\0';
	bound_free_all(bound_new(NULL, BOUND_INT64, long_key, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_absent_key_gives_the_fallback),
		cmocka_unit_test(what_does_not_parse_leaves_the_last_good_one),
		cmocka_unit_test(each_type_is_parsed_as_its_own),
		cmocka_unit_test(only_keys_are_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
