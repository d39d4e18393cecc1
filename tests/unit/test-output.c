#include "test.h"

#include <fcntl.h>

#include "client/tools/envname.h"
#include "client/tools/message.h"
#include "client/tools/output.h"

struct pair {
	const char *in;
	size_t in_len;
	const char *out;
};

#define PAIR(in, out)                                                                              \
	{                                                                                          \
		in, sizeof(in) - 1, out                                                            \
	}

static void check(void (*fn)(struct output *output, const char *text, size_t len),
	const struct pair *pairs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		AUTO_FREE char *in = test_copy(pairs[i].in, pairs[i].in_len);
		struct output output = { 0 };

		fn(&output, in, pairs[i].in_len);
		output_bytes(&output, "", 1);
		assert_false(output.has_failed);
		assert_string_equal(output.data, pairs[i].out);
		output_done(&output);
	}
}

static void json_holds_any_value(void **state)
{
	static const struct pair pairs[] = {
		PAIR("", "\"\""), PAIR("plain", "\"plain\""),
		PAIR("gr\xc3\xbcn \"1\"\n2\\", "\"gr\xc3\xbcn \\\"1\\\"\\n2\\\\\""),
		PAIR("\b\t\n\v\f\r", "\"\\b\\t\\n\\u000b\\f\\r\""),
		PAIR("\0\x01\x1f\x7f", "\"\\u0000\\u0001\\u001f\x7f\""),
		PAIR("\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\""),
		PAIR("\xff", "{\"base64\": \"/w==\"}"), PAIR("\xff\x00", "{\"base64\": \"/wA=\"}"),
		PAIR("\xff\x00\x10", "{\"base64\": \"/wAQ\"}"),
		PAIR("\xff\x00\x10\x83", "{\"base64\": \"/wAQgw==\"}"),
		PAIR("\xed\xa0\x80", "{\"base64\": \"7aCA\"}"), /* a surrogate is no text */
	};

	(void)state;
	check(output_json, pairs, ARRAY_SIZE(pairs));
}

static void a_line_stays_one_line(void **state)
{
	static const struct pair pairs[] = {
		PAIR("", ""),
		PAIR("plain text", "plain text"),
		PAIR("a\tb\nc\\d", "a\\tb\\nc\\\\d"),
		PAIR("\r\x1b[2J\x7f\0", "\\x0d\\x1b[2J\\x7f\\x00"),
		PAIR("gr\xc3\xbcn", "gr\xc3\xbcn"),
		PAIR("gr\xfcn\xc3\xbc", "gr\\xfcn\\xc3\\xbc"),
	};

	(void)state;
	check(output_escaped, pairs, ARRAY_SIZE(pairs));
}

static void a_shell_gets_one_word(void **state)
{
	static const struct pair pairs[] = {
		PAIR("", "''"),
		PAIR("a b", "'a b'"),
		PAIR("it's $(x) `y` \"z\" \\", "'it'\\''s $(x) `y` \"z\" \\'"),
		PAIR("''", "''\\'''\\'''"),
		PAIR("a\nb", "'a\nb'"),
	};

	(void)state;
	check(output_shell, pairs, ARRAY_SIZE(pairs));
}

/* What a shell makes of it is the proof. */
static void a_shell_reads_back_what_was_quoted(void **state)
{
	static const char value[] = "it's $HOME `id` \"q\" \\n *\n~ '' end";
	struct output output = { 0 };
	char back[256] = "";
	FILE *pipe;

	(void)state;
	output_text(&output, "printf %s ");
	output_shell(&output, value, sizeof(value) - 1);
	output_bytes(&output, "", 1);
	pipe = popen(output.data, "re");
	assert_non_null(pipe);
	assert_int_equal(fread(back, 1, sizeof(back), pipe), sizeof(value) - 1);
	assert_int_equal(pclose(pipe), 0);
	assert_string_equal(back, value);
	output_done(&output);
}

static void an_environment_file_gets_one_assignment(void **state)
{
	static const struct pair pairs[] = {
		PAIR("", "\"\""),
		PAIR("a b\nc\t#;", "\"a b\nc\t#;\""),
		PAIR("$X `id` \"q\" \\n it's", "\"\\$X \\`id\\` \\\"q\\\" \\\\n it's\""),
	};

	(void)state;
	check(output_env_file, pairs, ARRAY_SIZE(pairs));
}

