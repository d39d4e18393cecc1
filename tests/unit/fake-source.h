/*
 * A source that a test drives by hand: it remembers the tree that each feed belongs to.
 */
#pragma once

#include "daemon/tree.h"

#define FAKE_SOURCE_MAX 16

struct feed {
	struct tree *tree; /* NULL: not in use */
	unsigned n_resyncs;
};

struct fake_source {
	struct source source;
	struct feed feeds[FAKE_SOURCE_MAX];
	int fail_start; /* errno of the next start, or 0 */
};

void fake_source_init(struct fake_source *fake);

/* The tree that is fed for a prefix, or NULL. */
struct tree *fake_source_tree(struct fake_source *fake, const char *prefix);

/* Applies "key=value" pairs, ended by NULL. */
bool fake_source_apply(struct fake_source *fake, const char *prefix, ...);
