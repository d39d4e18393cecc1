#include "test.h"

#include "proto/limits.h"
#include "proto/schema.h"

static struct schema *parsed(const char *text)
{
	char message[SCHEMA_MESSAGE];
	struct schema *schema = NULL;

	if (schema_parse(text, strlen(text), &schema, message) < 0)
		fail_msg("%s", message);
	return schema;
}

static void refused(const char *text, const char *said)
{
	char message[SCHEMA_MESSAGE];
	struct schema *schema = NULL;

	assert_int_equal(schema_parse(text, strlen(text), &schema, message), -EINVAL);
	assert_null(schema);
	if (!strstr(message, said))
		fail_msg("'%s' does not say '%s'", message, said);
}

static int look(struct schema_check *check, const char *key, const char *value, size_t len)
{
	const struct record record = {
		.key = key,
		.key_len = (uint32_t)strlen(key),
		.value = value,
		.value_len = (uint32_t)len,
	};

	return schema_check_entry(check, &record);
}

/* Whether one entry is good by a schema; said: what the message has in it. */
static void expect(const char *text, const char *key, const char *value, const char *said)
{
	struct schema *schema = parsed(text);
	struct schema_check check;

	assert_int_equal(schema_check_init(&check, schema), 0);
	assert_int_equal(look(&check, key, value, strlen(value)), said ? -EINVAL : 0);
	if (said && (!strstr(check.message, said) || !strstr(check.message, key)))
		fail_msg("'%s' does not say '%s' of %s", check.message, said, key);
	if (said && strlen(value) > 3)
		assert_null(strstr(check.message, value));
	schema_check_done(&check);
	schema_free(schema);
}

static void types_are_those_of_the_value_grammar(void **state)
{
	(void)state;
	expect("n integer", "n", "42\n", NULL);
	expect("n integer", "n", "4.2", "is no integer");
	expect("b boolean", "b", "Yes", NULL);
	expect("b boolean", "b", "maybe", "boolean");
	expect("d duration", "d", "15min", NULL);
	expect("d duration", "d", "15 min", "duration");
	expect("f double", "f", "-1e3", NULL);
	expect("f double", "f", "nan", "double");
	expect("s string", "s", "gr\xc3\xbcn", NULL);
	expect("s string", "s", "\xff", "string");
	expect("x bytes", "x", "\xff", NULL);
	expect("x none", "x", "", "must not be there");
}

static void ranges_are_of_values_or_of_lengths(void **state)
{
	(void)state;
	expect("n integer min=1 max=100", "n", "1", NULL);
	expect("n integer min=1 max=100", "n", "100", NULL);
	expect("n integer min=1 max=100", "n", "0", "below 1");
	expect("n integer min=1 max=100", "n", "101", "above 100");
	expect("n integer max=9007199254740993", "n", "9007199254740994", "above");
	expect("d duration min=1s max=1h", "d", "500ms", "below 1s");
	expect("d duration min=1s max=1h", "d", "60min", NULL);
	expect("f double max=0.5", "f", "0.6", "above 0.5");
	expect("n integer min=5 max=5", "n", "5", NULL);
	expect("s string min=1", "s", "", "its length is below 1");
	expect("s string max=3", "s", "four", "its length is above 3");
}

static void patterns_are_searched_for_in_values(void **state)
{
	(void)state;
	expect("u string pattern=^postgres://", "u", "postgres://x", NULL);
	expect("u string pattern=^postgres://", "u", "mysql://x", "pattern ^postgres://");
	expect("u string\tpattern=^a b$", "u", "a b\n", NULL);
	expect("u string min=1 pattern=^(on|off)$", "u", "on", NULL);
}

static void the_first_line_that_matches_counts(void **state)
{
	(void)state;
	expect("db/pool integer\ndb/* string max=3", "db/pool", "12345", NULL);
	expect("db/pool integer\ndb/* string max=3", "db/url", "12345", "above 3");
	expect("db/* string\ndb/pool integer", "db/pool", "many", NULL);
	expect("known string\n* none", "unknown", "x", "must not be there");
	expect("# a comment\r\n\n  known integer \r\n", "other", "x", NULL);
}

static void required_keys_are_missed(void **state)
{
	struct schema *schema =
		parsed("a/* string\na/b string required\nc string required\nd string");
	struct schema_check check;
	size_t cursor = 0;

	(void)state;
	assert_int_equal(schema_check_init(&check, schema), 0);
	assert_int_equal(look(&check, "a/b", "x", 1), 0);
	assert_int_equal(schema_check_end(&check, &cursor), -EINVAL);
	assert_string_equal(check.message, "key c is missing");
	assert_int_equal(schema_check_end(&check, &cursor), 0);
	schema_check_done(&check);
	schema_free(schema);
}

