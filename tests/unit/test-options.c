#include "test.h"

#include <sys/wait.h>

#include "daemon/options.h"

#define MAX_WORDS 80

static int parse(const char *const *words, struct options *ret_options)
{
	const char *argv[MAX_WORDS + 2] = { "consulcfgd" };
	int argc = 1;

	while (*words) {
		assert_true(argc <= MAX_WORDS);
		argv[argc++] = *words++;
	}
	/* getopt_long() may reorder the words but writes to none. */
	return options_parse(argc, (char **)(void *)argv, ret_options);
}

#define PARSE(options, ...) parse((const char *const[]){ __VA_ARGS__, NULL }, options)

/* What a command line makes the child write to `fd`; its result goes to *ret_result. */
static void run(const char *const *words, int fd, char *ret_text, size_t size, int *ret_result)
{
	struct options options;
	int pipe_fds[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(pipe_fds), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int r;

		dup2(pipe_fds[1], fd);
		r = parse(words, &options);
		fflush(NULL);
		_exit(r < 0 ? 100 - r : r);
	}
	close(pipe_fds[1]);
	while ((n = read(pipe_fds[0], ret_text + len, size - len - 1)) > 0)
		len += (size_t)n;
	close(pipe_fds[0]);
	ret_text[len] = '\0';
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	*ret_result = WEXITSTATUS(status) > 100 ? 100 - WEXITSTATUS(status) : WEXITSTATUS(status);
}

static void no_words_leave_every_option_unset(void **state)
{
	struct options options;

	(void)state;
	memset(&options, 0xff, sizeof(options));
	assert_int_equal(parse((const char *const[]){ NULL }, &options), 0);
	assert_null(options.config_file);
	assert_int_equal(options.n_sets, 0);
	assert_null(options.source);
	assert_null(options.socket_path);
	assert_null(options.state_directory);
	assert_null(options.runtime_directory);
	assert_null(options.log_level);
	assert_false(options.check);
}

static void each_option_arrives_in_its_field(void **state)
{
	struct options options;

	(void)state;
	assert_int_equal(PARSE(&options, "--config", "F", "--set", "consul.wait=1s", "--set=a.b=c",
				 "--source", "dir:/x", "--socket=S", "--state-directory", "D",
				 "--runtime-directory", "R", "--log-level", "debug", "--check"),
		0);
	assert_string_equal(options.config_file, "F");
	assert_int_equal(options.n_sets, 2);
	assert_string_equal(options.sets[0], "consul.wait=1s");
	assert_string_equal(options.sets[1], "a.b=c");
	assert_string_equal(options.source, "dir:/x");
	assert_string_equal(options.socket_path, "S");
	assert_string_equal(options.state_directory, "D");
	assert_string_equal(options.runtime_directory, "R");
	assert_string_equal(options.log_level, "debug");
	assert_true(options.check);
}

static void the_last_of_two_wins(void **state)
{
	struct options options;

	(void)state;
	assert_int_equal(PARSE(&options, "--socket", "a", "--socket", "b"), 0);
	assert_string_equal(options.socket_path, "b");
}

static void a_wrong_line_gives_one_line_and_no_options(void **state)
{
	static const struct {
		const char *words[4];
		const char *named; /* in the message */
	} rows[] = {
		{ { "--frobnicate" }, "--frobnicate" },
		{ { "--check", "--frobnicate=3" }, "--frobnicate" },
		{ { "-x" }, "-x" },
		{ { "-vx" }, "-v" },
		{ { "--s", "x" }, "--s" }, /* several options begin so */
		{ { "--config" }, "--config needs an argument" },
		{ { "--check=yes" }, "takes no argument" },
		{ { "file" }, "'file'" },
		{ { "--check", "file", "--check" }, "'file'" },
		{ { "--", "--check" }, "'--check'" },
	};
	char text[1024];
	int r;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		run(rows[i].words, STDERR_FILENO, text, sizeof(text), &r);
		assert_int_equal(r, -EINVAL);
		if (!strstr(text, rows[i].named))
			fail_msg("no %s in: %s", rows[i].named, text);
		assert_memory_equal(text, "consulcfgd: ", 12);
		assert_non_null(strstr(text, "--help"));
		assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	}
}

static void more_settings_than_there_is_room_for_are_refused(void **state)
{
	const char *words[OPTIONS_MAX_SETS + 2] = { 0 };
	struct options options;
	char text[1024];
	int r;

	(void)state;
	for (size_t i = 0; i < OPTIONS_MAX_SETS; i++)
		words[i] = "--set=labels.a=b";
	assert_int_equal(parse(words, &options), 0);
	assert_int_equal(options.n_sets, OPTIONS_MAX_SETS);
	words[OPTIONS_MAX_SETS] = "--set=labels.a=b";
	run(words, STDERR_FILENO, text, sizeof(text), &r);
	assert_int_equal(r, -EINVAL);
	assert_non_null(strstr(text, "--set"));
}

static void version_is_one_line_on_standard_output(void **state)
{
	char text[1024];
	int r;

	(void)state;
	run((const char *const[]){ "--version", NULL }, STDOUT_FILENO, text, sizeof(text), &r);
	assert_int_equal(r, 1);
	assert_string_equal(text, "consulcfgd " CONSULCFGD_VERSION "\n");
}

static void help_names_every_option(void **state)
{
	static const char *const names[] = { "--config FILE", "--set SECTION.KEY=VALUE",
		"--source SOURCE", "--socket PATH", "--state-directory DIR",
		"--runtime-directory DIR", "--log-level LEVEL", "--check", "--version", "--help" };
	char text[4096];
	int r;

	(void)state;
	run((const char *const[]){ "--help", NULL }, STDOUT_FILENO, text, sizeof(text), &r);
	assert_int_equal(r, 1);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_non_null(strstr(text, names[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_words_leave_every_option_unset),
		cmocka_unit_test(each_option_arrives_in_its_field),
		cmocka_unit_test(the_last_of_two_wins),
		cmocka_unit_test(a_wrong_line_gives_one_line_and_no_options),
		cmocka_unit_test(more_settings_than_there_is_room_for_are_refused),
		cmocka_unit_test(version_is_one_line_on_standard_output),
		cmocka_unit_test(help_names_every_option),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
