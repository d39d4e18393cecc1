/*
 * A child: a program that a verb runs. It never outlives this process by accident: the kernel sends
 * it a signal when this process dies, whatever of.
 */
#pragma once

#include <signal.h>
#include <sys/types.h>

#include "proto/std.h"

struct child_plan {
	char *const *argv; /* argv[0] is searched in PATH when it has no '/' */
	char *const *environment; /* NULL: that of this process, as `prepare` leaves it */
	int input; /* standard input; -1: that of this process */
	const sigset_t *signals; /* blocked ones; NULL: as in this process */
	void (*prepare)(void *userdata); /* in the child, before the program; NULL */
	void *userdata;
};

/*
 * Starts it. 0; -errno: there is no child; or, as a positive errno, why the program cannot be
 * executed.
 */
int child_start(const struct child_plan *plan, pid_t *ret_pid);

/* What a shell would exit with for this errno of child_start(): 127 not found, 126 not executable.
 */
int child_exit_code(int error);

/* The end of a child as a waitpid() status: an exit code, 128 and the signal when it was killed. */
int child_status_code(int status);

/* Waits for the end. The status as child_status_code() gives it, or -errno. */
int child_wait(pid_t pid);

/*
 * From child_hold() to child_release() a signal that would end this process waits, for what a child
 * is about to do. child_wait_held() waits so long, and for a while more once such a signal has
 * come: then it returns -EINTR. child_release() lets the signal come. `signals` are those that were
 * blocked before, for the child.
 */
void child_hold(sigset_t *ret_signals);
int child_wait_held(pid_t pid);
void child_release(const sigset_t *signals);

/* Children of this process, but one; those of children that ended become ours when this process is
 * their subreaper. Sends them a signal and returns how many there are. */
unsigned child_signal_all(int number, pid_t except);
