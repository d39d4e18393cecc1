#include "test.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>

#include "proto/value.h"

#define DAY_USEC (24 * 3600 * USEC_PER_SEC)

/* What a row's text is for one of the parsers: 0 and `value`, or an error. */
struct row {
	const char *text;
	int result;
	uint64_t value;
};

static int as_int64(const char *text, size_t len, uint64_t *ret)
{
	int64_t value;
	int r = value_int64(text, len, &value);

	if (r == 0)
		*ret = (uint64_t)value;
	return r;
}

static int as_bool(const char *text, size_t len, uint64_t *ret)
{
	bool value;
	int r = value_bool(text, len, &value);

	if (r == 0)
		*ret = value;
	return r;
}

static void check_rows(
	int (*parse)(const char *, size_t, uint64_t *), const struct row *rows, size_t n_rows)
{
	for (size_t i = 0; i < n_rows; i++) {
		size_t len = strlen(rows[i].text);
		AUTO_FREE char *text = test_copy(rows[i].text, len);
		uint64_t untouched = UINT64_C(0x5ca1ab1e), value = untouched;
		int r = parse(text, len, &value);

		if (r != rows[i].result)
			fail_msg("'%s' gives %d instead of %d", rows[i].text, r, rows[i].result);
		if (value != (r == 0 ? rows[i].value : untouched))
			fail_msg("'%s' gives the value %llu", rows[i].text,
				(unsigned long long)value);
	}
}

static void an_integer_is_digits_and_a_leading_minus(void **state)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "7", 0, 7 },
		{ "007", 0, 7 },
		{ "-0", 0, 0 },
		{ "-1", 0, (uint64_t)-1 },
		{ "42\n", 0, 42 },
		{ "9223372036854775807", 0, INT64_MAX },
		{ "-9223372036854775808", 0, (uint64_t)INT64_MIN },
		{ "0000000000000000000000000000009", 0, 9 },
		{ "9223372036854775808", -ERANGE, 0 },
		{ "-9223372036854775809", -ERANGE, 0 },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "99999999999999999999999999", -ERANGE, 0 },
		{ "99999999999999999999999999x", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "\n", -EINVAL, 0 },
		{ "-", -EINVAL, 0 },
		{ "--1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "1\n\n", -EINVAL, 0 },
		{ "1\r\n", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "1.0", -EINVAL, 0 },
		{ "1e3", -EINVAL, 0 },
		{ "12a", -EINVAL, 0 },
	};

	(void)state;
	check_rows(as_int64, rows, ARRAY_SIZE(rows));
}

static void a_boolean_is_one_of_eight_words_in_any_case(void **state)
{
	static const struct row rows[] = {
		{ "true", 0, 1 },
		{ "yes", 0, 1 },
		{ "on", 0, 1 },
		{ "1", 0, 1 },
		{ "false", 0, 0 },
		{ "no", 0, 0 },
		{ "off", 0, 0 },
		{ "0", 0, 0 },
		{ "TRUE", 0, 1 },
		{ "oFf", 0, 0 },
		{ "Yes\n", 0, 1 },
		{ "", -EINVAL, 0 },
		{ "t", -EINVAL, 0 },
		{ "tru", -EINVAL, 0 },
		{ "truee", -EINVAL, 0 },
		{ "true ", -EINVAL, 0 },
		{ "10", -EINVAL, 0 },
		{ "2", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "enabled", -EINVAL, 0 },
	};

	(void)state;
	check_rows(as_bool, rows, ARRAY_SIZE(rows));
	assert_int_equal(value_bool("no\0", 3, &(bool){ false }), -EINVAL);
}

