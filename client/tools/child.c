#include "client/tools/child.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "client/lib/clock.h"
#include "proto/limits.h"

_Noreturn static void run(const struct child_plan *plan, pid_t parent, int failure)
{
	int error;

	/* Without the second look a parent that died before the first call would go unnoticed. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(125);
	if (plan->input >= 0)
		dup2(plan->input, STDIN_FILENO);
	if (plan->prepare)
		plan->prepare(plan->userdata);
	if (plan->signals)
		sigprocmask(SIG_SETMASK, plan->signals, NULL);
	execvpe(plan->argv[0], plan->argv, plan->environment ? plan->environment : environ);
	error = errno;
	if (write(failure, &error, sizeof(error)) < 0)
		_exit(125);
	_exit(127);
}

/* What the child wrote before it gave up; the pipe closes by itself when the program begins. */
static int read_failure(int fd)
{
	int error = 0;
	ssize_t n;

	do
		n = read(fd, &error, sizeof(error));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(error) ? error : 0;
}

int child_start(const struct child_plan *plan, pid_t *ret_pid)
{
	pid_t parent = getpid(), pid;
	int failure[2], r;

	/* Who ignores it is never told of the end of a child, and may have started us so. */
	signal(SIGCHLD, SIG_DFL);
	if (pipe2(failure, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		run(plan, parent, failure[1]);
	r = pid < 0 ? -errno : 0;
	close(failure[1]);
	if (r == 0)
		r = read_failure(failure[0]);
	close(failure[0]);
	if (r > 0)
		child_wait(pid);
	if (r == 0)
		*ret_pid = pid;
	return r;
}

int child_exit_code(int error)
{
	return error == ENOENT || error == ENOTDIR ? 127 : 126;
}

int child_status_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int child_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return child_status_code(status);
}

/* Those that end this process: who ignores one from the start goes on doing so. */
static void list_ends(sigset_t *ret_set)
{
	static const int ends[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
	struct sigaction action;

	sigemptyset(ret_set);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (sigaction(ends[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
			sigaddset(ret_set, ends[i]);
}

void child_hold(sigset_t *ret_signals)
{
	sigset_t held;

	list_ends(&held);
	sigaddset(&held, SIGCHLD);
	sigprocmask(SIG_BLOCK, &held, ret_signals);
}

int child_wait_held(pid_t pid)
{
	uint64_t deadline = CLOCK_FOREVER;
	int status, r, told = 0;
	sigset_t awaited;

	list_ends(&awaited);
	sigaddset(&awaited, SIGCHLD);
	while ((r = waitpid(pid, &status, WNOHANG)) == 0) {
		int left_ms = MIN(clock_left_ms(deadline), 1000);
		struct timespec left = { left_ms / 1000, left_ms % 1000 * 1000000L };
		int number = sigtimedwait(&awaited, NULL, left_ms < 0 ? NULL : &left);

		if (number > 0 && number != SIGCHLD && told == 0) {
			told = number;
			deadline = clock_after_usec(LIMIT_HOOK_GRACE_USEC);
		}
		if (left_ms == 0)
			break;
	}
	if (told != 0)
		raise(told); /* again, for child_release() */
	return r == 0 ? -EINTR : r < 0 ? -errno : child_status_code(status);
}

void child_release(const sigset_t *signals)
{
	sigprocmask(SIG_SETMASK, signals, NULL);
}

unsigned child_signal_all(int number, pid_t except)
{
	char path[64];
	unsigned n = 0;
	FILE *file;
	int pid;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (fscanf(file, "%d", &pid) == 1)
		if (pid != except) {
			kill(pid, number);
			n++;
		}
	fclose(file);
	return n;
}