static void what_does_not_read_is_refused_with_its_line(void **state)
{
	char longer[LIMIT_SCHEMA_PATTERN + 32];

	(void)state;
	refused("a string\nb", "line 2");
	refused("a strin", "no type");
	refused("a integer min=x", "min=x");
	refused("a integer min=1 min=2", "min=2: there is another one");
	refused("a integer min=2 max=1", "min= is above max=");
	refused("a integer max=9007199254740992 min=9007199254740993", "min= is above max=");
	refused("a duration min=1min max=59s", "min= is above max=");
	refused("a string min=3 max=2", "min= is above max=");
	refused("a boolean max=1", "max=1");
	refused("a string sometimes", "sometimes");
	refused("a* string required", "glob");
	refused("a none required", "required");
	refused("a string pattern=(", "does not read");
	refused("a string pattern=(a)\\1", "refers back");
	refused("a string pattern=((a{100}){100}){100}", "all that it repeats");
	refused("a string pattern=a{32767}", "all that it repeats");
	refused("\xff string", "UTF-8");
	memset(longer, 'a', sizeof(longer));
	memcpy(longer, "a string pattern=", 17);
	longer[sizeof(longer) - 1] = '\0';
	refused(longer, "too long");
	memset(longer, '*', sizeof(longer));
	memcpy(longer + LIMIT_SCHEMA_GLOB + 1, " string", 8);
	refused(longer, "the glob is longer");
}

static void a_schema_has_limits(void **state)
{
	char *text = malloc(LIMIT_SCHEMA + 2), message[SCHEMA_MESSAGE];
	struct schema *schema;

	(void)state;
	memset(text, '\n', LIMIT_SCHEMA + 1);
	assert_int_equal(schema_parse(text, LIMIT_SCHEMA, &schema, message), 0);
	schema_free(schema);
	assert_int_equal(schema_parse(text, LIMIT_SCHEMA + 1, &schema, message), -EINVAL);
	for (int i = 0; i <= LIMIT_SCHEMA_LINES; i++)
		memcpy(text + i * 9, "k string\n", 9);
	assert_int_equal(schema_parse(text, LIMIT_SCHEMA_LINES * 9, &schema, message), 0);
	schema_free(schema);
	assert_int_equal(
		schema_parse(text, (LIMIT_SCHEMA_LINES + 1) * 9, &schema, message), -EINVAL);
	assert_non_null(strstr(message, "line 1001"));
	free(text);
}

static void a_pattern_wants_text(void **state)
{
	struct schema *schema = parsed("k bytes pattern=a");
	char value[LIMIT_SCHEMA_TEXT + 1];
	struct schema_check check;

	(void)state;
	memset(value, 'a', sizeof(value));
	assert_int_equal(schema_check_init(&check, schema), 0);
	assert_int_equal(look(&check, "k", value, LIMIT_SCHEMA_TEXT), 0);
	assert_int_equal(look(&check, "k", value, LIMIT_SCHEMA_TEXT + 1), -EINVAL);
	assert_int_equal(look(&check, "k", "a\0b", 3), -EINVAL);
	schema_check_done(&check);
	schema_free(schema);
}

/* In pieces, whose ends are anywhere: none of them is taken for the end of a character. */
static void a_large_string_is_looked_at_in_pieces(void **state)
{
	static const char *const letters[] = { "a", "\xc3\xa4", "\xe2\x82\xac",
		"\xf0\x9f\x98\x80" };
	size_t size = 8 * LIMIT_SCHEMA_PIECE;
	AUTO_FREE char *text = malloc(size + 8);
	struct schema *schema = parsed("s string");

	(void)state;
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(letters); i++) {
		const char *letter = letters[i / 2];
		bool is_broken = i % 2;
		struct schema_check check;
		size_t len = 0;
		unsigned n = 0;
		int r;

		while (len < size) {
			strcpy(text + len, letter);
			len += strlen(letter);
		}
		if (is_broken)
			text[len - 1] = '\xff';
		assert_int_equal(schema_check_init(&check, schema), 0);
		while ((r = look(&check, "s", text, len)) > 0) {
			assert_true(check.cost >= SCHEMA_SLICE_COST);
			check.cost = 0;
			n++;
		}
		assert_int_equal(r, is_broken ? -EINVAL : 0);
		assert_true(n >= 7 && n <= 9);
		check.cost = 0;
		assert_int_equal(look(&check, "s", "ok", 2), 0);
		schema_check_done(&check);
	}
	schema_free(schema);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(types_are_those_of_the_value_grammar),
		cmocka_unit_test(ranges_are_of_values_or_of_lengths),
		cmocka_unit_test(patterns_are_searched_for_in_values),
		cmocka_unit_test(the_first_line_that_matches_counts),
		cmocka_unit_test(required_keys_are_missed),
		cmocka_unit_test(what_does_not_read_is_refused_with_its_line),
		cmocka_unit_test(a_schema_has_limits),
		cmocka_unit_test(a_large_string_is_looked_at_in_pieces),
		cmocka_unit_test(a_pattern_wants_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
