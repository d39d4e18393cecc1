/*
 * A STATUS reply over all services, made a slice per loop turn: there can be 20 000 of them, and
 * for each it is asked whether this client may see it.
 */
#pragma once

#include "daemon/json.h"
#include "daemon/reply.h"

struct listing {
	struct list link; /* server::listings */
	struct session *session;
	struct json *json;
	uint32_t tag;
	bool is_operator;
	char last_seen[1 + LIMIT_SERVICE_NAME + 1]; /* the listing goes on after this name */
	char last_shown[1 + LIMIT_SERVICE_NAME + 1]; /* the client goes on after this one */
};

/* Lists services after a name ("": all) and hangs it into the session. 0, -ENOMEM. */
int listing_new(const struct reply *reply, const char *after, size_t after_len);
struct listing *listing_free(struct listing *listing);

/* One slice; the last one replies and frees the listing. */
void listing_step(struct listing *listing);
