/*
 * Consul's rules as pure functions: what to ask, what an answer means, how long to wait. Measured
 * on 1.8.7; the reasons stand at the functions. Knows no socket, timer or tree.
 */
#pragma once

#include "daemon/http.h"
#include "daemon/kvset.h"
#include "daemon/tree.h"

/* One address, taken apart; owns its strings. */
struct consul_address {
	char *name; /* for messages: as configured */
	char *base; /* of URLs, without '/' at the end */
	char *unix_path; /* or NULL */
	char *connect_to; /* as in http.h, or NULL */
	bool is_local; /* on this host: compressing costs more time than it saves */
};

/* http://…, https://… or unix:///path, as config_address_normalise() leaves them. 0, -ENOMEM. */
int consul_address_init(
	struct consul_address *address, const char *text, const char *tls_server_name);
void consul_address_done(struct consul_address *address);

struct consul_query {
	const char *prefix; /* of keys, ends with '/'; any string when it lists */
	const char *key; /* below it, to be read alone and consistently; NULL: all of them */
	bool lists; /* names of children alone, instead of all below */
	uint64_t index; /* 0: answer now */
	uint64_t wait_usec;
	bool consistent;
	const char *datacenter, *namespace, *partition; /* or NULL */
};

/* The URL of a read; the caller frees it. 0, -ENOMEM. */
int consul_url(
	const struct consul_address *address, const struct consul_query *query, char **ret_url);

/* Whether a key can be read alone: Consul redirects paths with "//", "." or ".." to other keys. */
bool consul_is_askable(const char *key);

enum consul_verdict { CONSUL_CONTENT, CONSUL_ABSENT, CONSUL_ERROR };

struct consul_error {
	enum tree_error_kind kind;
	char message[160]; /* one line, no byte of the answer */
};

/* Nobody answered, or nobody who can: not this request, all of them. */
bool consul_is_outage(const struct consul_error *error);

/* What an answer says; `details` is what the reader of its body had against it, or NULL. */
enum consul_verdict consul_judge(const struct http_result *result, const char *address_name,
	const char *details, struct consul_error *ret_error);

/*
 * The index to send next: what was received; 0, ask afresh, when it went backwards, is below 1, or
 * is above anything that a raft log reaches (such a query would sleep through every write).
 */
uint64_t consul_next_index(uint64_t sent, uint64_t received);

/* The head came before the wait was over: something happened, or the agent went away. */
bool consul_is_early(uint64_t wait_usec, uint64_t answered_usec);

/*
 * Consul resends the whole body at each time-out: a tree above LIMIT_SMALL_TREE bytes of body that
 * did not change doubles its wait, up to max_usec.
 */
uint64_t consul_next_wait(
	uint64_t current_usec, uint64_t wait_usec, uint64_t max_usec, uint64_t n_bytes);

/* By when the head of an answer must be there; wait 0: of an immediate read. */
uint64_t consul_deadline(uint64_t wait_usec);

/* Retries for ever: at most a second apart in the first minute, then exponentially to 30 s. */
struct consul_backoff {
	uint64_t since; /* of the first failure, 0: none */
	uint64_t delay_usec; /* before jitter */
};

uint64_t consul_backoff_next(struct consul_backoff *backoff, uint64_t now, uint32_t random);
void consul_backoff_reset(struct consul_backoff *backoff);

/*
 * Wake-ups that bring no change: an absent prefix wakes on every write of the cluster. Two are
 * free, then one a second, growing to one in 15 s while it goes on.
 */
struct consul_pace {
	unsigned n_taken;
	uint64_t interval_usec;
	uint64_t last;
};

/* How long to wait before the next query. */
uint64_t consul_pace_take(struct consul_pace *pace, uint64_t now);
void consul_pace_reset(struct consul_pace *pace);

/* v ± 10 %, so that the hosts of a fleet do not ask all at once. */
uint64_t consul_jitter(uint64_t v, uint32_t random);

/*
 * There is nothing, each key is absent by itself, too, and the store is not above what is held, or
 * was not when the tree was held for this: a cluster that lost its data or was put back, where
 * unrelated writes may raise the index at any time. Never a deletion.
 *
 * store_index is that of the keys' own answers. The one of the prefix says less: where a key was
 * deleted a while ago and then all that begins with a part of the prefix, 1.8.7 shows the older of
 * the two deletions, which may lie before what is held.
 */
bool consul_is_lost_store(const struct tree *tree, const struct kvset *fresh, uint64_t store_index);

/* What is held already, for a reason that asking for keys once more would only tell again. */
bool consul_is_held(const struct tree *tree, const struct kvset *fresh);

/*
 * When to look again at what is held, which may be every tree of the host at once: after half the
 * time that it has been held already, at most LIMIT_RETRY_MAX_USEC.
 */
uint64_t consul_look_delay(uint64_t held_usec, uint32_t random);

/* Why answers are held. */
extern const char consul_words_access_lost[], consul_words_data_lost[], consul_words_unclear[],
	consul_words_disagree[];
