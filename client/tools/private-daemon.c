#include "client/tools/private-daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "client/tools/child.h"
#include "client/tools/folder.h"
#include "proto/limits.h"

#define PASSED_FD 3 /* where a socket is expected that the service manager hands over */

struct launch {
	int listener;
	char listen_pid[32];
};

PRINTF_FORMAT(3, 4)
static int fail(struct private_daemon *daemon, int error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(daemon->trouble, sizeof(daemon->trouble), format, arguments);
	va_end(arguments);
	return error;
}

/* Beside this program, or where it is installed. */
static void find_program(char *buf, size_t size)
{
	static const char *const places[] = { "consulcfgd", "../sbin/consulcfgd" };
	char self[4096];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[MAX(len, 0)] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < ARRAY_SIZE(places); i++) {
		int n = snprintf(buf, size, "%.*s/%s", (int)(slash - self), self, places[i]);

		if (n > 0 && (size_t)n < size && access(buf, X_OK) == 0)
			return;
	}
	snprintf(buf, size, "consulcfgd");
}

static int make_directory(struct private_daemon *daemon)
{
	const char *places[] = { getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp" };
	static const char name[] = "/consulcfg-exec.XXXXXX";

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		/* A path that is too long for the address of a socket is none. */
		if (!places[i] || strlen(places[i]) + sizeof(name) > sizeof(daemon->directory))
			continue;
		strcat(strcpy(daemon->directory, places[i]), name);
		if (mkdtemp(daemon->directory))
			return 0;
	}
	daemon->directory[0] = '\0';
	return fail(daemon, -errno,
		"cannot make a directory in TMPDIR or /tmp: %s: name a writable one with TMPDIR",
		strerror(errno));
}

static int listen_in(struct private_daemon *daemon)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(daemon->socket, sizeof(daemon->socket), "%s/socket", daemon->directory);
	memcpy(address.sun_path, daemon->socket, strlen(daemon->socket));
	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(fd, SOMAXCONN) < 0)
		return fail(
			daemon, -errno, "cannot listen at %s: %s", daemon->socket, strerror(errno));
	return TAKE_FD(fd);
}

/* In the child: what only it knows. */
static void prepare(void *userdata)
{
	struct launch *launch = userdata;

	if (launch->listener == PASSED_FD)
		fcntl(PASSED_FD, F_SETFD, 0);
	else
		dup2(launch->listener, PASSED_FD);
	snprintf(launch->listen_pid, sizeof(launch->listen_pid), "LISTEN_PID=%d", (int)getpid());
	/* A Ctrl-C at the terminal is the command's; the daemon goes after it. */
	setpgid(0, 0);
}

/* Not the messages of this process's service manager; room for two words more. */
static char **environment(char *listen_pid)
{
	static const char *const foreign[] = { "LISTEN_", "NOTIFY_SOCKET=", "WATCHDOG_",
		"RUNTIME_DIRECTORY=", "STATE_DIRECTORY=", "FDSTORE=" };
	static char listen_fds[] = "LISTEN_FDS=1";
	size_t n = 0, kept = 0;
	char **words;

	while (environ && environ[n])
		n++;
	words = calloc(n + 3, sizeof(*words));
	for (size_t i = 0; words && i < n; i++) {
		bool is_foreign = false;

		for (size_t j = 0; j < ARRAY_SIZE(foreign); j++)
			is_foreign |= strncmp(environ[i], foreign[j], strlen(foreign[j])) == 0;
		if (!is_foreign)
			words[kept++] = environ[i];
	}
	if (words) {
		words[kept++] = listen_fds;
		words[kept] = listen_pid;
	}
	return words;
}

static int launch(struct private_daemon *daemon, const char *source, int listener)
{
	struct launch launch = { .listener = listener };
	char program[4200], state[PRIVATE_DAEMON_PATH + 8];
	char from[4096], level[] = "--log-level=warning", at[PRIVATE_DAEMON_PATH + 24];
	char runtime[PRIVATE_DAEMON_PATH + 24], kept[PRIVATE_DAEMON_PATH + 32];
	char forget[] = "--set=service *.backup=no"; /* nobody comes back to it */
	char *argv[] = { program, from, at, runtime, kept, forget, level, NULL };
	AUTO_FREE char **words = environment(launch.listen_pid);
	sigset_t none;
	const struct child_plan plan = {
		.argv = argv,
		.environment = words,
		.input = -1,
		.signals = &none,
		.prepare = prepare,
		.userdata = &launch,
	};
	int r;

	sigemptyset(&none);
	find_program(program, sizeof(program));
	snprintf(from, sizeof(from), "--source=%s", source);
	snprintf(at, sizeof(at), "--socket=%s", daemon->socket);
	snprintf(runtime, sizeof(runtime), "--runtime-directory=%s", daemon->directory);
	snprintf(state, sizeof(state), "%s/kept", daemon->directory);
	snprintf(kept, sizeof(kept), "--state-directory=%s", state);
	if (!words || mkdir(state, 0700) < 0)
		return fail(daemon, -errno, "cannot make %s: %s", state, strerror(errno));
	r = child_start(&plan, &daemon->pid);
	if (r == 0)
		return 0;
	return fail(daemon, -abs(r), "cannot start %s: %s: install it beside consulcfg", program,
		strerror(abs(r)));
}

int private_daemon_start(struct private_daemon *daemon, const char *source)
{
	AUTO_CLOSE int listener = -1;
	int r;

	*daemon = (struct private_daemon){ 0 };
	r = make_directory(daemon);
	if (r < 0)
		return r;
	listener = listen_in(daemon);
	r = listener < 0 ? listener : launch(daemon, source, listener);
	if (r < 0)
		private_daemon_stop(daemon);
	return r;
}

static void end(struct private_daemon *daemon)
{
	AUTO_CLOSE int fd = (int)syscall(SYS_pidfd_open, daemon->pid, 0);
	struct pollfd poller = { .fd = fd, .events = POLLIN };

	kill(daemon->pid, SIGTERM);
	if (fd < 0 || poll(&poller, 1, LIMIT_PRIVATE_STOP_MS) <= 0)
		kill(daemon->pid, SIGKILL);
	child_wait(daemon->pid);
	daemon->pid = 0;
}

void private_daemon_stop(struct private_daemon *daemon)
{
	AUTO_CLOSE int folder = -1;

	if (daemon->pid > 0)
		end(daemon);
	if (daemon->directory[0] != '\0')
		folder = folder_of(daemon->directory);
	/* What cannot be removed stays; there is nobody to tell. */
	if (folder >= 0)
		(void)folder_remove(folder, folder_name(daemon->directory));
	daemon->directory[0] = '\0';
}
