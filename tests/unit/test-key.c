#include "test.h"

#include "proto/key.h"
#include "proto/limits.h"

#define TEXT(s) (s), sizeof(s) - 1

static void a_service_name_begins_with_a_letter_or_digit(void **state)
{
	(void)state;
	assert_true(key_is_service_name(TEXT("billing")));
	assert_true(key_is_service_name(TEXT("0")));
	assert_true(key_is_service_name(TEXT("Web-1.eu_west")));
	assert_false(key_is_service_name(TEXT("")));
	assert_false(key_is_service_name(TEXT(".")));
	assert_false(key_is_service_name(TEXT("..")));
	assert_false(key_is_service_name(TEXT("-x")));
	assert_false(key_is_service_name(TEXT("_x")));
}

static void a_service_name_has_no_other_bytes(void **state)
{
	static const char others[] = "/ \n\t*?:@[]{}\\\x7f\xc3";

	(void)state;
	for (size_t i = 0; i < sizeof(others); i++) { /* the NUL too */
		const char name[] = { 'a', others[i], 'b' };

		assert_false(key_is_service_name(name, sizeof(name)));
	}
}

static void a_service_name_has_at_most_64_bytes(void **state)
{
	char name[LIMIT_SERVICE_NAME + 1];

	(void)state;
	memset(name, 'a', sizeof(name));
	assert_true(key_is_service_name(name, LIMIT_SERVICE_NAME));
	assert_false(key_is_service_name(name, LIMIT_SERVICE_NAME + 1));
}

static void a_key_is_text_of_1_to_4096_bytes(void **state)
{
	char key[LIMIT_KEY + 1];

	(void)state;
	memset(key, 'k', sizeof(key));
	assert_int_equal(key_check(key, 0), -EINVAL);
	assert_int_equal(key_check(key, 1), 0);
	assert_int_equal(key_check(key, LIMIT_KEY), 0);
	assert_int_equal(key_check(key, LIMIT_KEY + 1), -ENAMETOOLONG);
	assert_int_equal(key_check(TEXT("db/url")), 0);
	assert_int_equal(key_check(TEXT("a b\n../c//")), 0);
	assert_int_equal(key_check(TEXT("a\0b")), -EINVAL);
	assert_int_equal(key_check(TEXT("a\xff")), -EINVAL);
}

static void utf8_is_what_unicode_says_it_is(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		bool is_utf8;
	} rows[] = {
		{ TEXT(""), true },
		{ TEXT("plain"), true },
		{ TEXT("\0"), true },
		{ TEXT("\x7f"), true },
		{ TEXT("\xc2\x80"), true },
		{ TEXT("\xdf\xbf"), true },
		{ TEXT("\xe0\xa0\x80"), true },
		{ TEXT("\xed\x9f\xbf"), true },
		{ TEXT("\xee\x80\x80"), true },
		{ TEXT("\xef\xbf\xbd"), true },
		{ TEXT("\xf0\x90\x80\x80"), true },
		{ TEXT("\xf4\x8f\xbf\xbf"), true },
		{ TEXT("12345678\xe2\x82\xac"
		       "12345678"),
			true },
		{ TEXT("1234567\xe2\x82\xac"), true },
		{ TEXT("\x80"), false }, /* a tail alone */
		{ TEXT("\xc3"), false }, /* a head alone */
		{ TEXT("\xc3("), false },
		{ TEXT("\xe2\x82"), false },
		{ TEXT("\xe2(\xac"), false },
		{ TEXT("\xe2\x82("), false },
		{ TEXT("\xf0\x90\x80"), false },
		{ TEXT("\xf0\x90\x80("), false },
		{ TEXT("\xc0\x80"), false }, /* overlong */
		{ TEXT("\xc1\xbf"), false },
		{ TEXT("\xe0\x9f\xbf"), false },
		{ TEXT("\xf0\x8f\xbf\xbf"), false },
		{ TEXT("\xed\xa0\x80"), false }, /* a surrogate */
		{ TEXT("\xed\xbf\xbf"), false },
		{ TEXT("\xf4\x90\x80\x80"), false }, /* beyond U+10FFFF */
		{ TEXT("\xf5\x80\x80\x80"), false },
		{ TEXT("\xff"), false },
		{ TEXT("12345678\xff"), false },
		{ TEXT("1234567\xff"), false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		AUTO_FREE char *text = test_copy(rows[i].text, rows[i].len);

		if (key_is_utf8(text, rows[i].len) != rows[i].is_utf8)
			fail_msg("row %zu", i);
	}
}

