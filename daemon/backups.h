/*
 * The backups of all services, as backup.c and backups.c see them; everybody else includes
 * backup.h.
 */
#pragma once

#include "daemon/backup-pins.h"
#include "daemon/backup.h"
#include "daemon/backup-writer.h"

RB_HEAD(backup_table, backup);

struct backups {
	struct loop *loop;
	const struct config *config;
	gid_t gid;
	struct state_directory directory; /* for reading; the writer has its own */
	struct backup_writer *writer;
	struct backup_table table; /* by service */
	struct backup_table recorders; /* that write to the history alone */
	struct loop_timer *expire_timer;
	struct backup_clock clock; /* of the start */
	uint64_t started_at; /* loop_now(), at the same moment */
	struct backup_list *list;
	struct backup_pins *pins;
	uint64_t n_errors;
};

/* A generation on its way to the disk. */
struct backup_write {
	struct backup *backup;
	struct loop_timer *timer; /* until it is being written */
	struct snapshot *snapshot;
	bool is_pinned; /* not what the source says */
	bool is_discarded; /* nobody wants it any more, while it is being written */
	struct backup_facts facts;
	struct backup_job job;
};

struct backup {
	RB_ENTRY(backup) link; /* backups::table */
	struct backups *backups;
	char service[LIMIT_SERVICE_NAME + 1];
	bool is_recorder;
	bool is_used; /* the service runs */
	bool is_known; /* a file is there, and was whole when it was looked at */
	enum state_place place; /* of the file, when all moves are done */
	unsigned n_moves; /* under way */
	bool has_other; /* there is an older one in the other place */
	uint64_t generation; /* in the file */
	uint64_t confirmed_at; /* likewise, loop_now() time */
	struct backup_write *next; /* to be written */
	struct backup_write *busy; /* being written */
	uint64_t tried_at; /* loop_now(); 0: never */
	uint64_t retry_usec; /* 0: the last write was good */
	int error; /* -errno: why it was not */
	const char *failed_step;
	/* Told when a write has ended; NULL: nobody is. */
	backup_fn fn;
	void *userdata;
};

/* For one of the tables. NULL: no memory. */
struct backup *backup_new(struct backups *backups, const char *service);
void backup_free(struct backup *backup); /* out of its table */

/* Begins to write what is to be written now. */
void backup_submit(struct backup *backup);
/* What is to be written, or is being written, is not wanted any more; `only`: of that generation;
 * or with that digest, where it is not 0; 0: of all. Whether there was any. */
bool backup_discard(struct backup *backup, uint64_t only, uint64_t digest);
/* Moves the file to where the rules want it now, if it is elsewhere. */
void backup_settle_place(struct backup *backup);
