/* A socket stands in for the journal's. */
#include "test.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "daemon/journal.h"
#include "daemon/log.h"
#include "proto/le.h"
#include "proto/limits.h"

struct stand_in {
	char directory[32];
	char path[64];
	int fd;
	uint8_t bytes[JOURNAL_MESSAGE_MAX];
	size_t len;
};

static void start(struct stand_in *journal)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(journal->directory, "/tmp/cfgd-journal.XXXXXX");
	assert_non_null(mkdtemp(journal->directory));
	snprintf(journal->path, sizeof(journal->path), "%s/socket", journal->directory);
	strcpy(address.sun_path, journal->path);
	journal->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(journal->fd, (const struct sockaddr *)&address, sizeof(address)), 0);
}

static void stop(struct stand_in *journal)
{
	close(journal->fd);
	unlink(journal->path);
	rmdir(journal->directory);
}

/* Runs fn in a child whose standard error is the journal's stream: a file. What fell into it. */
static char *stream_of(const struct stand_in *journal, void (*fn)(void))
{
	char path[80], name[64], *text = calloc(1, 1 << 16);
	struct stat st;
	int fd, status;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/stream", journal->directory);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(fstat(fd, &st), 0);
	snprintf(name, sizeof(name), "%llu:%llu", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		dup2(fd, STDERR_FILENO);
		setenv("JOURNAL_STREAM", name, 1);
		log_open_journal(journal->path);
		fn();
		log_close_journal();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(pread(fd, text, (1 << 16) - 1, 0) >= 0);
	close(fd);
	unlink(path);
	return text;
}

/* The next message; false: there is none. */
static bool next(struct stand_in *journal)
{
	ssize_t n = recv(journal->fd, journal->bytes, sizeof(journal->bytes), 0);

	journal->len = n > 0 ? (size_t)n : 0;
	return n > 0;
}

/* The value of a field of the message, as a reader takes it apart; NULL: it is not there, and
 * not twice. To be freed. */
static char *field(const struct stand_in *journal, const char *wanted, unsigned *ret_n_fields)
{
	const uint8_t *at = journal->bytes, *end = at + journal->len;
	char *found = NULL;

	*ret_n_fields = 0;
	while (at < end) {
		const uint8_t *line = memchr(at, '\n', (size_t)(end - at));
		le64 length;
		size_t len;

		assert_non_null(line);
		assert_null(memchr(at, '=', (size_t)(line - at)));
		memcpy(&length, line + 1, sizeof(length));
		len = le64_get(length);
		assert_true(line + 9 + len < end);
		assert_int_equal(line[9 + len], '\n');
		if ((size_t)(line - at) == strlen(wanted) &&
			memcmp(at, wanted, strlen(wanted)) == 0) {
			assert_null(found);
			found = strndup((const char *)line + 9, len);
		}
		at = line + 9 + len + 1;
		++*ret_n_fields;
	}
	return found;
}

static void check(const struct stand_in *journal, const char *name, const char *expected)
{
	unsigned n;
	AUTO_FREE char *value = field(journal, name, &n);

	if (expected)
		assert_string_equal(value, expected);
	else
		assert_null(value);
}

static void log_one(void)
{
	log_event(LOG_LEVEL_WARNING,
		ABOUT(LOG_SERVICE_FROZEN, .service = "billing", .state = "frozen",
			.state_before = "live", .by = "uid 0", .generation = 7, .index = 42),
		"billing: frozen by %s", "uid 0");
	log_info("plain");
}

static void a_message_has_its_id_and_what_it_is_about(void **state)
{
	struct stand_in journal;
	AUTO_FREE char *text = NULL;

	(void)state;
	start(&journal);
	text = stream_of(&journal, log_one);
	assert_string_equal(text, "");
	assert_true(next(&journal));
	check(&journal, "MESSAGE", "billing: frozen by uid 0");
	check(&journal, "MESSAGE_ID", LOG_SERVICE_FROZEN);
	check(&journal, "PRIORITY", "4");
	check(&journal, "SYSLOG_IDENTIFIER", "consulcfgd");
	check(&journal, "CONSULCFG_SERVICE", "billing");
	check(&journal, "CONSULCFG_STATE", "frozen");
	check(&journal, "CONSULCFG_STATE_BEFORE", "live");
	check(&journal, "CONSULCFG_BY", "uid 0");
	check(&journal, "CONSULCFG_GENERATION", "7");
	check(&journal, "CONSULCFG_INDEX", "42");
	check(&journal, "CONSULCFG_PREFIX", NULL);
	check(&journal, "CONSULCFG_KEY", NULL);
	assert_true(next(&journal));
	check(&journal, "MESSAGE", "plain");
	check(&journal, "MESSAGE_ID", NULL);
	assert_false(next(&journal));
	stop(&journal);
}

#define EVIL "a\nMESSAGE_ID=1\nPRIORITY=0\nb=c"

static void log_evil(void)
{
	log_event(LOG_LEVEL_INFO,
		ABOUT(LOG_SERVICE_LIVE, .service = EVIL, .prefix = "x=y\n", .key = EVIL,
			.key_len = strlen(EVIL)),
		"%s: live", EVIL);
}

static void names_made_to_break_it_are_values_and_nothing_else(void **state)
{
	struct stand_in journal;
	AUTO_FREE char *text = NULL, *service = NULL;
	unsigned n;

	(void)state;
	start(&journal);
	text = stream_of(&journal, log_evil);
	assert_true(next(&journal));
	service = field(&journal, "CONSULCFG_SERVICE", &n);
	assert_string_equal(service, EVIL);
	assert_int_equal(n, 7);
	check(&journal, "MESSAGE", "a\\x0aMESSAGE_ID=1\\x0aPRIORITY=0\\x0ab=c: live");
	check(&journal, "MESSAGE_ID", LOG_SERVICE_LIVE);
	check(&journal, "PRIORITY", "6");
	check(&journal, "CONSULCFG_PREFIX", "x=y\n");
	check(&journal, "CONSULCFG_KEY", EVIL);
	assert_false(next(&journal));
	stop(&journal);
}

static void log_large(void)
{
	static char key[JOURNAL_MESSAGE_MAX];

	memset(key, 'k', sizeof(key) - 1);
	log_event(LOG_LEVEL_INFO,
		ABOUT(LOG_SERVICE_OVERRIDE, .by = "uid 1", .key = key, .key_len = sizeof(key) - 1),
		"an override");
}

static void a_field_that_does_not_fit_is_left_out(void **state)
{
	struct stand_in journal;
	AUTO_FREE char *text = NULL;

	(void)state;
	start(&journal);
	text = stream_of(&journal, log_large);
	assert_true(next(&journal));
	check(&journal, "MESSAGE_ID", LOG_SERVICE_OVERRIDE);
	check(&journal, "CONSULCFG_BY", "uid 1");
	check(&journal, "CONSULCFG_KEY", NULL);
	stop(&journal);
}

static void a_journal_that_is_gone_leaves_the_lines_on_standard_error(void **state)
{
	struct stand_in journal;
	AUTO_FREE char *text = NULL;

	(void)state;
	start(&journal);
	unlink(journal.path);
	text = stream_of(&journal, log_one);
	assert_string_equal(text, "<4>billing: frozen by uid 0\n<6>plain\n");
	stop(&journal);
}

static void log_many(void)
{
	for (unsigned i = 0; i < 2000; i++)
		log_info("line %u", i);
}

static void a_journal_that_does_not_read_stops_nobody(void **state)
{
	struct stand_in journal;
	AUTO_FREE char *text = NULL;
	unsigned n_sent = 0, n_lines = 0;

	(void)state;
	start(&journal);
	text = stream_of(&journal, log_many);
	while (next(&journal))
		n_sent++;
	for (const char *at = text; (at = strchr(at, '\n')); at++)
		n_lines++;
	assert_true(n_sent > 0);
	assert_true(n_lines > 0);
	assert_int_equal(n_sent + n_lines, 2000);
	stop(&journal);
}

static uint64_t now_usec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_USEC;
}

