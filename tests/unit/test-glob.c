#include "test.h"

#include "proto/glob.h"

static bool matches(const char *glob, const char *text)
{
	return glob_matches(glob, text, strlen(text));
}

static void stars_are_any_bytes_question_marks_one(void **state)
{
	(void)state;
	assert_true(matches("db/url", "db/url"));
	assert_false(matches("db/url", "db/url2"));
	assert_false(matches("db/url", "db/ur"));
	assert_true(matches("*", ""));
	assert_true(matches("db/*", "db/a/b"));
	assert_false(matches("db/*", "db"));
	assert_true(matches("*/password", "a/b/password"));
	assert_true(matches("a*b*c", "abbbcbc"));
	assert_false(matches("a*b*c", "abbbcb"));
	assert_true(matches("d?", "db"));
	assert_false(matches("d?", "d"));
	assert_false(matches("", "x"));
	assert_true(matches("", ""));
}

static void the_text_ends_where_its_length_says(void **state)
{
	(void)state;
	assert_true(glob_matches("ab", "abc", 2));
	assert_false(glob_matches("abc", "abc", 2));
	assert_false(glob_matches("ab", "ab\0", 3));
}

static void a_hostile_glob_takes_no_longer(void **state)
{
	char glob[200], text[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(glob) - 2; i += 2)
		memcpy(glob + i, "*a", 2);
	memcpy(glob + sizeof(glob) - 2, "b", 2);
	memset(text, 'a', sizeof(text));
	assert_false(glob_matches(glob, text, sizeof(text)));
}

static void a_list_matches_when_one_does(void **state)
{
	char db[] = "db/*", ttl[] = "ttl";
	char *globs[] = { db, ttl };
	const struct glob_list list = { globs, 2 }, none = { NULL, 0 };
	struct glob_list copy;

	(void)state;
	assert_true(glob_list_matches(&list, "ttl", 3));
	assert_true(glob_list_matches(&list, "db/url", 6));
	assert_false(glob_list_matches(&list, "url", 3));
	assert_false(glob_list_matches(&none, "url", 3));
	assert_int_equal(glob_list_copy(&list, &copy), 0);
	assert_true(glob_list_is_same(&list, &copy));
	assert_false(glob_list_is_same(&list, &none));
	copy.globs[1][0] = 'x';
	assert_false(glob_list_is_same(&list, &copy));
	glob_list_done(&copy);
	assert_true(glob_list_is_same(&copy, &none));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stars_are_any_bytes_question_marks_one),
		cmocka_unit_test(the_text_ends_where_its_length_says),
		cmocka_unit_test(a_hostile_glob_takes_no_longer),
		cmocka_unit_test(a_list_matches_when_one_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
