#include "test.h"

#include "daemon/json.h"

static void expect(struct json *json, const char *expected)
{
	const char *text;
	size_t len;

	assert_int_equal(json_text(json, &text, &len), 0);
	if (len != strlen(expected) || memcmp(text, expected, len) != 0)
		fail_msg("%.*s instead of %s", (int)len, text, expected);
	assert_int_equal(json_size(json), len);
	json_free(json);
}

static struct json *json_started(void)
{
	struct json *json;

	assert_int_equal(json_new(&json), 0);
	return json;
}

static void nothing_is_no_text(void **state)
{
	(void)state;
	expect(json_started(), "");
	json_free(NULL);
}

static void values_of_every_kind(void **state)
{
	struct json *json = json_started();

	(void)state;
	json_begin_object(json);
	json_key(json, "text");
	json_string(json, "x");
	json_key(json, "none");
	json_string(json, NULL);
	json_key(json, "list");
	json_begin_array(json);
	json_uint(json, 0);
	json_uint(json, UINT64_MAX);
	json_hex(json, 0xc0ffee);
	json_null(json);
	json_end_array(json);
	json_key(json, "empty");
	json_begin_object(json);
	json_end_object(json);
	json_end_object(json);
	expect(json, "{\"text\":\"x\",\"none\":null,\"list\":[0,18446744073709551615,"
		     "\"0000000000c0ffee\",null],\"empty\":{}}");
}

static void seconds_have_three_places(void **state)
{
	struct json *json = json_started();

	(void)state;
	json_begin_array(json);
	json_seconds(json, 0);
	json_seconds(json, 999);
	json_seconds(json, 1500000);
	json_seconds(json, 86400 * USEC_PER_SEC + 1000);
	json_end_array(json);
	expect(json, "[0.000,0.000,1.500,86400.001]");
}

static void texts_are_escaped(void **state)
{
	struct json *json = json_started();

	(void)state;
	json_begin_array(json);
	json_string(json, "quote \" backslash \\ newline \n bell \a");
	json_string(json, "gr\xc3\xbc\xc3\x9f");
	json_string(json, "not utf-8: \xff");
	json_end_array(json);
	expect(json, "[\"quote \\\" backslash \\\\ newline \\n bell \\u0007\","
		     "\"gr\xc3\xbc\xc3\x9f\",\"not utf-8: \\\\xff\"]");
}

static void values_one_behind_the_other(void **state)
{
	struct json *json = json_started();

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		if (i > 0)
			json_next(json);
		json_begin_object(json);
		json_key(json, "n");
		json_uint(json, i);
		json_end_object(json);
	}
	expect(json, "{\"n\":0},{\"n\":1},{\"n\":2}");
}

static void long_texts_grow(void **state)
{
	struct json *json = json_started();
	char *text = calloc(1, 200001), *expected = calloc(1, 200003);

	(void)state;
	assert_true(text && expected);
	memset(text, 'x', 200000);
	memset(expected, 'x', 200002);
	expected[0] = expected[200001] = '"';
	json_string(json, text);
	expect(json, expected);
	free(text);
	free(expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_no_text),
		cmocka_unit_test(values_of_every_kind),
		cmocka_unit_test(seconds_have_three_places),
		cmocka_unit_test(texts_are_escaped),
		cmocka_unit_test(values_one_behind_the_other),
		cmocka_unit_test(long_texts_grow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