static void a_duration_is_a_number_and_a_unit(void **state)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "30", 0, 30 * USEC_PER_SEC },
		{ "30s", 0, 30 * USEC_PER_SEC },
		{ "250ms", 0, 250 * USEC_PER_MSEC },
		{ "5us", 0, 5 },
		{ "15min", 0, 900 * USEC_PER_SEC },
		{ "1h", 0, 3600 * USEC_PER_SEC },
		{ "7d", 0, 7 * DAY_USEC },
		{ "2w", 0, 14 * DAY_USEC },
		{ "1.5h", 0, 5400 * USEC_PER_SEC },
		{ "0.25", 0, 250 * USEC_PER_MSEC },
		{ "1.000001s", 0, USEC_PER_SEC + 1 },
		{ "1.0000019s", 0, USEC_PER_SEC + 1 },
		{ "0.9us", 0, 0 },
		{ "0.3333333333333333333333333w", 0, 201599999999 },
		{ "1s\n", 0, USEC_PER_SEC },
		{ "18446744073709551615us", 0, UINT64_MAX },
		{ "18446744073709551616us", -ERANGE, 0 },
		{ "18446744073709551615", -ERANGE, 0 },
		{ "18446744073709.551615", 0, UINT64_MAX },
		{ "18446744073709.551616", -ERANGE, 0 },
		{ "31000000w", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "s", -EINVAL, 0 },
		{ "30 s", -EINVAL, 0 },
		{ " 30s", -EINVAL, 0 },
		{ "30x", -EINVAL, 0 },
		{ "30S", -EINVAL, 0 },
		{ "30m", -EINVAL, 0 }, /* minutes or months? */
		{ "30sec", -EINVAL, 0 },
		{ "-30s", -EINVAL, 0 },
		{ "+30s", -EINVAL, 0 },
		{ "1.s", -EINVAL, 0 },
		{ ".5s", -EINVAL, 0 },
		{ "1.5.5s", -EINVAL, 0 },
		{ "1,5s", -EINVAL, 0 },
		{ "1h30min", -EINVAL, 0 },
		{ "infinity", -EINVAL, 0 },
		{ "18446744073709551616x", -EINVAL, 0 },
	};

	(void)state;
	check_rows(value_duration_us, rows, ARRAY_SIZE(rows));
}

static void a_size_is_a_number_and_perhaps_a_unit_of_1024(void **state)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "4096", 0, 4096 },
		{ "64K", 0, 64 << 10 },
		{ "64M", 0, 64 << 20 },
		{ "2G", 0, UINT64_C(2) << 30 },
		{ "1K\n", 0, 1024 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "17179869184G", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "M", -EINVAL, 0 },
		{ "64m", -EINVAL, 0 },
		{ "64MB", -EINVAL, 0 },
		{ "64MiB", -EINVAL, 0 },
		{ "64 M", -EINVAL, 0 },
		{ "1.5M", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
	};

	(void)state;
	check_rows(value_size, rows, ARRAY_SIZE(rows));
}

