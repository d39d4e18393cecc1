/*
 * The service manager through libsystemd. Knows nothing of what is served. A message that cannot be
 * sent is lost on purpose: the daemon works the same without a manager.
 */
#include "daemon/manager.h"

#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include <systemd/sd-daemon.h>

#define STATUS_MAX 256

/* One line: a newline would start another assignment. */
static void notify_status(const char *assignments, const char *status)
{
	char text[STATUS_MAX];

	snprintf(text, sizeof(text), "%.*s", (int)strcspn(status, "\n"), status);
	sd_notifyf(0, "%sSTATUS=%s", assignments, text);
}

int manager_listen_fds(char ***ret_names)
{
	return sd_listen_fds_with_names(1, ret_names);
}

bool manager_is_listening_unix(int fd)
{
	return sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) > 0;
}

void manager_ready(const char *status)
{
	notify_status("READY=1\n", status);
}

void manager_reloading(void)
{
	struct timespec now;

	/* The time is for Type=notify-reload, which needs it to match the answer to its signal. */
	clock_gettime(CLOCK_MONOTONIC, &now);
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
		(unsigned long long)now.tv_sec * USEC_PER_SEC +
			(unsigned long long)now.tv_nsec / NSEC_PER_USEC);
}

void manager_stopping(void)
{
	sd_notify(0, "STOPPING=1");
}

uint64_t manager_watchdog_usec(void)
{
	uint64_t usec;

	return sd_watchdog_enabled(0, &usec) > 0 ? usec : 0;
}

void manager_watchdog(void)
{
	sd_notify(0, "WATCHDOG=1");
}
