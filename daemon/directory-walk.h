/*
 * The way that the kernel takes to resolve a path, link by link, so that each step of it can be
 * watched: a link that is switched and a directory that is renamed over are changes, too.
 */
#pragma once

#include <limits.h>

#include "daemon/directory-notify.h"

/* Where the last step of a path was found. */
struct directory_place {
	int token; /* of directory_notify_add() */
	bool is_link; /* through a link */
	char name[NAME_MAX + 1];
};

/*
 * Names to directory-notify every directory on the way of `path`, relative to at_fd, with the name
 * that is looked for there; the last one with the kind `last`. Returns nothing: whoever opens the
 * path afterwards gets the truth, and what changes between the two is heard of. *ret_place is
 * where the way ended; token -1 when that is not watched.
 */
void directory_walk(struct directory_follower *follower, int at_fd, const char *path,
	enum directory_interest_kind last, struct directory_place *ret_place);
