/*
 * A doorbell: one blocking query for all tenants whose prefix begins with its own. Rings when
 * anything below it is written or deleted; then a search finds who moved. Knows its tenants only as
 * its owner gives them to it; must not know why they have no poll of their own.
 *
 *   resting --> knocking (a read that does not block: where are we?)
 *      ^            |
 *      |            v       rang
 *      +------- listening ------> searching ---> listening
 *
 * Invariant: while it listens from an index on, each of its tenants knows all up to that index, or
 * a search that was begun after that index was seen is looking for what the tenant does not know.
 * Without a place for its poll it knocks, once in LIMIT_KNOCK_USEC. One that may not list (403)
 * has its tenants read one by one, once in a wait.
 */
#pragma once

#include "daemon/search.h"

struct doorbell;

struct doorbell_fns {
	/* As in search.h. */
	void (*moved)(struct tenant *tenant, uint64_t index, void *userdata);
	/* What it holds may be from before a change of the store that no index shows. Leaves. */
	void (*doubted)(struct tenant *tenant, void *userdata);
	/* Consul does not answer. Stays; doubted() comes when it answers again. */
	void (*failed)(struct tenant *tenant, const struct consul_error *error, uint64_t retry_at,
		void *userdata);
	/* It neither asks nor searches: tenants may leave, and it may be freed. False: it was. */
	bool (*idle)(struct doorbell *bell, void *userdata);
};

int doorbell_new(struct agent *agent, struct tenants *tenants, const char *prefix,
	const struct doorbell_fns *fns, void *userdata, struct doorbell **ret_bell);
/* A poll under way is left to run out. What it doubts no tenant below its prefix knows any more. */
struct doorbell *doorbell_free(struct doorbell *bell);

const char *doorbell_prefix(const struct doorbell *bell);
/* In a poll: it will be idle when that ends. */
bool doorbell_is_listening(const struct doorbell *bell);

/* There are tenants that know less than it, or have just come. */
void doorbell_look(struct doorbell *bell);
/* Does now what it rests from. */
void doorbell_wake(struct doorbell *bell);
bool doorbell_is_on_time(const struct doorbell *bell, uint64_t now);
