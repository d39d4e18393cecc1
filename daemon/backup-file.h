/*
 * One job of the writer as system calls, in the order that leaves the old file or the new one
 * wherever it stops. Runs on the writer's thread.
 */
#pragma once

#include "daemon/backup-writer.h"

/* The outcome is in the job. */
void backup_file_write(const struct state_directory *directory, struct backup_job *job);
