#include "client/tools/runner.h"

#include <poll.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "client/lib/clock.h"
#include "client/tools/child.h"
#include "client/tools/message.h"
#include "proto/limits.h"

#define EXIT_OWN_FAILURE 125

/* Who starts this process in the background of a script, or with nohup(1), has some ignored: they
 * are not meant, neither for it nor for the command, which ignores them as well. */
static bool is_ignored(int number)
{
	struct sigaction action;

	return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* Signals that are the command's. Not those of faults, timers and job control: the terminal sends
 * the last to the command by itself, and this process stops and goes on beside it. */
static void list_signals(sigset_t *set)
{
	static const int own[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
		SIGALRM, SIGPWR, SIGURG, SIGIO };

	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		if (!is_ignored(own[i]))
			sigaddset(set, own[i]);
	for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
		if (!is_ignored(number))
			sigaddset(set, number);
}

static bool asks_for_end(int number)
{
	return number == SIGTERM || number == SIGINT || number == SIGQUIT || number == SIGHUP;
}

int runner_init(struct runner *runner, const struct runner_plan *plan)
{
	sigset_t signals;

	*runner = (struct runner){
		.plan = *plan,
		.signal_fd = -1,
		.running = { .keys = plan->keys, .prefix = plan->prefix },
		.wanted = { .keys = plan->keys, .prefix = plan->prefix },
	};
	list_signals(&signals);
	if (sigprocmask(SIG_BLOCK, &signals, &runner->old_signals) < 0)
		return -errno;
	runner->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (runner->signal_fd < 0)
		return -errno;
	/* Whatever the command leaves behind becomes ours, however it let go of it. */
	return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? -errno : 0;
}

static int own_failure(const struct runner *runner, const char *what, int error)
{
	return message_fail(
		runner->plan.name, EXIT_OWN_FAILURE, "%s: %s", what, strerror(abs(error)));
}

/* --- what came -------------------------------------------------------------------------------- */

static void reap(struct runner *runner)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == runner->pid) {
			runner->pid = 0;
			runner->status = status;
		} else if (pid == runner->bystander) {
			runner->bystander = 0;
			runner->has_lost_bystander = true;
		}
	}
}

static void take_signal(struct runner *runner, const struct signalfd_siginfo *info)
{
	int number = (int)info->ssi_signo;

	if (number == SIGCHLD) {
		reap(runner);
		return;
	}
	if (asks_for_end(number)) {
		/* A command that reloads on SIGHUP is not being ended by it. */
		runner->is_ending |= number != SIGHUP || runner->pid == 0;
		if (runner->pid == 0)
			runner->ended_by = number;
	}
	/* The terminal has sent its own to the command, too. */
	if (runner->pid > 0 && info->ssi_code != SI_KERNEL)
		kill(runner->pid, number);
}

