/*
 * A service that one session keeps open: its place among the service's users, and the decision
 * whether the session's user may read it.
 */
#pragma once

#include "daemon/user.h"

struct session;

struct opened {
	struct opened *hash_next; /* openings::buckets */
	struct session *session;
	struct service *service;
	struct service_waiter waiter; /* added while n_pending > 0 */
	unsigned n_pending;
	struct absent_opener absent;
	uint32_t hash;
	size_t name_len;
	unsigned epoch; /* of the decision */
	bool may_read; /* of a hidden one: whether it is to be hidden still */
	bool is_hidden; /* what the client sees in place of a service that it may not read */
};

/* The services of one session, by name; zeroed memory is empty. */
struct openings {
	struct opened **buckets;
	unsigned n_buckets; /* a power of two, or 0 */
	unsigned n;
	struct opened *last; /* most clients ask for one service all the time */
};

struct opened *opened_find(struct openings *openings, const char *name, size_t name_len);

/*
 * Opens a service of which opened_find() knows nothing; the name is a valid one and the session's
 * user may read it, or it is hidden from that user. -EMFILE: the session has
 * LIMIT_SESSION_SERVICES; -EDQUOT: its user has LIMIT_ABSENT_PER_USER, or as many that load as
 * LIMIT_LOADING_PER_USER says; -ENOBUFS: the daemon has
 * max_services; -ENOMEM; what the source says.
 */
int opened_new(struct session *session, const char *name, size_t name_len, bool is_hidden,
	struct opened **ret_opened);

/* Takes it out of its session; its pending requests are gone already. Returns NULL. */
struct opened *opened_free(struct opened *opened);

void openings_done(struct openings *openings);

/* The decision, taken anew when it is older than LIMIT_DECISION_USEC or the configuration. */
bool opened_may_read(struct opened *opened);

/* While requests wait, the session hears of what happens to the service. */
void opened_add_pending(struct opened *opened);
void opened_remove_pending(struct opened *opened);