/* Eight bytes are looked at together. */
static void utf8_is_checked_up_to_the_last_byte(void **state)
{
	char text[32];

	(void)state;
	for (size_t len = 2; len < sizeof(text); len++)
		for (size_t at = 0; at < len; at++) {
			memset(text, 'a', sizeof(text));
			assert_true(key_is_utf8(text, len));
			text[at] = '\xc3';
			assert_false(key_is_utf8(text, len));
			text[at + 1] = '\xa9';
			assert_int_equal(key_is_utf8(text, len), at + 1 < len);
		}
}

static void keys_are_in_byte_order(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} rows[] = { { TEXT("") }, { TEXT("A") }, { TEXT("a") }, { TEXT("a/") }, { TEXT("a/b") },
		{ TEXT("a0") }, { TEXT("ab") }, { TEXT("\x7f") }, { TEXT("\xc3\xa4") } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (size_t j = 0; j < ARRAY_SIZE(rows); j++) {
			int order =
				key_compare(rows[i].text, rows[i].len, rows[j].text, rows[j].len);

			assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
		}
}

static void escaping_leaves_text_and_shows_control_bytes(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		const char *escaped;
	} rows[] = {
		{ TEXT(""), "" },
		{ TEXT("db/url"), "db/url" },
		{ TEXT("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f" },
		{ TEXT("a\nb"), "a\\x0ab" },
		{ TEXT("\x1b[31m"), "\\x1b[31m" },
		{ TEXT("a\0b"), "a\\x00b" },
		{ TEXT("\x7f"), "\\x7f" },
		{ TEXT("\xc2\x9b"), "\\xc2\\x9b" }, /* CSI in one character */
		{ TEXT("\xc2\xa0"), "\xc2\xa0" },
		{ TEXT("\xff\xc3"), "\\xff\\xc3" },
	};
	char buf[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		AUTO_FREE char *text = test_copy(rows[i].text, rows[i].len);

		assert_ptr_equal(key_escape(text, rows[i].len, buf, sizeof(buf)), buf);
		assert_string_equal(buf, rows[i].escaped);
	}
}

static void escaping_cuts_with_dots_between_characters(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		const char *escaped; /* in 8 bytes */
	} rows[] = {
		{ TEXT("1234567"), "1234567" },
		{ TEXT("12345678"), "1234..." },
		{ TEXT("123\n"), "123\\x0a" },
		{ TEXT("1234\n"), "1234..." },
		{ TEXT("1\n\n"), "1..." }, /* half a \xNN would be another text */
		{ TEXT("123\xe2\x82\xac"
		       "45"),
			"123..." },
		{ TEXT("1\xe2\x82\xac"
		       "5678"),
			"1\xe2\x82\xac..." },
		{ TEXT("\n\n\n"), "\\x0a..." },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		AUTO_FREE char *buf = malloc(8);

		assert_non_null(buf);
		assert_string_equal(key_escape(rows[i].text, rows[i].len, buf, 8), rows[i].escaped);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_service_name_begins_with_a_letter_or_digit),
		cmocka_unit_test(a_service_name_has_no_other_bytes),
		cmocka_unit_test(a_service_name_has_at_most_64_bytes),
		cmocka_unit_test(a_key_is_text_of_1_to_4096_bytes),
		cmocka_unit_test(utf8_is_what_unicode_says_it_is),
		cmocka_unit_test(utf8_is_checked_up_to_the_last_byte),
		cmocka_unit_test(keys_are_in_byte_order),
		cmocka_unit_test(escaping_leaves_text_and_shows_control_bytes),
		cmocka_unit_test(escaping_cuts_with_dots_between_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
