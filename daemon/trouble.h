/*
 * The log's view of trees in trouble: what many of them meet at once is one line, and one when it
 * is over. Knows what is wrong with trees; must not know what is done about it.
 *
 * A trouble is told as soon as all trees have it, at the latest LIMIT_GATHER_USEC after the first
 * one met it; what is new since then is told LIMIT_NEWS_USEC later, all together. A source that is
 * silent is one trouble, however it shows and whoever meets it next: there twice as many trees, or
 * other words, are news.
 */
#pragma once

#include "daemon/loop.h"
#include "daemon/tree.h"

enum trouble_kind {
	TROUBLE_SILENCE, /* unreachable, or no answer in time */
	TROUBLE_DENIED,
	TROUBLE_INVALID,
	TROUBLE_LIMIT,
	TROUBLE_HELD,
};
#define TROUBLE_N_KINDS (TROUBLE_HELD + 1)

struct troubles;
int troubles_new(struct loop *loop, struct trees *trees, struct troubles **ret_troubles);
struct troubles *troubles_free(struct troubles *troubles);

enum trouble_kind trouble_kind_of(enum tree_error_kind kind);

/* A tree has this trouble from here on; its error, or what it holds, says so already. */
void trouble_begin(struct troubles *troubles, enum trouble_kind kind);
/* It is over for this tree; why: what ended a hold. */
void trouble_end(struct troubles *troubles, enum trouble_kind kind, const struct tree *tree,
	const char *why);
/* The tree is gone, or has another one instead. */
void trouble_leave(struct troubles *troubles, enum trouble_kind kind);
