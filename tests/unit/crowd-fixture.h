/*
 * More trees than polls, on a model of Consul.
 */
#pragma once

#include "consul-fixture.h"
#include "model-consul.h"

#define N_TREES 48
#define CONNECTIONS 6
#define POLLS_AT_ONCE 4
#define SOON (2 * USEC_PER_SEC)

struct crowd {
	struct consul_fixture *fixture;
	struct model *model;
	char prefixes[N_TREES][32];
	struct tree *trees[N_TREES];
};

/* cmocka's: few connections, and no resync that could find what was missed; at the end there was
 * nothing to find. */
int crowd_set_up(void **state);
int crowd_tear_down(void **state);

void crowd_open(struct crowd *crowd, unsigned i);
void crowd_close(struct crowd *crowd, unsigned begin, unsigned end);
/* All trees, with two keys each, behind doorbells that have settled. */
struct crowd *crowd_gather(void **state);

void crowd_put(struct crowd *crowd, unsigned i, const char *name, const char *value);
bool crowd_is_right(const struct crowd *crowd, const struct tree *tree);
/* Fails the test unless all trees are what the store holds. */
void crowd_assert_right(const struct crowd *crowd);
