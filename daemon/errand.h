/*
 * A request whose reply takes longer than a turn of its session, which has one at a time: requests
 * behind it wait, and the reply is made in a turn of the session as all others are.
 */
#pragma once

#include "daemon/reply.h"

struct errand {
	struct reply reply;
	bool is_done;
	/* Makes the reply. */
	void (*answer)(struct errand *errand);
	/* After that, or when the session ends before: leaves whatever it waits for. */
	void (*free)(struct errand *errand);
};

/* Hangs it into the session; the rest of it is the caller's. */
void errand_begin(struct errand *errand, const struct reply *reply);
/* The reply can be made, in a turn that comes soon. */
void errand_done(struct errand *errand);

/* For the session, whose errand may be NULL: replies when it is done. */
void errand_answer(struct session *session);
void errand_drop(struct session *session);