static void names_of_variables_come_from_keys(void **state)
{
	static const char *const names[][2] = {
		{ "db/url", "DB_URL" },
		{ "cache-ttl.max", "CACHE_TTL_MAX" },
		{ "9lives", "_9LIVES" },
		{ "gr\xc3\xbcn", "GR__N" },
		{ "/", "_" },
	};
	char buf[ENVNAME_SIZE], longest[LIMIT_KEY];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_string_equal(envname_of(names[i][0], strlen(names[i][0]), buf), names[i][1]);
	memset(longest, '9', sizeof(longest));
	assert_int_equal(strlen(envname_of(longest, sizeof(longest), buf)), LIMIT_KEY + 1);
}

static void output_arrives_whole_and_a_full_disk_is_told(void **state)
{
	struct output output = { 0 };
	char back[16] = "";
	int pipe[2], full;

	(void)state;
	assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
	output_text(&output, "one ");
	output_bytes(&output, "two\0", 4);
	assert_int_equal(output_flush(&output, pipe[1]), 0);
	assert_int_equal(read(pipe[0], back, sizeof(back)), 8);
	assert_memory_equal(back, "one two", 8);
	assert_int_equal(output_flush(&output, pipe[1]), 0);
	close(pipe[0]);
	close(pipe[1]);

	full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	output_text(&output, "x");
	assert_int_equal(output_flush(&output, full), -ENOSPC);
	assert_int_equal(output.len, 0);
	close(full);
	output.has_failed = true;
	assert_int_equal(output_flush(&output, STDOUT_FILENO), -ENOMEM);
	output_done(&output);
}

static void durations_are_for_people(void **state)
{
	static const struct {
		uint64_t usec;
		const char *text;
	} cases[] = {
		{ 0, "0 ms" },
		{ 999999, "999 ms" },
		{ 1500000, "1 s" },
		{ 119 * USEC_PER_SEC, "119 s" },
		{ 120 * USEC_PER_SEC, "2 min" },
		{ 7200 * USEC_PER_SEC, "2 h" },
		{ 3 * 86400 * USEC_PER_SEC, "3 d" },
	};
	char buf[32];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(
			message_duration(cases[i].usec, buf, sizeof(buf)), cases[i].text);
}

/* Standard error of what fn says, as text. */
static void said(const struct trouble *trouble, int exit_code, const char *line)
{
	int pipe[2], saved = dup(STDERR_FILENO);
	char back[1024] = "";
	ssize_t n;

	assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
	dup2(pipe[1], STDERR_FILENO);
	assert_int_equal(message_trouble("consulcfg-get", trouble), exit_code);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(pipe[1]);
	n = read(pipe[0], back, sizeof(back) - 1);
	close(pipe[0]);
	assert_true(n > 0);
	assert_string_equal(back, line);
}

static void trouble_is_one_line_that_says_what_to_do(void **state)
{
	struct trouble t = {
		.error = -ECONNREFUSED,
		.socket_path = "/run/consulcfgd/socket",
		.service = "billing",
		.timeout_usec = 5 * USEC_PER_SEC,
	};

	(void)state;
	said(&t, EXIT_AWAY,
		"consulcfg-get: no daemon at /run/consulcfgd/socket: give its --socket if it is "
		"another, or start it with: systemctl start consulcfgd\n");
	t.socket_path = "run/socket";
	said(&t, EXIT_AWAY,
		"consulcfg-get: no daemon at run/socket: start it, or give with --socket or "
		"CONSULCFG_SOCKET the path that it logs when it starts\n");
	t.socket_path = "/run/consulcfgd/socket";
	t.error = -EACCES;
	said(&t, EXIT_DENIED,
		"consulcfg-get: not allowed to connect to /run/consulcfgd/socket: "
		"see mode= and group= in the section [socket] of consulcfgd.conf\n");
	t.words = "";
	t.error = -ETIMEDOUT;
	said(&t, EXIT_AWAY,
		"consulcfg-get: no data for billing within 5 s: see consulcfg-status billing\n");
	t.words = "user 7 may not read billing; ask for access= in consulcfgd.conf";
	t.error = -EACCES;
	said(&t, EXIT_DENIED,
		"consulcfg-get: access denied: user 7 may not read billing; ask for access= in "
		"consulcfgd.conf\n");
	t.error = -ENAMETOOLONG;
	said(&t, EXIT_USAGE,
		"consulcfg-get: the path of the socket is too long: "
		"give one of at most 107 bytes\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_holds_any_value),
		cmocka_unit_test(a_line_stays_one_line),
		cmocka_unit_test(a_shell_gets_one_word),
		cmocka_unit_test(a_shell_reads_back_what_was_quoted),
		cmocka_unit_test(an_environment_file_gets_one_assignment),
		cmocka_unit_test(names_of_variables_come_from_keys),
		cmocka_unit_test(output_arrives_whole_and_a_full_disk_is_told),
		cmocka_unit_test(durations_are_for_people),
		cmocka_unit_test(trouble_is_one_line_that_says_what_to_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
