/*
 * One job of the writer as system calls, in the order that leaves the old file or the new one
 * wherever it stops. Runs on the writer's thread.
 */
#pragma once

#include "daemon/backup-writer.h"

/* The outcome is in the job. */
void backup_file_write(const struct state_directory *directory, struct backup_job *job);

/*
 * The same of many images at once, LIMIT_BACKUP_BATCH at most, which are each in `place` STATE_OPEN
 * or STATE_PRIVATE: two syncs of the file system in place of three for each. 0: all are on the
 * disk; -errno: some may be, and each is to be written by itself.
 */
int backup_file_write_many(
	const struct state_directory *directory, struct backup_job *const jobs[], unsigned n_jobs);
