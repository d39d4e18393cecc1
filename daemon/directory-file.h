/*
 * One file's contents, read so that they are those of one moment: what changes while it is read is
 * read again, what is being written is not read at all. Never waits for a FIFO or a device.
 */
#pragma once

#include <sys/stat.h>

#include "daemon/directory-walk.h"

/* Reads one file after the other into the same memory. */
struct directory_file {
	const struct directory_follower *follower; /* borrowed */
	uint64_t max_len;
	bool is_patient; /* does not read what is being written */
	/* Of the file that was read last. */
	char *data;
	size_t len;
	bool is_cut; /* empty, but it still has blocks: most likely it is just being cut */
	uint64_t wait_usec; /* after -EBUSY: how long until it is worth another look */
	size_t allocated;
};

void directory_file_init(struct directory_file *file, const struct directory_follower *follower,
	uint64_t max_len, bool is_patient);
void directory_file_done(struct directory_file *file);

/*
 * Reads `name` in the directory dir_fd, which was found at `place`. 0; -EBUSY: it is being written;
 * -EAGAIN: it went away or kept changing; -EFBIG: longer than max_len; other -errno.
 */
int directory_file_read(struct directory_file *file, int dir_fd, const char *name,
	const struct directory_place *place);

/* Nothing happened to the file between the two. */
bool directory_file_is_same(const struct stat *a, const struct stat *b);
