/*
 * The state directory: where things stand in it, who may look, and that one daemon has it. Knows
 * nothing of what the files hold.
 *
 *   lock           held by the daemon
 *   services       names of those in use, one a line
 *   backup/open/   (0710, socket group) services that the whole group may read
 *   backup/private/  (0700) all others
 *   history/NAME/  generations of a service
 *   pins/          what is frozen or overridden
 *   damaged/       what could not be believed, one of a name
 *
 * Everything below is opened without following links, and belongs to the daemon's user.
 */
#pragma once

#include <sys/types.h>

#include "proto/std.h"

enum state_place {
	STATE_TOP,
	STATE_OPEN,
	STATE_PRIVATE,
	STATE_HISTORY,
	STATE_PINS,
	STATE_DAMAGED,
};
#define STATE_PLACES 6

struct state_directory {
	int fds[STATE_PLACES];
	int lock;
	gid_t gid; /* of the socket; (gid_t)-1: none */
};

#define STATE_DIRECTORY_NONE                                                                       \
	{                                                                                          \
		.fds = { -1, -1, -1, -1, -1, -1 }, .lock = -1, .gid = (gid_t)-1                    \
	}

/*
 * Opens it, making what is missing. 0 or -errno; -EADDRINUSE: another daemon has it; -EPERM: it, or
 * what stands in it, belongs to somebody else or is a link. What was opened is released by
 * state_directory_close(), also after a failure. directory->gid becomes (gid_t)-1 where the daemon
 * may give no files to that group: then nothing is for it.
 */
int state_directory_open(const char *path, gid_t gid, struct state_directory *directory);

/* The same again, under the lock of the one before: what vanished is made anew. */
int state_directory_reopen(
	const char *path, const struct state_directory *before, struct state_directory *directory);
void state_directory_close(struct state_directory *directory);

/* For the library: a link `state` to it in the runtime directory. 0 or -errno. */
int state_directory_link(const char *path, const char *runtime_directory);

/*
 * A regular file of ours that nobody else may write, for reading. -ENOENT; -EPERM: it is something
 * else; other -errno.
 */
int state_directory_open_file(int directory, const char *name);

/* Puts a file, or whatever stands there, among the damaged ones. 0 or -errno. */
int state_directory_set_aside(const struct state_directory *directory, int from, const char *name);
