/*
 * Messages to standard error or the journal. Knows the journal's priority prefix, the names of our
 * fields, and nothing of who logs. One message is one write(2), so that lines of several processes
 * on one pipe do not mix.
 */
#include "daemon/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "daemon/journal.h"
#include "proto/key.h"
#include "proto/limits.h"

#define LOG_TEXT_MAX 1024 /* longer messages are cut: nobody reads on */
#define LOG_LINE_MAX 4096 /* PIPE_BUF: up to here a write to a pipe is one piece */

static const struct {
	const char *name;
	int priority; /* of syslog(3), for the journal */
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error", 3 },
	[LOG_LEVEL_WARNING] = { "warning", 4 },
	[LOG_LEVEL_INFO] = { "info", 6 },
	[LOG_LEVEL_DEBUG] = { "debug", 7 },
};

static enum log_level highest = LOG_LEVEL_INFO;

/* JOURNAL_STREAM names the stream the manager made; it may since have been redirected. */
static bool is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	if (!stream || sscanf(stream, "%llu:%llu", &dev, &ino) != 2)
		return false;
	return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

static int write_prefix(enum log_level level, char *buf, size_t size)
{
	static enum { UNKNOWN, JOURNAL, PLAIN } target;

	if (target == UNKNOWN)
		target = is_journal() ? JOURNAL : PLAIN;
	if (target == JOURNAL)
		return snprintf(buf, size, "<%d>", levels[level].priority);
	return snprintf(buf, size, "consulcfgd: %s: ", levels[level].name);
}

void log_set_level(enum log_level level)
{
	highest = level;
}

int log_level_parse(const char *text, enum log_level *ret_level)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		if (std_streq(text, levels[i].name)) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	return -EINVAL;
}

bool log_is_wanted(enum log_level level)
{
	return level <= highest;
}

bool log_pace_take(struct log_pace *pace, uint64_t now)
{
	uint64_t n = (now - pace->at) / LIMIT_STATE_LINE_USEC;

	if (n > 0) {
		pace->n_said -= (unsigned)MIN(n, pace->n_said);
		pace->at = now;
	}
	if (pace->n_said >= LIMIT_STATE_LINES) {
		pace->n_unsaid++;
		return false;
	}
	pace->n_said++;
	return true;
}

void log_open_journal(const char *socket_path)
{
	if (is_journal())
		(void)journal_open(socket_path); /* else there is still standard error */
}

void log_close_journal(void)
{
	journal_close();
}

static void put_text(struct journal_message *message, const char *name, const char *text)
{
	if (text)
		journal_put(message, name, text, strlen(text));
}

static void put_number(struct journal_message *message, const char *name, uint64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
	if (number != 0)
		put_text(message, name, text);
}

static void put_about(struct journal_message *message, const struct log_about *about)
{
	put_text(message, "MESSAGE_ID", about->id);
	put_text(message, "CONSULCFG_SERVICE", about->service);
	put_text(message, "CONSULCFG_PREFIX", about->prefix);
	put_text(message, "CONSULCFG_STATE", about->state);
	put_text(message, "CONSULCFG_STATE_BEFORE", about->state_before);
	put_text(message, "CONSULCFG_ERROR", about->error);
	put_text(message, "CONSULCFG_BY", about->by);
	put_number(message, "CONSULCFG_GENERATION", about->generation);
	put_number(message, "CONSULCFG_INDEX", about->index);
	if (about->key_len > 0)
		journal_put(message, "CONSULCFG_KEY", about->key, about->key_len);
}

/* False: standard error is to have it. */
static bool send_to_journal(
	enum log_level level, const struct log_about *about, const char *text, size_t len)
{
	static struct journal_message message; /* one thread logs */

	if (!journal_is_open())
		return false;
	message.len = 0;
	journal_put(&message, "MESSAGE", text, len);
	put_text(&message, "SYSLOG_IDENTIFIER", "consulcfgd");
	put_number(&message, "PRIORITY", (uint64_t)levels[level].priority);
	if (about)
		put_about(&message, about);
	return journal_send(&message) == 0;
}

/* Where standard error is the journal's, which hangs: that line is lost, the loop goes on. */
static void write_line(const char *line, size_t len)
{
	if (journal_is_open() &&
		(send(STDERR_FILENO, line, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ||
			errno == EAGAIN))
		return;
	while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
		;
}

PRINTF_FORMAT(3, 0)
static void say(
	enum log_level level, const struct log_about *about, const char *format, va_list args)
{
	char text[LOG_TEXT_MAX], line[LOG_LINE_MAX];
	int n = vsnprintf(text, sizeof(text), format, args);
	size_t prefix_len, len;

	if (n < 0)
		n = 0;
	if ((size_t)n >= sizeof(text)) {
		n = sizeof(text) - 1;
		memcpy(text + n - 3, "...", 3);
	}
	len = prefix_len = (size_t)write_prefix(level, line, sizeof(line));
	key_escape(text, (size_t)n, line + len, sizeof(line) - len - 1);
	len += strlen(line + len);
	if (send_to_journal(level, about, line + prefix_len, len - prefix_len))
		return;
	line[len++] = '\n';
	write_line(line, len);
}

void log_event(enum log_level level, const struct log_about *about, const char *format, ...)
{
	int saved = errno;
	va_list args;

	if (level > highest)
		return;
	va_start(args, format);
	say(level, about, format, args);
	va_end(args);
	errno = saved;
}
