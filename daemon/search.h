/*
 * Which of a doorbell's tenants moved, found by asking for the index of ever longer string
 * prefixes.
 *
 * Consul's index of a listing is that of all that begins with the prefix asked for. Where it is not
 * above what the tenants below it know, nothing has changed for them, and they know as much as the
 * goal: the index that the doorbell rang with, before that prefix was asked for. Else it is looked
 * further in each branch, deepest first, so that the first change is found soon. A prefix with
 * nothing below it needs no look further: of its tenants, those that hold something moved.
 *
 * The first question is `consistent`: a server that has just become the leader may know less than
 * the one that rang, but not after it has answered such a one. A prefix that may not be listed is
 * looked through branch by branch; a tenant that may not be listed counts as moved.
 */
#pragma once

#include "daemon/agent.h"
#include "daemon/fetch.h"
#include "daemon/tenant.h"

struct search;

struct search_fns {
	/* Read it again: it is at this index, or above; 0: not known. It may leave the tenants. */
	void (*moved)(struct tenant *tenant, uint64_t index, void *userdata);
	/* All has been looked through; an error: what is left has not. Free the search here or
	 * later. */
	void (*done)(const struct consul_error *error, void *userdata);
};

int search_new(struct agent *agent, struct tenants *tenants, const struct doorbell *bell,
	const struct search_fns *fns, void *userdata, struct search **ret_search);
struct search *search_free(struct search *search); /* calls nobody */

/*
 * Everything below the prefix is at this index: the goal, unless the goal is higher. A search that
 * is under way goes on with the higher goal. Calls back only later, but may call moved() at once.
 */
void search_begin(
	struct search *search, const char *prefix, uint64_t index, bool is_absent, uint64_t goal);
bool search_is_under_way(const struct search *search);
