/*
 * One read of one prefix: request out, body parsed while it arrives, one answer in. Knows what is
 * asked and how it is said; must not know what the answer is compared with.
 *
 * A fetch that skims does not parse: it gives the hash of the body, which is enough to know that
 * nothing has changed.
 */
#pragma once

#include "daemon/agent.h"

struct fetch;

struct fetch_answer {
	/* Finished; NULL: failed, or skimmed. Take it (TAKE_PTR), or it is released. */
	struct kvset *set;
	bool is_good; /* not failed */
	bool is_absent; /* good, and there is no key: 404 */
	int status; /* of HTTP; 0: there was none */
	uint64_t index;
	uint64_t body_hash; /* 0: there was no body */
	struct consul_error error; /* when it failed */
	uint64_t answered_usec; /* until the head of the answer */
	uint64_t n_bytes; /* of body, decoded */
};

/* Once, unless cancelled; never from within fetch_start(). The fetch is gone then. */
typedef void (*fetch_fn)(struct fetch_answer *answer, void *userdata);

struct fetch_query {
	enum agent_pool pool;
	const char *prefix; /* outlives the fetch */
	const char *key; /* this one below the prefix; NULL: all */
	bool lists; /* names of children alone, of any string prefix; always skims */
	uint64_t index, wait_usec; /* index 0: answer now; else a poll, see the ledger */
	bool consistent;
	bool skims;
	struct kvset *model; /* what the answer will most likely say again; NULL: not known */
	fetch_fn fn;
	void *userdata;
};

/* 0, -ENOMEM, -EBUSY: no room for a poll, see agent_has_room_for_poll(). */
int fetch_start(struct agent *agent, const struct fetch_query *query, struct fetch **ret_fetch);
struct fetch *fetch_cancel(struct fetch *fetch);
struct fetch *fetch_abandon(struct fetch *fetch); /* see http_abandon() */

/* loop_now() time by which it calls back; UINT64_MAX while it waits for a connection. */
uint64_t fetch_due_at(const struct fetch *fetch);
