/*
 * Which trees have a poll of their own, and doorbells for the others.
 *
 * There are as many polls as the agent allows at once. While they suffice each tree has its own.
 * When they do not, trees that hold something have their own as long as LIMIT_BELLS_MIN are left
 * for the absent ones; and else no tree has: the polls are doorbells, of string prefixes that
 * divide the trees evenly. As trees come and go the prefixes are chosen anew; a tree takes what it
 * knows with it from one doorbell to the next, so nothing is missed in between, and a doorbell that
 * is not wanted any more rings on for those that are until its poll has run out.
 */
#pragma once

#include "daemon/doorbell.h"

struct doorbells;

struct doorbells_fns {
	/* It is no tenant any more. Something moved: see search.h. */
	void (*moved)(struct tenant *tenant, uint64_t index);
	/* It is no tenant any more. Read it as after an outage. */
	void (*doubted)(struct tenant *tenant);
	/* It is no tenant any more. It may have a poll of its own. */
	void (*released)(struct tenant *tenant);
	/* See doorbell.h. */
	void (*failed)(struct tenant *tenant, const struct consul_error *error, uint64_t retry_at);
};

int doorbells_new(
	struct agent *agent, const struct doorbells_fns *fns, struct doorbells **ret_doorbells);
struct doorbells *doorbells_free(struct doorbells *doorbells); /* no tenant may be left */

/* Whether a tree may have a poll of its own now. */
bool doorbells_may_poll(const struct doorbells *doorbells, const struct tree *tree);

/* Every write up to this index is in what is asked for from now on. */
uint64_t doorbells_floor(const struct doorbells *doorbells);

/*
 * A tree lives behind a doorbell from here on: its contents are from an answer with this index,
 * that was asked for when doorbells_floor() was `floor`.
 */
void doorbells_move_in(struct doorbells *doorbells, struct tenant *tenant, struct tree *tree,
	uint64_t index, uint64_t floor);
void doorbells_move_out(struct doorbells *doorbells, struct tenant *tenant);

/* Before the agent moves, when all tenants have moved out. */
void doorbells_stop(struct doorbells *doorbells);

/* The agent may allow another number of polls from here on. */
void doorbells_reconfigure(struct doorbells *doorbells);

bool doorbells_is_on_time(const struct doorbells *doorbells, uint64_t now);
