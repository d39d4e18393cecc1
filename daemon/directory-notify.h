/*
 * Notices about changes in directories: the only door to inotify. Knows who follows which names
 * in which directories and which files are being written; knows no tree and reads no file.
 *
 * A follower says in rounds what it wants to hear of: directory_notify_begin(), then
 * directory_notify_add() for each directory *before* looking into it, then directory_notify_end(),
 * which drops what the round did not name again. A round that is broken off drops nothing.
 */
#pragma once

#include <sys/stat.h>

#include "daemon/list.h"
#include "daemon/loop.h"

struct directory_notify;

enum directory_interest_kind {
	DIRECTORY_STEP, /* a name on the way: that it comes, goes or is replaced */
	DIRECTORY_FILE, /* a name, and what is written to it */
	DIRECTORY_ENTRIES, /* all visible names, and what is written to them */
};

/* Embedded in whoever wants to hear. */
struct directory_follower {
	struct directory_notify *notify;
	struct list link; /* directory_notify::followers */
	struct list interests;
	unsigned round;
	bool is_blind; /* this round some directory could not be watched */
};

/*
 * Something changed. delay_usec 0: completely, as far as one can see; else a write has begun, its
 * end will be told, and when no end comes it is to be looked at after this time. May not add or
 * drop interests.
 */
typedef void (*directory_notify_fn)(struct directory_follower *follower, uint64_t delay_usec);

/* Works without inotify, too: then every follower is blind. 0, -ENOMEM. */
int directory_notify_new(
	struct loop *loop, directory_notify_fn fn, struct directory_notify **ret_notify);
struct directory_notify *directory_notify_free(struct directory_notify *notify);

void directory_notify_follow(struct directory_notify *notify, struct directory_follower *follower);
void directory_notify_unfollow(struct directory_follower *follower);

/* Handles what the kernel has queued up to now, without waiting for the loop. */
void directory_notify_read(struct directory_notify *notify);

void directory_notify_begin(struct directory_follower *follower);
/*
 * dir_fd may be an O_PATH descriptor; it is only used during the call. Returns a token of the
 * directory for directory_notify_unsettled(), or -1 when it is not watched.
 */
int directory_notify_add(struct directory_follower *follower, int dir_fd,
	enum directory_interest_kind kind, const char *name);
void directory_notify_end(struct directory_follower *follower);

/*
 * How many microseconds to wait before a file's contents can be trusted to be complete; 0: they
 * can. A file is incomplete from its creation or first write to its closing; one that changed
 * before its directory was watched, until it rests. The target of a link is complete unless it was
 * seen being written: links are switched to what is ready.
 */
uint64_t directory_notify_unsettled(const struct directory_follower *follower, int token,
	const char *name, const struct stat *st, bool is_link);

/* Names that are keys: neither hidden (".name") nor an editor's backup ("name~"). */
bool directory_notify_is_visible(const char *name);
