#include "test.h"

#include <fcntl.h>

#include "client/tools/message.h"
#include "client/tools/verb.h"

enum { LONG_ONLY = 256, LONG_VALUE };

static const struct option options[] = {
	{ 't', NULL, "SECONDS", "with an argument" },
	{ 'n', NULL, NULL, "without one" },
	{ '0', NULL, NULL, "a digit" },
	{ LONG_ONLY, "json", NULL, "long" },
	{ LONG_VALUE, "max-age", "DURATION", "long with an argument" },
	{ 0 },
};

static const struct verb verb = {
	.name = "test",
	.operands = "SERVICE",
	.summary = "For the test.",
	.options = options,
};

#define MAX_WORDS 8

struct parsed {
	struct context context;
	struct args args;
	char *words[MAX_WORDS]; /* moved around by the parser, not written to */
	char seen[128]; /* options as they came: "t=5 n json " */
	int end; /* what verb_next() gave last */
};

/* Parses the words up to NULL; what is said goes nowhere. */
static void parse(struct parsed *p, const char *const words[])
{
	int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	const char *argument = NULL;
	int n = 0;

	*p = (struct parsed){ .context.name = "consulcfg-test" };
	for (; words[n]; n++)
		p->words[n] = (char *)(uintptr_t)words[n];
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	verb_begin(&p->args, &p->context, &verb, n, p->words);
	while ((p->end = verb_next(&p->args, &argument)) > 0) {
		size_t len = strlen(p->seen);

		if (p->end == 't' || p->end == LONG_VALUE)
			snprintf(p->seen + len, sizeof(p->seen) - len, "%c=%s ",
				p->end == 't' ? 't' : 'm', argument);
		else
			snprintf(p->seen + len, sizeof(p->seen) - len, "%c ",
				p->end == LONG_ONLY ? 'j' : p->end);
	}
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	close(out);
	close(err);
	close(null);
}

static void options_and_operands_are_told_apart(void **state)
{
	static const struct {
		const char *words[MAX_WORDS];
		const char *seen;
		const char *operands[3];
		int n_before_dashes;
	} cases[] = {
		{ { "a", "b" }, "", { "a", "b" }, -1 },
		{ { "-t", "5", "a" }, "t=5 ", { "a" }, -1 },
		{ { "-t5", "a" }, "t=5 ", { "a" }, -1 },
		{ { "-nt5", "a" }, "n t=5 ", { "a" }, -1 },
		{ { "-n0", "a" }, "n 0 ", { "a" }, -1 },
		{ { "a", "-n", "b", "--json" }, "n j ", { "a", "b" }, -1 },
		{ { "--max-age", "1h", "a" }, "m=1h ", { "a" }, -1 },
		{ { "--max-age=1h", "a" }, "m=1h ", { "a" }, -1 },
		{ { "--max-age=", "a" }, "m= ", { "a" }, -1 },
		{ { "-t", "-n", "a" }, "t=-n ", { "a" }, -1 },
		{ { "a", "-" }, "", { "a", "-" }, -1 },
		{ { "--", "-n", "a" }, "", { "-n", "a" }, 0 },
		{ { "a", "--", "-n" }, "", { "a", "-n" }, 1 },
		{ { "-t", "--", "a" }, "t=-- ", { "a" }, -1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct parsed p;
		int n = 0;

		parse(&p, cases[i].words);
		assert_int_equal(p.end, 0);
		assert_string_equal(p.seen, cases[i].seen);
		while (n < 3 && cases[i].operands[n]) {
			assert_true(n < p.args.n_operands);
			assert_string_equal(p.args.argv[n], cases[i].operands[n]);
			n++;
		}
		assert_int_equal(p.args.n_operands, n);
		assert_int_equal(p.args.n_before_dashes, cases[i].n_before_dashes);
	}
}

static void wrong_options_are_refused(void **state)
{
	static const char *const cases[][MAX_WORDS] = {
		{ "-x", "a" },
		{ "--js", "a" },
		{ "--json=1", "a" },
		{ "-t", NULL },
		{ "a", "-nt", NULL },
		{ "--max-age", NULL },
		{ "--socket", NULL },
		{ "---", "a" },
		{ "-n=", "a" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct parsed p;

		parse(&p, cases[i]);
		assert_int_equal(p.end, VERB_EXIT);
		assert_int_equal(p.args.exit_code, EXIT_USAGE);
	}
}

static void common_options_are_done_here(void **state)
{
	static const char *const help[] = { "a", "--help", "--wrong", NULL };
	static const char *const version[] = { "--version", NULL };
	static const char *const with_socket[] = { "--socket", "/tmp/x", "-n", "a", NULL };
	struct parsed p;

	(void)state;
	parse(&p, help);
	assert_int_equal(p.end, VERB_EXIT);
	assert_int_equal(p.args.exit_code, EXIT_DONE);
	parse(&p, version);
	assert_int_equal(p.end, VERB_EXIT);
	assert_int_equal(p.args.exit_code, EXIT_DONE);
	parse(&p, with_socket);
	assert_int_equal(p.end, 0);
	assert_string_equal(p.seen, "n ");
	assert_string_equal(p.context.socket_path, "/tmp/x");
}

static void a_timeout_is_seconds_a_duration_or_infinity(void **state)
{
	static const struct {
		const char *text;
		uint64_t usec;
	} good[] = {
		{ "0", 0 },
		{ "5", 5 * USEC_PER_SEC },
		{ "2.5", 2500000 },
		{ "250ms", 250000 },
		{ "1min", 60 * USEC_PER_SEC },
		{ "infinity", UINT64_MAX },
	};
	static const char *const bad[] = { "", "soon", "-1", "5 s", "inf", "1h30" };
	uint64_t usec = 7;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(verb_timeout(bad[i], &usec), -EINVAL);
	assert_int_equal(usec, 7);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(verb_timeout(good[i].text, &usec), 0);
		assert_true(usec == good[i].usec);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_and_operands_are_told_apart),
		cmocka_unit_test(wrong_options_are_refused),
		cmocka_unit_test(common_options_are_done_here),
		cmocka_unit_test(a_timeout_is_seconds_a_duration_or_infinity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
