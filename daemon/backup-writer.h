/*
 * Writes files of the state directory on a thread of its own: fsync takes as long as the disk
 * likes, and the loop must not wait for it. Knows files and jobs, no services.
 *
 * A file is written under another name, synced, and renamed over the one before; then its directory
 * is synced. Whatever happens in between leaves the old one or the new one. A write that fails
 * leaves the old one.
 *
 * A job belongs to the thread from backup_writer_submit() until its `done` is called, on the loop;
 * what it points to stays as it is for so long.
 */
#pragma once

#include "daemon/list.h"
#include "daemon/loop.h"
#include "daemon/state-directory.h"
#include "proto/backup-format.h"

#define BACKUP_TEMPORARY                                                                           \
	".writing" /* begins a file's name until it is whole; no service's does                    \
		    */

struct backup_writer;

enum backup_job_kind {
	BACKUP_JOB_IMAGE, /* image, names and footer; the thread makes the footer whole */
	BACKUP_JOB_TEXT, /* `image` as it is */
	BACKUP_JOB_UNLINK, /* the file in `place` */
	BACKUP_JOB_MOVE, /* the file from `from` to `place`; nothing stays elsewhere */
	BACKUP_JOB_FORGET, /* the history but contents with `spare`, or `only` */
	BACKUP_JOB_REMOVE, /* everything of this service */
};

struct backup_job {
	struct list link; /* the writer's queue, then its list of what is done */
	enum backup_job_kind kind;
	enum state_place place; /* STATE_OPEN: readable by the group */
	char service[LIMIT_SERVICE_NAME + 1]; /* TEXT: the name of the file */
	const void *image;
	size_t image_size;
	const char *names;
	size_t names_size;
	struct backup_footer footer;
	bool is_served; /* IMAGE: what `place` is to hold */
	bool is_recorded; /* IMAGE: what the history is to hold, too */
	unsigned keep; /* generations in the history */
	enum state_place from; /* MOVE */
	uint64_t spare; /* FORGET: a digest */
	uint64_t only; /* FORGET: a generation, 0: all */
	bool has_file; /* FORGET: the backup, too */
	void (*done)(struct backup_job *job);
	void *userdata;
	/* The outcome. */
	int error; /* 0 or -errno */
	const char *step; /* of the failure: "write", "fsync" … */
	unsigned n_found; /* FORGET, REMOVE: files of which they were asked */
};

/* Who wants to know what became of a write. */
struct backup_waiter {
	struct list link; /* unlink it to leave */
	/* Once. 0; -errno, and the step that failed. */
	void (*fn)(struct backup_waiter *waiter, int error, const char *step);
};

/* Tells them all, and unlinks them. */
void backup_writer_tell(struct list *waiters, const struct backup_job *job);

/* How long after a failure the next attempt is; 0: of the first one. */
uint64_t backup_writer_pause(uint64_t last_usec);

/*
 * Takes the directory's descriptors; `path` is for finding it again when it has vanished. 0 or
 * -errno.
 */
int backup_writer_new(struct loop *loop, const char *path, struct state_directory *directory,
	struct backup_writer **ret_writer);

/*
 * Waits until all is written and told, at most LIMIT_BACKUP_STOP_USEC from the first call on.
 * False: the disk is too slow, or has done nothing in LIMIT_BACKUP_STUCK_USEC; the thread keeps
 * what it has, and the writer may not be freed: the process is about to end.
 */
bool backup_writer_drain(struct backup_writer *writer);
/* Jobs that are not done. */
unsigned backup_writer_n_left(struct backup_writer *writer);
struct backup_writer *backup_writer_free(struct backup_writer *writer); /* drained */

void backup_writer_submit(struct backup_writer *writer, struct backup_job *job);
