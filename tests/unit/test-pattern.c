#include "test.h"

#include <regex.h>
#include <time.h>

#include "proto/pattern.h"

static bool is_in(const char *text, const char *value)
{
	struct pattern *pattern;
	const char *why;
	bool found;

	if (pattern_new(text, &pattern, &why) < 0)
		fail_msg("%s: %s", text, why);
	found = pattern_is_in(pattern, value, strlen(value));
	pattern_free(pattern);
	return found;
}

static void refused(const char *text, const char *said)
{
	struct pattern *pattern;
	const char *why = NULL;

	assert_int_equal(pattern_new(text, &pattern, &why), -EINVAL);
	if (!strstr(why, said))
		fail_msg("%s: '%s' does not say '%s'", text, why, said);
}

static void what_people_write_is_found_or_not(void **state)
{
	(void)state;
	assert_true(is_in("^postgres://", "postgres://db"));
	assert_false(is_in("^postgres://", "a postgres://db"));
	assert_true(is_in("", "") && is_in("b", "abc") && is_in("^$", ""));
	assert_true(is_in("^(on|off|)$", "") && is_in("^(on|off)$", "off"));
	assert_false(is_in("^(on|off)$", "offf"));
	assert_true(is_in("^[0-9]{1,3}(\\.[0-9]{1,3}){3}$", "10.0.0.255"));
	assert_false(is_in("^[0-9]{1,3}(\\.[0-9]{1,3}){3}$", "10.0.0"));
	assert_true(is_in("^[^]/-]+$", "abc") && is_in("^[]]$", "]") && is_in("[a\\]b", "\\b"));
	assert_true(is_in("^\\w+\\s\\S\\W$", "ab_9 x-"));
	assert_true(is_in("^[[:xdigit:]]{64}$",
		"0123456789abcdefABCDEF012345678901234567890123456789012345678901"));
	assert_true(is_in("^gr\xc3\xbcn$", "gr\xc3\xbcn") && is_in("^.$", "\xff"));
	assert_true(
		is_in("^(a*)*$", "aaa") && is_in("(a?){3}b", "b") && is_in("^a{0}b{2,}$", "bbb"));
}

