/*
 * The value grammar. Knows bytes and numbers only. Every parser checks the form itself and lets
 * libc do no more than the conversion: strtoll and friends take spaces, signs, hexadecimal and the
 * process's decimal point, which this grammar does not.
 */
#include "proto/value.h"

#include <locale.h>
#include <math.h>
#include <stdatomic.h>

/* Longest double that is looked at; the longest exact one has 767 significant digits. */
#define DOUBLE_TEXT_MAX 1100

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit durations[] = {
	/* microseconds */
	{ "us", 1 },
	{ "ms", USEC_PER_MSEC },
	{ "s", USEC_PER_SEC },
	{ "min", 60 * USEC_PER_SEC },
	{ "h", 3600 * USEC_PER_SEC },
	{ "d", UINT64_C(24) * 3600 * USEC_PER_SEC },
	{ "w", UINT64_C(7) * 24 * 3600 * USEC_PER_SEC },
};

static const struct unit sizes[] = {
	{ "K", UINT64_C(1) << 10 },
	{ "M", UINT64_C(1) << 20 },
	{ "G", UINT64_C(1) << 30 },
};

static size_t without_newline(const char *text, size_t len)
{
	return len > 0 && text[len - 1] == '\n' ? len - 1 : len;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static size_t count_digits(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && is_digit(text[n]))
		n++;
	return n;
}

/* The value of n > 0 digits. 0, -ERANGE. */
static int parse_digits(const char *text, size_t n, uint64_t *ret)
{
	uint64_t value = 0;

	for (size_t i = 0; i < n; i++)
		if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
			__builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value))
			return -ERANGE;
	*ret = value;
	return 0;
}

static const struct unit *find_unit(
	const struct unit *units, size_t n_units, const char *name, size_t len)
{
	for (size_t i = 0; i < n_units; i++)
		if (strlen(units[i].name) == len && memcmp(units[i].name, name, len) == 0)
			return &units[i];
	return NULL;
}

/*
 * The part of `factor` that the n digits behind a decimal point stand for, rounded down. From the
 * last digit to the first nothing is lost and nothing overflows.
 */
static uint64_t fraction_of(uint64_t factor, const char *digits, size_t n)
{
	uint64_t value = 0;

	while (n-- > 0)
		value = (factor * (uint64_t)(digits[n] - '0') + value) / 10;
	return value;
}

int value_int64(const char *text, size_t len, int64_t *ret)
{
	bool negative;
	uint64_t value;
	int r;

	len = without_newline(text, len);
	negative = len > 0 && text[0] == '-';
	text += negative;
	len -= negative;
	if (len == 0 || count_digits(text, len) != len)
		return -EINVAL;
	r = parse_digits(text, len, &value);
	if (r < 0)
		return r;
	if (value > (uint64_t)INT64_MAX + negative)
		return -ERANGE;
	/* Two's complement: INT64_MIN has no positive twin to negate. */
	*ret = negative ? (int64_t)(~value + 1) : (int64_t)value;
	return 0;
}

static bool is_word(const char *text, size_t len, const char *word)
{
	for (size_t i = 0; i < len; i++) {
		char c = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];

		if (word[i] == '\0' || c != word[i])
			return false;
	}
	return word[len] == '\0';
}

int value_bool(const char *text, size_t len, bool *ret)
{
	static const char *const words[][2] = {
		{ "false", "true" },
		{ "no", "yes" },
		{ "off", "on" },
		{ "0", "1" },
	};

	len = without_newline(text, len);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		for (int truth = 0; truth <= 1; truth++)
			if (is_word(text, len, words[i][truth])) {
				*ret = truth;
				return 0;
			}
	return -EINVAL;
}

/* -?(digits[.[digits]] | .digits)([eE][+-]?digits)? */
static bool is_double(const char *text, size_t len)
{
	size_t i = len > 0 && text[0] == '-';
	size_t n = count_digits(text + i, len - i);

	i += n;
	if (i < len && text[i] == '.') {
		size_t decimals = count_digits(text + i + 1, len - i - 1);

		i += 1 + decimals;
		n += decimals;
	}
	if (n == 0)
		return false;
	if (i < len && (text[i] == 'e' || text[i] == 'E')) {
		i++;
		i += i < len && (text[i] == '-' || text[i] == '+');
		n = count_digits(text + i, len - i);
		if (n == 0)
			return false;
		i += n;
	}
	return i == len;
}

/* The C locale, made once per process and never freed; glibc and musl allocate nothing for it. */
static locale_t c_locale(void)
{
	static _Atomic(locale_t) cached;
	locale_t locale = atomic_load_explicit(&cached, memory_order_acquire);
	locale_t expected = (locale_t)0;

	if (locale)
		return locale;
	locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (locale && !atomic_compare_exchange_strong(&cached, &expected, locale)) {
		freelocale(locale);
		locale = expected;
	}
	return locale;
}

int value_double(const char *text, size_t len, double *ret)
{
	char copy[DOUBLE_TEXT_MAX + 1];
	locale_t locale;
	double value;
	int saved = errno;

	len = without_newline(text, len);
	if (!is_double(text, len))
		return -EINVAL;
	if (len > DOUBLE_TEXT_MAX)
		return -ERANGE;
	locale = c_locale();
	if (!locale)
		return -ENOMEM;
	memcpy(copy, text, len);
	copy[len] = '\0';
	value = strtod_l(copy, NULL, locale);
	errno = saved;
	if (isinf(value))
		return -ERANGE;
	*ret = value;
	return 0;
}

int value_duration_us(const char *text, size_t len, uint64_t *ret)
{
	static const struct unit seconds = { "", USEC_PER_SEC };
	const char *decimals = NULL;
	size_t n, n_decimals = 0;
	const struct unit *unit;
	uint64_t value;

	len = without_newline(text, len);
	n = count_digits(text, len);
	if (n == 0)
		return -EINVAL;
	decimals = text + n;
	if (n < len && text[n] == '.') {
		decimals++;
		n_decimals = count_digits(decimals, len - n - 1);
		if (n_decimals == 0)
			return -EINVAL;
	}
	if (decimals + n_decimals == text + len)
		unit = &seconds;
	else
		unit = find_unit(durations, ARRAY_SIZE(durations), decimals + n_decimals,
			(size_t)(text + len - decimals) - n_decimals);
	if (!unit)
		return -EINVAL;
	if (parse_digits(text, n, &value) < 0 ||
		__builtin_mul_overflow(value, unit->factor, &value) ||
		__builtin_add_overflow(
			value, fraction_of(unit->factor, decimals, n_decimals), &value))
		return -ERANGE;
	*ret = value;
	return 0;
}

int value_size(const char *text, size_t len, uint64_t *ret)
{
	static const struct unit bytes = { "", 1 };
	const struct unit *unit;
	uint64_t value;
	size_t n;

	len = without_newline(text, len);
	n = count_digits(text, len);
	if (n == 0)
		return -EINVAL;
	unit = n == len ? &bytes : find_unit(sizes, ARRAY_SIZE(sizes), text + n, len - n);
	if (!unit)
		return -EINVAL;
	if (parse_digits(text, n, &value) < 0 ||
		__builtin_mul_overflow(value, unit->factor, &value))
		return -ERANGE;
	*ret = value;
	return 0;
}
