/*
 * Messages to standard error. Knows the journal's priority prefix and nothing of who logs. One
 * message is one write(2), so that lines of several processes on one pipe do not mix.
 */
#include "daemon/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "proto/key.h"

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

void log_message(enum log_level level, const char *format, ...)
{
	char text[LOG_TEXT_MAX], line[LOG_LINE_MAX];
	int saved = errno;
	size_t len;
	va_list args;
	int n;

	if (level > highest)
		return;
	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n < 0)
		n = 0;
	if ((size_t)n >= sizeof(text)) {
		n = sizeof(text) - 1;
		memcpy(text + n - 3, "...", 3);
	}
	len = (size_t)write_prefix(level, line, sizeof(line));
	key_escape(text, (size_t)n, line + len, sizeof(line) - len - 1);
	len += strlen(line + len);
	line[len++] = '\n';
	while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
		;
	errno = saved;
}
