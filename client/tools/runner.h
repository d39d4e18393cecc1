/*
 * Keeps one command running beside a configuration that changes: starts it, stops and starts it
 * anew or sends it a signal on a change, forwards the signals that this process gets, and ends with
 * it. No process that the command has started is left when it is over.
 */
#pragma once

#include <signal.h>
#include <sys/types.h>

#include "client/tools/variables.h"

enum runner_action { RUNNER_RESTART, RUNNER_IGNORE, RUNNER_SIGNAL };

struct runner_plan {
	const char *name; /* for messages */
	char **argv;
	enum runner_action action;
	int signal; /* of RUNNER_SIGNAL */
	uint64_t splay_usec; /* at most so long after a change, by chance */
	uint64_t stop_usec; /* from SIGTERM to SIGKILL when it is restarted */
	uint64_t interval_usec; /* between two starts, or signals */
	const char *keys, *prefix; /* as in struct variables */
};

struct runner {
	struct runner_plan plan;
	int signal_fd;
	sigset_t old_signals;
	pid_t bystander; /* a child that is not the command's; 0: none */
	bool has_lost_bystander;
	pid_t pid; /* of the command; 0: not running */
	int status; /* as waitpid() gave it, when it is not */
	bool is_ending; /* was told to end: it is not started again */
	bool is_stopping; /* on the way to a restart */
	bool is_draining; /* what it left behind is being ended */
	int ended_by; /* the signal that killed the command, or asked for the end without one */
	uint64_t acted_at; /* when it was started or signalled */
	uint64_t act_at; /* 0: nothing to do */
	uint64_t kill_at; /* 0: not being stopped */
	uint64_t generation; /* the newest that was looked at */
	struct variables running; /* what the command has, or was told of */
	struct variables wanted; /* what the newest generation makes */
};

/* From here on signals wait for the runner: before the first child is started. 0 or -errno. */
int runner_init(struct runner *runner, const struct runner_plan *plan);

/*
 * Until the handle has data, a signal asks for the end, the bystander ends or the deadline has
 * passed. 0; -ETIMEDOUT; -ECHILD: no bystander any more; -EINTR: ended_by is the signal.
 */
int runner_wait_data(struct runner *runner, ccfg *cfg, uint64_t deadline);

/* Runs the command to its end, however often it is started. The exit code. */
int runner_run(struct runner *runner, ccfg *cfg);

/*
 * When everything else is cleaned up: returns the exit code, or ends this process by the signal
 * that ended the command.
 */
int runner_done(struct runner *runner, int exit_code);
