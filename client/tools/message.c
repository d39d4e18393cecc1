#include "client/tools/message.h"

#include <stdarg.h>
#include <stdio.h>

#include "client/lib/link.h"

#define LINE_MAX_LEN 1024

PRINTF_FORMAT(2, 0)
static void write_line(const char *name, const char *format, va_list arguments)
{
	char line[LINE_MAX_LEN];
	int n, more;

	n = snprintf(line, sizeof(line) - 1, "%s: ", name);
	n = MIN(n, (int)sizeof(line) - 2);
	more = vsnprintf(line + n, sizeof(line) - 1 - (size_t)n, format, arguments);
	n = MIN(n + MAX(more, 0), (int)sizeof(line) - 2);
	line[n++] = '\n';
	/* In one piece: lines of several processes on one terminal stay whole. */
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return;
}

int message_fail(const char *name, enum exit_code exit_code, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(name, format, arguments);
	va_end(arguments);
	return exit_code;
}

static int say_no_data(const char *name, const struct trouble *t)
{
	char time[32];

	if (t->words && t->words[0] != '\0')
		return message_fail(name, EXIT_AWAY, "%s: see consulcfg-status%s%s", t->words,
			t->service ? " " : "", t->service ? t->service : "");
	if (t->timeout_usec == 0)
		return message_fail(name, EXIT_AWAY, "no data for %s yet: see consulcfg-status %s",
			t->service, t->service);
	return message_fail(name, EXIT_AWAY, "no data for %s within %s: see consulcfg-status %s",
		t->service, message_duration(t->timeout_usec, time, sizeof(time)), t->service);
}

static int say_denied(const char *name, const struct trouble *t)
{
	if (!t->words)
		return message_fail(name, EXIT_DENIED,
			"not allowed to connect to %s: see mode= and group= in the section "
			"[socket] of consulcfgd.conf",
			t->socket_path);
	if (t->words[0] != '\0')
		return message_fail(name, EXIT_DENIED, "access denied: %s", t->words);
	return message_fail(name, EXIT_DENIED,
		"access to service %s denied: run as root, as user %s, or in group %s or consulcfg",
		t->service, t->service, t->service);
}

static int say_limit(const char *name, const struct trouble *t)
{
	if (t->words && t->words[0] != '\0')
		return message_fail(name, EXIT_OTHER, "the daemon is at a limit: %s", t->words);
	return message_fail(name, EXIT_OTHER,
		"the daemon is at a limit of services or connections: "
		"see journalctl -u consulcfgd");
}

static int say_no_daemon(const char *name, const struct trouble *t)
{
	if (std_streq(t->socket_path, LINK_DEFAULT_PATH))
		return message_fail(name, EXIT_AWAY,
			"no daemon at %s: give its --socket if it is another, or start it with: "
			"systemctl start consulcfgd",
			t->socket_path);
	return message_fail(name, EXIT_AWAY,
		"no daemon at %s: start it, or give with --socket or CONSULCFG_SOCKET the path "
		"that it logs when it starts",
		t->socket_path);
}

int message_trouble(const char *name, const struct trouble *t)
{
	switch (t->error) {
	case -ENOENT:
	case -ENOTDIR:
	case -ECONNREFUSED:
		return say_no_daemon(name, t);
	case -EAGAIN:
	case -EHOSTDOWN:
		return message_fail(name, EXIT_AWAY,
			"the daemon at %s does not answer: see systemctl status consulcfgd",
			t->socket_path);
	case -ECONNRESET:
		return message_fail(name, EXIT_AWAY,
			"the daemon at %s closed the connection: see journalctl -u consulcfgd",
			t->socket_path);
	case -ETIMEDOUT:
	case -ENODATA:
		return say_no_data(name, t);
	case -EACCES:
	case -EPERM:
		return say_denied(name, t);
	case -ENOBUFS:
		return say_limit(name, t);
	case -ENAMETOOLONG:
		return message_fail(name, EXIT_USAGE,
			"the path of the socket is too long: give one of at most 107 bytes");
	case -ESTALE:
		return message_fail(name, EXIT_OTHER,
			"service %s changes faster than it can be read: try again", t->service);
	case -EPROTONOSUPPORT:
		return message_fail(name, EXIT_OTHER,
			"the daemon at %s speaks another version of the protocol: "
			"upgrade the older of the two",
			t->socket_path);
	case -EBADMSG:
	case -EPROTOTYPE:
		return message_fail(name, EXIT_OTHER,
			"what answers at %s is not consulcfgd: check --socket and CONSULCFG_SOCKET",
			t->socket_path);
	}
	return message_fail(name, EXIT_OTHER, "%s: see journalctl -u consulcfgd",
		t->words && t->words[0] != '\0' ? t->words : strerror(-t->error));
}

int message_written(const char *name, int error)
{
	if (error == 0)
		return EXIT_DONE;
	return message_fail(
		name, EXIT_OTHER, "cannot write to standard output: %s", strerror(-error));
}

char *message_duration(uint64_t usec, char *buf, size_t size)
{
	static const struct {
		uint64_t from_sec; /* with two digits at least where that is possible */
		uint64_t unit_sec;
		const char *name;
	} units[] = {
		{ UINT64_C(3) * 86400, 86400, "d" },
		{ UINT64_C(2) * 3600, 3600, "h" },
		{ UINT64_C(2) * 60, 60, "min" },
		{ 1, 1, "s" },
	};
	uint64_t sec = usec / USEC_PER_SEC;

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (sec < units[i].from_sec)
			continue;
		snprintf(buf, size, "%llu %s", (unsigned long long)(sec / units[i].unit_sec),
			units[i].name);
		return buf;
	}
	snprintf(buf, size, "%llu ms", (unsigned long long)(usec / USEC_PER_MSEC));
	return buf;
}