#define N_READ 50

static void a_journal_that_reads_slowly_is_waited_for_once(void **state)
{
	struct journal_message message = { 0 };
	struct stand_in journal;
	uint64_t start_usec;

	(void)state;
	start(&journal);
	assert_int_equal(journal_open(journal.path), 0);
	journal_put(&message, "MESSAGE", "x", 1);
	while (journal_send(&message) == 0)
		;
	start_usec = now_usec();
	for (unsigned i = 0; i < N_READ; i++) {
		assert_true(next(&journal));
		assert_int_equal(journal_send(&message), 0);
		assert_int_equal(journal_send(&message), -EAGAIN);
	}
	/* Each wait would be LIMIT_JOURNAL_USEC. */
	assert_true(now_usec() - start_usec < (uint64_t)N_READ * LIMIT_JOURNAL_USEC / 2);
	journal_close();
	stop(&journal);
}

static void lines_that_can_be_caused_come_in_a_burst_and_then_one_by_one(void **state)
{
	struct log_pace pace = { 0 };
	uint64_t now = 1000 * USEC_PER_SEC;
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < 10 * LIMIT_STATE_LINES; i++)
		n += log_pace_take(&pace, now);
	assert_int_equal(n, LIMIT_STATE_LINES);
	assert_int_equal(pace.n_unsaid, 9 * LIMIT_STATE_LINES);
	assert_false(log_pace_take(&pace, now + LIMIT_STATE_LINE_USEC - 1));
	assert_true(log_pace_take(&pace, now + LIMIT_STATE_LINE_USEC));
	assert_false(log_pace_take(&pace, now + LIMIT_STATE_LINE_USEC));
	assert_true(log_pace_take(&pace, now + 3 * LIMIT_STATE_LINE_USEC));
	assert_true(log_pace_take(&pace, now + 3 * LIMIT_STATE_LINE_USEC));
	assert_false(log_pace_take(&pace, now + 3 * LIMIT_STATE_LINE_USEC));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_has_its_id_and_what_it_is_about),
		cmocka_unit_test(names_made_to_break_it_are_values_and_nothing_else),
		cmocka_unit_test(a_field_that_does_not_fit_is_left_out),
		cmocka_unit_test(a_journal_that_is_gone_leaves_the_lines_on_standard_error),
		cmocka_unit_test(a_journal_that_does_not_read_stops_nobody),
		cmocka_unit_test(a_journal_that_reads_slowly_is_waited_for_once),
		cmocka_unit_test(lines_that_can_be_caused_come_in_a_burst_and_then_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
