/*
 * A request that waits: OPEN for the first data, WATCH and FETCH for another generation. Answered
 * in the order they came, whenever the session has been woken and its output has room.
 */
#pragma once

#include "daemon/reply.h"

struct pending {
	struct list link; /* session::pendings */
	struct opened *opened;
	uint64_t generation; /* WATCH, FETCH: the one that the client holds */
	uint64_t expires_at; /* OPEN, FETCH: loop_now(), or PENDING_FOREVER */
	uint32_t tag;
	uint16_t op;
};

#define PENDING_FOREVER UINT64_MAX

/* -ENOBUFS: the session has LIMIT_PENDING_REQUESTS; -ENOMEM. */
int pending_new(
	const struct reply *reply, struct opened *opened, uint64_t generation, uint64_t expires_at);

/* Answers of a session what can be answered; when its output is full, the rest another time. */
void pending_answer(struct session *session);

/* Ends those of one service with status CLOSED. */
void pending_close(struct opened *opened);

/* Forgets them all; nobody is there to hear. */
void pending_drop(struct session *session);