static void take_signals(struct runner *runner)
{
	struct signalfd_siginfo info;

	while (read(runner->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		take_signal(runner, &info);
}

static int timeout_ms(uint64_t first, uint64_t second)
{
	uint64_t deadline =
		MIN(first == 0 ? CLOCK_FOREVER : first, second == 0 ? CLOCK_FOREVER : second);

	return clock_left_ms(deadline);
}

/* Waits for signals, the handle and the two times (0: none). */
static void wait_events(struct runner *runner, ccfg *cfg, uint64_t first, uint64_t second)
{
	struct pollfd fds[] = {
		{ .fd = runner->signal_fd, .events = POLLIN },
		{ .fd = cfg ? ccfg_fd(cfg) : -1, .events = POLLIN },
	};

	if (poll(fds, ARRAY_SIZE(fds), timeout_ms(first, second)) <= 0)
		return;
	if (fds[0].revents != 0)
		take_signals(runner);
	if (fds[1].revents != 0)
		ccfg_dispatch(cfg);
}

int runner_wait_data(struct runner *runner, ccfg *cfg, uint64_t deadline)
{
	for (;;) {
		const ccfg_view *view = ccfg_pin(cfg);
		bool has_data = ccfg_view_generation(view) != 0;

		ccfg_unpin(view);
		if (has_data)
			return 0;
		if (runner->ended_by != 0)
			return -EINTR;
		if (runner->has_lost_bystander)
			return -ECHILD;
		if (clock_now_usec() >= deadline)
			return -ETIMEDOUT;
		wait_events(runner, cfg, deadline, 0);
	}
}

/* --- the command ------------------------------------------------------------------------------ */

static int start(struct runner *runner)
{
	const struct child_plan plan = {
		.argv = runner->plan.argv,
		.environment = runner->running.words,
		.input = -1,
		.signals = &runner->old_signals,
	};
	const char *program = runner->plan.argv[0];
	int r;

	if (runner->running.trouble[0] != '\0')
		message_fail(runner->plan.name, EXIT_DONE, "%s", runner->running.trouble);
	r = child_start(&plan, &runner->pid);
	runner->acted_at = clock_now_usec();
	if (r < 0)
		return own_failure(runner, "cannot start a process", r);
	if (r == E2BIG)
		return message_fail(runner->plan.name, child_exit_code(r),
			"%.200s: the environment is too large: choose keys with --keys", program);
	if (r > 0)
		return message_fail(runner->plan.name, child_exit_code(r),
			"cannot execute %.200s: %s: give a program that exists and may be executed",
			program, strerror(r));
	return 0;
}

/* From 0 to the splay. */
static uint64_t choose_delay(const struct runner *runner)
{
	uint64_t random = 0;

	if (runner->plan.splay_usec == 0 ||
		getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		return 0;
	return random % runner->plan.splay_usec;
}

static void schedule(struct runner *runner)
{
	const char *what = runner->plan.action == RUNNER_RESTART ? "restart" : "signal";
	uint64_t now = clock_now_usec();
	char in[32];

	runner->act_at =
		MAX(now + choose_delay(runner), runner->acted_at + runner->plan.interval_usec);
	if (runner->act_at > now + USEC_PER_SEC)
		message_fail(runner->plan.name, EXIT_DONE,
			"the configuration has changed: %s in %s", what,
			message_duration(runner->act_at - now, in, sizeof(in)));
}

/* Looks whether the newest generation makes other variables than the command has. */
static void look(struct runner *runner, ccfg *cfg)
{
	const ccfg_view *view = ccfg_pin(cfg);
	int r = 0;

	if (ccfg_view_generation(view) != runner->generation) {
		runner->generation = ccfg_view_generation(view);
		r = variables_fill(&runner->wanted, view);
		if (r < 0) {
			message_fail(runner->plan.name, EXIT_DONE, "%s; the command stays as it is",
				r == -EEXIST ? runner->wanted.trouble : strerror(-r));
			variables_done(&runner->wanted);
		}
		if (r < 0 || variables_are_equal(&runner->wanted, &runner->running))
			runner->act_at = 0; /* taken back */
		else if (runner->act_at == 0)
			schedule(runner);
	}
	ccfg_unpin(view);
}

/* What was wanted is what the command has now, or knows of. */
static void adopt(struct runner *runner)
{
	struct variables old = runner->running;

	runner->running = runner->wanted;
	runner->wanted = old;
	runner->act_at = 0;
}

static void act(struct runner *runner)
{
	if (runner->plan.action == RUNNER_SIGNAL) {
		kill(runner->pid, runner->plan.signal);
		runner->acted_at = clock_now_usec();
		adopt(runner);
		return;
	}
	runner->act_at = 0;
	runner->is_stopping = true;
	runner->kill_at = clock_after_usec(runner->plan.stop_usec);
	kill(runner->pid, SIGTERM);
}

static void say_left_behind(struct runner *runner, unsigned n)
{
	if (runner->kill_at == 0)
		runner->kill_at = clock_after_usec(runner->plan.stop_usec);
	if (!runner->is_draining)
		message_fail(runner->plan.name, EXIT_DONE,
			"the command has left %u process%s behind: ending %s; a command stays in "
			"the foreground here",
			n, n == 1 ? "" : "es", n == 1 ? "it" : "them");
	runner->is_draining = true;
}

/* The command's own process is gone: now what it has left behind. */
static void drain(struct runner *runner)
{
	for (;;) {
		uint64_t now = clock_now_usec();
		bool is_late = runner->kill_at != 0 && now >= runner->kill_at;
		unsigned n = child_signal_all(is_late ? SIGKILL : SIGTERM, runner->bystander);

		if (n == 0)
			return;
		say_left_behind(runner, n);
		wait_events(
			runner, NULL, is_late ? now + LIMIT_KILLED_LOOK_USEC : runner->kill_at, 0);
	}
}
static int end_as_command(struct runner *runner)
{
	if (runner->ended_by == 0 && WIFSIGNALED(runner->status))
		runner->ended_by = WTERMSIG(runner->status);
	return child_status_code(runner->status);
}

static void say_daemon_lost(struct runner *runner)
{
	runner->has_lost_bystander = false;
	message_fail(runner->plan.name, EXIT_DONE,
		"the private daemon has ended: the configuration stays as it is; restart this "
		"command");
}

/* While the command runs. */
static void turn_running(struct runner *runner, ccfg *cfg)
{
	bool follows = runner->plan.action != RUNNER_IGNORE && !runner->is_stopping;

	/* Once killed it is only waited for. */
	if (runner->has_lost_bystander)
		say_daemon_lost(runner);
	wait_events(runner, follows ? cfg : NULL, runner->act_at,
		runner->is_stopping ? runner->kill_at : 0);
	if (runner->pid == 0)
		return;
	if (runner->is_stopping) {
		if (runner->kill_at != 0 && clock_now_usec() >= runner->kill_at) {
			kill(runner->pid, SIGKILL);
			runner->kill_at = 0;
		}
		return;
	}
	if (follows)
		look(runner, cfg);
	if (runner->is_ending)
		runner->act_at = 0;
	if (runner->act_at != 0 && clock_now_usec() >= runner->act_at)
		act(runner);
}

/* The newest that there is: it may have changed while the old command was ending. */
static int restart(struct runner *runner, ccfg *cfg)
{
	ccfg_dispatch(cfg);
	look(runner, cfg);
	if (runner->wanted.words)
		adopt(runner);
	runner->act_at = 0;
	runner->is_stopping = false;
	runner->is_draining = false;
	runner->kill_at = 0;
	return start(runner);
}

static int loop(struct runner *runner, ccfg *cfg)
{
	for (;;) {
		int r;

		while (runner->pid > 0)
			turn_running(runner, cfg);
		drain(runner);
		if (!runner->is_stopping || runner->is_ending)
			return end_as_command(runner);
		r = restart(runner, cfg);
		if (r != 0)
			return r;
	}
}

int runner_run(struct runner *runner, ccfg *cfg)
{
	const ccfg_view *view = ccfg_pin(cfg);
	int r;

	runner->generation = ccfg_view_generation(view);
	r = variables_fill(&runner->running, view);
	ccfg_unpin(view);
	if (r < 0)
		return r == -EEXIST ? message_fail(runner->plan.name, EXIT_OWN_FAILURE, "%s",
					      runner->running.trouble)
				    : own_failure(runner, "cannot make the environment", r);
	r = start(runner);
	return r != 0 ? r : loop(runner, cfg);
}

/* Ends this process by a signal; the exit code where that does not work. */
static int end_by(int number)
{
	const struct rlimit no_core = { 0, 0 };
	sigset_t signals;

	/* The command has left a core file where it should; this program is not to blame. */
	setrlimit(RLIMIT_CORE, &no_core);
	signal(number, SIG_DFL);
	sigemptyset(&signals);
	sigaddset(&signals, number);
	sigprocmask(SIG_UNBLOCK, &signals, NULL);
	raise(number);
	/* The first process of a container is not killed by its own signals. */
	return 128 + number;
}

int runner_done(struct runner *runner, int exit_code)
{
	std_closep(&runner->signal_fd);
	runner->signal_fd = -1;
	variables_done(&runner->running);
	variables_done(&runner->wanted);
	return runner->ended_by != 0 ? end_by(runner->ended_by) : exit_code;
}
