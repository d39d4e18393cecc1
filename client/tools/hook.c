#include "client/tools/hook.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "client/lib/link.h"
#include "client/tools/child.h"
#include "client/tools/message.h"

static int check_file(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return errno;
	if (!S_ISREG(st.st_mode))
		return EACCES;
	return access(path, X_OK) < 0 ? errno : 0;
}

int hook_check(const struct hook *hook)
{
	const char *program = hook->argv[0], *path = getenv("PATH");
	int worst = ENOENT;
	char file[4096];

	if (strchr(program, '/'))
		return check_file(program);
	for (path = path ? path : "/bin:/usr/bin"; *path != '\0'; path += *path == ':') {
		size_t len = strcspn(path, ":");
		int n = snprintf(file, sizeof(file), "%.*s%s%s", (int)len, path, len > 0 ? "/" : "",
			program);
		int error = n > 0 && (size_t)n < sizeof(file) ? check_file(file) : ENAMETOOLONG;

		if (error == 0)
			return 0;
		if (error == EACCES)
			worst = error;
		path += len;
	}
	return worst;
}

/* A file without a name: the command reads as much of it as it likes, when it likes. */
static int make_input(const char *input, size_t len)
{
	AUTO_CLOSE int fd = -1;

	if (!input)
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	fd = memfd_create("consulcfg-changes", MFD_CLOEXEC);
	while (fd >= 0 && len > 0) {
		ssize_t n = write(fd, input, len);

		if (n < 0)
			return -1;
		input += n;
		len -= (size_t)n;
	}
	if (fd >= 0 && lseek(fd, 0, SEEK_SET) < 0)
		return -1;
	return TAKE_FD(fd);
}

struct launch {
	const struct hook *hook;
	const struct hook_variable *variables;
};

/* In the child, whose environment is nobody else's. */
static void prepare(void *userdata)
{
	const struct launch *launch = userdata;

	if (launch->hook->socket_path)
		setenv(LINK_ENVIRONMENT, launch->hook->socket_path, 1);
	for (const struct hook_variable *v = launch->variables; v->name; v++)
		setenv(v->name, v->value, 1);
}

static int wait_command(const struct hook *hook, pid_t pid)
{
	int r = child_wait_held(pid);

	if (r > 0)
		message_fail(
			hook->name, EXIT_DONE, "%.200s failed: exit code %d", hook->argv[0], r);
	else if (r == -EINTR)
		message_fail(hook->name, EXIT_DONE,
			"was told to end, and %.200s has not ended in time: it gets a SIGTERM",
			hook->argv[0]);
	else if (r < 0)
		message_fail(hook->name, EXIT_DONE, "cannot wait for %.200s: %s", hook->argv[0],
			strerror(-r));
	return r;
}

int hook_run(const struct hook *hook, const struct hook_variable *variables, const char *input,
	size_t input_len, sigset_t *ret_signals)
{
	struct launch launch = { hook, variables };
	AUTO_CLOSE int fd = make_input(input, input_len);
	sigset_t signals;
	const struct child_plan plan = {
		.argv = hook->argv,
		.input = fd,
		.signals = &signals,
		.prepare = prepare,
		.userdata = &launch,
	};
	pid_t pid = -1;
	int r = fd < 0 ? -errno : 0;

	child_hold(&signals);
	if (r == 0)
		r = child_start(&plan, &pid);
	if (r != 0)
		r = message_fail(hook->name, r > 0 ? child_exit_code(r) : EXIT_OTHER,
			"cannot run %.200s: %s: give a program that exists and may be executed",
			hook->argv[0], strerror(abs(r)));
	else
		r = wait_command(hook, pid);
	if (ret_signals)
		*ret_signals = signals;
	else
		child_release(&signals);
	return r;
}