static void what_does_not_read_is_refused(void **state)
{
	char longest[LIMIT_SCHEMA_PATTERN + 2];

	(void)state;
	refused("(a", "no ')'");
	refused("a)", "no '('");
	refused("[a", "no ']'");
	refused("[]", "no ']'");
	refused("[b-a]", "range");
	refused("[[:alhpa:]]", "no such class");
	refused("a\\", "at the end");
	refused("(a)\\1", "refers back");
	refused("\\bword", "means nothing");
	refused("*a", "nothing that is repeated");
	refused("a+*", "nothing that is repeated");
	refused("a{", "not followed by a number");
	refused("a{2,1}", "does not read");
	refused("a{2", "does not read");
	memset(longest, 'a', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	refused(longest, "too long");
}

/* Each of these takes the C library's seconds, gigabytes or its stack. */
static void what_would_take_for_ever_is_refused_at_once(void **state)
{
	char optional[200] = "(", plus[200] = "", groups[200] = "";

	(void)state;
	for (unsigned i = 0; i < 80; i++)
		strcat(optional, "a?");
	strcat(optional, "){1000}");
	refused(optional, "all that it repeats");
	for (unsigned i = 0; i < 60; i++)
		strcat(groups, "(");
	for (unsigned i = 0; i < 60; i++)
		strcat(groups, ")+");
	refused("(((a{99}){99}){99}){99}", "all that it repeats");
	refused("((((){200}){200}){200}){200}", "all that it repeats");
	assert_true(is_in(groups, "a"));
	for (unsigned i = 0; i < 40; i++)
		strcat(plus, "(");
	strcat(plus, "a");
	for (unsigned i = 0; i < 40; i++)
		strcat(plus, "+)");
	assert_true(is_in(plus, "aaa"));
	assert_false(is_in(plus, "bbb"));
}

static void the_longest_search_is_bounded(void **state)
{
	static const char *const worst[] = { "(a|b)*a(a|b){95}c", "(.*a){100}c", "(.?){165}x",
		"((a?)?b?){60}c" };
	char text[LIMIT_SCHEMA_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 3 == 0 ? 'b' : 'a';
	for (size_t i = 0; i < ARRAY_SIZE(worst); i++) {
		struct pattern *pattern;
		const char *why;
		double taken_ms;
		clock_t start;

		assert_int_equal(pattern_new(worst[i], &pattern, &why), 0);
		start = clock();
		assert_false(pattern_is_in(pattern, text, sizeof(text)));
		taken_ms = (double)(clock() - start) * 1e3 / CLOCKS_PER_SEC;
		print_message(
			"%s: %zu states, %.2f ms\n", worst[i], pattern_n_states(pattern), taken_ms);
		assert_true(taken_ms < 250); /* 4 of them, without sanitizers */
		pattern_free(pattern);
	}
}

static unsigned random_state = 1;

static unsigned one_of(unsigned n)
{
	random_state = random_state * 1103515245 + 12345;
	return (random_state >> 16) % n;
}

#define N_PLAIN 10

static void make(char *buf, unsigned depth)
{
	static const char *const atoms[] = { "a", "b", "c", ".", "[ab]", "[^a]", "[b-c]", "\\.",
		"[[:alpha:]]", "\\w", "^", "$" };
	static const char *const repetitions[] = { "", "", "", "*", "+", "?", "{2}", "{0,2}",
		"{1,}" };
	unsigned n = 1 + one_of(3);

	for (unsigned i = 0; i < n; i++) {
		/* The C library errs about anchors in what repeats. */
		unsigned atom = one_of(depth == 0 ? ARRAY_SIZE(atoms) : N_PLAIN);
		bool is_anchor = atom >= N_PLAIN;

		if (depth < 2 && one_of(4) == 0) {
			strcat(buf, "(");
			make(buf, depth + 1);
			strcat(buf, ")");
			is_anchor = false;
		} else {
			strcat(buf, atoms[atom]);
		}
		if (!is_anchor)
			strcat(buf, repetitions[one_of(ARRAY_SIZE(repetitions))]);
		if (one_of(6) == 0 && i + 1 < n)
			strcat(buf, "|");
	}
}

/* The C library's own is asked the same. */
static void it_finds_what_regexec_finds(void **state)
{
	unsigned n_found = 0, n_all = 0;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		char text[2048] = "", value[12];
		struct pattern *pattern;
		const char *why;
		regex_t regex;

		make(text, 0);
		if (strlen(text) > LIMIT_SCHEMA_PATTERN)
			continue;
		assert_int_equal(regcomp(&regex, text, REG_EXTENDED | REG_NOSUB), 0);
		if (pattern_new(text, &pattern, &why) < 0)
			fail_msg("%s: %s", text, why);
		for (unsigned j = 0; j < 10; j++) {
			unsigned len = one_of(sizeof(value));
			bool expected;

			for (unsigned k = 0; k < len; k++)
				value[k] = "aabbc.-"[one_of(7)];
			value[len] = '\0';
			expected = regexec(&regex, value, 0, NULL, 0) == 0;
			if (pattern_is_in(pattern, value, len) != expected)
				fail_msg("%s in '%s': %d by regexec", text, value, expected);
			n_found += expected;
			n_all++;
		}
		pattern_free(pattern);
		regfree(&regex);
	}
	print_message("%u of %u found\n", n_found, n_all);
	assert_true(n_found > n_all / 10 && n_found < n_all - n_all / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_people_write_is_found_or_not),
		cmocka_unit_test(what_does_not_read_is_refused),
		cmocka_unit_test(what_would_take_for_ever_is_refused_at_once),
		cmocka_unit_test(the_longest_search_is_bounded),
		cmocka_unit_test(it_finds_what_regexec_finds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
