/*
 * The environment of a command: that of this process, with the keys of a service on top.
 */
#pragma once

#include "client/lib/consulcfg.h"
#include "proto/std.h"

struct variable;

struct variables {
	const char *keys; /* only keys that start with this */
	const char *prefix; /* in front of every name */
	bool takes_all; /* there is no --keys */
	char **words; /* "NAME=value", NULL behind the last; as execve() takes them */
	struct variable *own; /* those of keys, by name; their texts are in `words` */
	size_t n_own;
	size_t n_left_out; /* values that no variable can hold */
	char trouble[512]; /* what is wrong, for people; empty: nothing */
};

/*
 * Fills in the words. 0; -ENOMEM; -EEXIST: two keys would be one variable. `trouble` says which, or
 * with 0 which values were left out.
 */
int variables_fill(struct variables *variables, const ccfg_view *view);

/* Whether the keys make the same variables. */
bool variables_are_equal(const struct variables *a, const struct variables *b);

/* Releases what variables_fill() made; may be called twice. */
void variables_done(struct variables *variables);