static void a_double_reads_as_in_the_c_locale(void **state)
{
	static const struct {
		const char *text;
		int result;
		double value;
	} rows[] = {
		{ "0", 0, 0 },
		{ "1.5", 0, 1.5 },
		{ "-1.5", 0, -1.5 },
		{ "1.", 0, 1 },
		{ ".5", 0, 0.5 },
		{ "-.5", 0, -0.5 },
		{ "1e3", 0, 1000 },
		{ "1E+3", 0, 1000 },
		{ "25e-1", 0, 2.5 },
		{ "1.7976931348623157e308", 0, 1.7976931348623157e308 },
		{ "2.2250738585072011e-308", 0, 2.2250738585072011e-308 },
		{ "1e-400", 0, 0 },
		{ "3.25\n", 0, 3.25 },
		{ "1e309", -ERANGE, 0 },
		{ "-1e309", -ERANGE, 0 },
		{ "1e99999999999999999999", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "-", -EINVAL, 0 },
		{ ".", -EINVAL, 0 },
		{ "-.", -EINVAL, 0 },
		{ "e3", -EINVAL, 0 },
		{ "1e", -EINVAL, 0 },
		{ "1e+", -EINVAL, 0 },
		{ "1e1.5", -EINVAL, 0 },
		{ "1.2.3", -EINVAL, 0 },
		{ "1,5", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "nan", -EINVAL, 0 },
		{ "inf", -EINVAL, 0 },
		{ "-infinity", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "0x1p3", -EINVAL, 0 },
		{ "1f", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t len = strlen(rows[i].text);
		AUTO_FREE char *text = test_copy(rows[i].text, len);
		double value = 4711;
		int r = value_double(text, len, &value);

		if (r != rows[i].result || value != (r == 0 ? rows[i].value : 4711))
			fail_msg("'%s' gives %d and %g", rows[i].text, r, value);
	}
}

static void a_double_of_many_digits_is_rounded_once(void **state)
{
	char text[2000];
	double value;

	(void)state;
	/* Half way between two doubles, and one far digit that decides. */
	memset(text, '0', sizeof(text));
	memcpy(text, "9007199254740993.", 17);
	text[600] = '1';
	assert_int_equal(value_double(text, 601, &value), 0);
	assert_true(value == 9007199254740994.0);
	text[600] = '0';
	assert_int_equal(value_double(text, 601, &value), 0);
	assert_true(value == 9007199254740992.0);
	assert_int_equal(value_double(text, sizeof(text), &value), -ERANGE);
	text[1999] = 'x';
	assert_int_equal(value_double(text, sizeof(text), &value), -EINVAL);
}

/* Switches to a locale with a decimal comma, built here: hosts have only some, or none. */
static void use_decimal_comma(const char *dir)
{
	char command[256];
	FILE *source;

	snprintf(command, sizeof(command), "%s/comma.src", dir);
	source = fopen(command, "w");
	assert_non_null(source);
	fputs("LC_NUMERIC\ndecimal_point \",\"\nthousands_sep \".\"\ngrouping 3;3\n"
	      "END LC_NUMERIC\n",
		source);
	fclose(source);
	/* It exits 1 because of the categories that are not there. */
	snprintf(command, sizeof(command),
		"cd %s && localedef -c --no-archive -i ./comma.src ./comma 2>/dev/null", dir);
	assert_true(system(command) >= 0);
	setenv("LOCPATH", dir, 1);
	assert_non_null(setlocale(LC_NUMERIC, "comma"));
	assert_true(strtod("1,5", NULL) == 1.5);
}

static void a_double_does_not_depend_on_the_locale(void **state)
{
	char dir[] = "/tmp/test-value.XXXXXX", command[64];
	double value;

	(void)state;
	assert_non_null(mkdtemp(dir));
	use_decimal_comma(dir);
	assert_int_equal(value_double("1.5", 3, &value), 0);
	assert_true(value == 1.5);
	assert_int_equal(value_double("1,5", 3, &value), -EINVAL);
	assert_int_equal(value_double("1.500,5", 7, &value), -EINVAL);
	setlocale(LC_ALL, "C");
	snprintf(command, sizeof(command), "rm -rf --one-file-system %s", dir);
	assert_int_equal(system(command), 0);
}

static void a_double_leaves_errno_alone(void **state)
{
	double value;

	(void)state;
	errno = EXDEV;
	assert_int_equal(value_double("1e999", 5, &value), -ERANGE);
	assert_int_equal(errno, EXDEV);
}

static void *parse_in_thread(void *userdata)
{
	double *sum = userdata, value;

	for (int i = 0; i < 1000; i++)
		if (value_double("0.5", 3, &value) == 0)
			*sum += value;
	return NULL;
}

static void many_threads_may_parse_the_first_double(void **state)
{
	pthread_t threads[8];
	double sums[ARRAY_SIZE(threads)] = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, parse_in_thread, &sums[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], NULL);
		assert_true(sums[i] == 500);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_threads_may_parse_the_first_double), /* must be first */
		cmocka_unit_test(an_integer_is_digits_and_a_leading_minus),
		cmocka_unit_test(a_boolean_is_one_of_eight_words_in_any_case),
		cmocka_unit_test(a_duration_is_a_number_and_a_unit),
		cmocka_unit_test(a_size_is_a_number_and_perhaps_a_unit_of_1024),
		cmocka_unit_test(a_double_reads_as_in_the_c_locale),
		cmocka_unit_test(a_double_of_many_digits_is_rounded_once),
		cmocka_unit_test(a_double_does_not_depend_on_the_locale),
		cmocka_unit_test(a_double_leaves_errno_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
