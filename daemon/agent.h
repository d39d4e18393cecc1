/*
 * The Consul agents to ask: addresses tried in turn, the token, and three pools of connections
 * within one budget. Long polls never take the connections of the other two. Knows where to ask;
 * must not know what.
 */
#pragma once

#include "daemon/config.h"
#include "daemon/consul.h"
#include "daemon/file-stamp.h"
#include "daemon/ledger.h"
#include "daemon/token.h"

enum agent_pool {
	AGENT_POLLS, /* blocking queries: all of the budget but two */
	AGENT_READS, /* first and confirming reads: one connection */
	AGENT_RESYNCS, /* the independent comparison: one connection */
};
#define AGENT_N_POOLS 3
#define AGENT_N_TLS_FILES 4

struct agent {
	struct loop *loop;
	const struct config *config; /* borrowed until agent_configure() gives another */
	struct http *pools[AGENT_N_POOLS];
	struct consul_address *addresses;
	unsigned n_addresses, current;
	struct token token;
	struct file_stamp tls_files[AGENT_N_TLS_FILES]; /* as they were when the pools were made */
	struct ledger *ledger;
	unsigned n_trees; /* that are watched */
	uint64_t n_repairs; /* what resyncs found that watches had missed */
};

int agent_new(struct loop *loop, const struct config *config, struct agent **ret_agent);
struct agent *agent_free(struct agent *agent);

/* Whether this configuration asks elsewhere, or as somebody else, or trusts others: its files of
 * certificates count as they are now. No connection can stay then. */
bool agent_is_elsewhere(const struct agent *agent, const struct config *config);

/* When it is elsewhere, all requests must have ended. On failure everything is as before. */
int agent_configure(struct agent *agent, const struct config *config, bool is_elsewhere);

/* The address to ask now; valid as long as requests may run. */
const struct consul_address *agent_address(const struct agent *agent);
/* This one did not answer: the next request goes to another one. */
void agent_fail_over(struct agent *agent, const struct consul_address *address);

/* Where a read gets through soonest: at the start, when all trees want one, polls do not run yet.
 */
enum agent_pool agent_pool_for_read(const struct agent *agent);

/* How many blocking queries may run at once, and whether there is room for another one now: those
 * that an earlier daemon left behind count until they are over. */
unsigned agent_n_polls_at_once(const struct agent *agent);
bool agent_has_room_for_poll(const struct agent *agent);

/* What one pool learned of the server's HTTP holds for the others. */
void agent_learn(struct agent *agent, enum agent_pool pool);

unsigned agent_n_connections(const struct agent *agent);

uint32_t agent_random(void);
