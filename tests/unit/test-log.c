#include "test.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "daemon/log.h"

/* Runs fn in a child whose standard error is a pipe; returns what came out, to be freed. Whether
 * the journal reads is found out once per process. */
static char *output_of(void (*fn)(void))
{
	size_t size = 0, allocated = 1 << 16;
	char *text = malloc(allocated);
	int pipe_fds[2], status;
	ssize_t n;
	pid_t pid;

	assert_non_null(text);
	assert_int_equal(pipe(pipe_fds), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(pipe_fds[1], STDERR_FILENO);
		fn();
		_exit(0);
	}
	close(pipe_fds[1]);
	while ((n = read(pipe_fds[0], text + size, allocated - size - 1)) > 0)
		size += (size_t)n;
	close(pipe_fds[0]);
	text[size] = '\0';
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	return text;
}

static void check_output(void (*fn)(void), const char *expected)
{
	AUTO_FREE char *text = output_of(fn);

	assert_string_equal(text, expected);
}

static void log_all_levels(void)
{
	log_set_level(LOG_LEVEL_DEBUG);
	log_error("one %d", 1);
	log_warning("two");
	log_info("three");
	log_debug("four");
}

static void name_the_stream(void)
{
	char name[64];
	struct stat st;

	fstat(STDERR_FILENO, &st);
	snprintf(name, sizeof(name), "%llu:%llu", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", name, 1);
}

static void a_line_names_program_and_level(void **state)
{
	(void)state;
	check_output(log_all_levels, "consulcfgd: error: one 1\n"
				     "consulcfgd: warning: two\n"
				     "consulcfgd: info: three\n"
				     "consulcfgd: debug: four\n");
}

static void log_to_journal(void)
{
	name_the_stream();
	log_all_levels();
}

static void the_journal_gets_priorities_instead(void **state)
{
	(void)state;
	check_output(log_to_journal, "<3>one 1\n<4>two\n<6>three\n<7>four\n");
}

static void log_elsewhere(void)
{
	setenv("JOURNAL_STREAM", "1:2", 1);
	log_info("x");
}

static void log_nowhere(void)
{
	setenv("JOURNAL_STREAM", "journal", 1);
	log_info("x");
}

static void a_redirected_error_output_is_not_the_journal(void **state)
{
	(void)state;
	check_output(log_elsewhere, "consulcfgd: info: x\n");
	check_output(log_nowhere, "consulcfgd: info: x\n");
}

static void log_quietly(void)
{
	log_debug("not by default");
	log_set_level(LOG_LEVEL_WARNING);
	log_info("not now");
	log_warning("now");
	log_set_level(LOG_LEVEL_ERROR);
	log_warning("not any more");
}

static void messages_above_the_level_are_dropped(void **state)
{
	(void)state;
	check_output(log_quietly, "consulcfgd: warning: now\n");
}

static void log_hostile(void)
{
	log_info("key a\nb \x1b[31m \xff gr\xc3\xbc\xc3\x9f");
}

static void a_message_cannot_forge_a_line(void **state)
{
	(void)state;
	check_output(
		log_hostile, "consulcfgd: info: key a\\x0ab \\x1b[31m \\xff gr\xc3\xbc\xc3\x9f\n");
}

static void log_long(void)
{
	char text[10000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_info("%s", text);
	memset(text, '\n', sizeof(text) - 1);
	log_info("%s", text);
}

static void a_long_message_is_one_line_and_says_that_it_was_cut(void **state)
{
	AUTO_FREE char *text = output_of(log_long);
	char *second = strchr(text, '\n') + 1;

	(void)state;
	assert_true(second - text <= 4096);
	assert_memory_equal(second - 5, "x...\n", 5);
	assert_true(strlen(second) <= 4096);
	assert_ptr_equal(strchr(second, '\n'), second + strlen(second) - 1);
	assert_string_equal(second + strlen(second) - 4, "...\n");
}

static void log_errno(void)
{
	errno = ENOENT;
	log_error("%m");
	if (errno != ENOENT)
		log_error("errno was changed");
}

static void errno_is_shown_and_kept(void **state)
{
	(void)state;
	check_output(log_errno, "consulcfgd: error: No such file or directory\n");
}

static void levels_have_four_names(void **state)
{
	static const char *const bad[] = { "", "warn", "Error", "debug ", "3", "none" };
	enum log_level level = LOG_LEVEL_DEBUG;

	(void)state;
	assert_int_equal(log_level_parse("error", &level), 0);
	assert_int_equal(level, LOG_LEVEL_ERROR);
	assert_int_equal(log_level_parse("warning", &level), 0);
	assert_int_equal(level, LOG_LEVEL_WARNING);
	assert_int_equal(log_level_parse("debug", &level), 0);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_parse("info", &level), 0);
	assert_int_equal(level, LOG_LEVEL_INFO);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(log_level_parse(bad[i], &level), -EINVAL);
		assert_int_equal(level, LOG_LEVEL_INFO);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_names_program_and_level),
		cmocka_unit_test(the_journal_gets_priorities_instead),
		cmocka_unit_test(a_redirected_error_output_is_not_the_journal),
		cmocka_unit_test(messages_above_the_level_are_dropped),
		cmocka_unit_test(a_message_cannot_forge_a_line),
		cmocka_unit_test(a_long_message_is_one_line_and_says_that_it_was_cut),
		cmocka_unit_test(errno_is_shown_and_kept),
		cmocka_unit_test(levels_have_four_names),
	};

	unsetenv("JOURNAL_STREAM");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
