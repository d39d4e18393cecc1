/*
 * What the files of the handle share: its lock, and the one thread at a time that works.
 */
#pragma once

#include "client/lib/handle.h"

void handle_lock(struct ccfg *handle);
void handle_unlock(struct ccfg *handle);

/* With the lock, or where no other thread is. Not a reference. */
struct ccfg_view *handle_newest(struct ccfg *handle);

/* From the lock to the work, when nobody is busy, and back. */
void handle_begin_work(struct ccfg *handle);
void handle_end_work(struct ccfg *handle);

/* At work: asks for what is newer, where that is not asked already. */
void handle_follow_ask(struct ccfg *handle);
/* At work: a step of the follower, and what it brought made public. As follow_step(). */
int handle_step(struct ccfg *handle, uint64_t deadline);

/* With the lock; may let go of it for the time of a read. */
void handle_catch_up_locked(struct ccfg *handle);
void handle_take_info(struct ccfg *handle, const struct wire_info *info);
/* With the lock, when nobody is busy: what the program's loop is to be woken by. */
void handle_set_events(struct ccfg *handle);

/* One request on a new connection, and its reply, which lives as long as the link. 0 or -errno,
 * also what a refusal stands for. */
int handle_ask_on(struct link *link, enum wire_op op, const struct wire_request *request,
	uint64_t deadline, struct link_reply *ret_reply);
