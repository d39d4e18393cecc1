/*
 * A tree: one watched prefix, its last good contents and how fresh they are. Services share trees
 * by prefix. A source feeds it (tree_apply, tree_confirm, tree_fail); observers, the layers of
 * services, hear of changes. Knows no source and no service.
 *
 *   loading --apply--> live --fail--> stale --apply/confirm--> live
 *                        |                                      ^
 *                        \--hold--> held --apply/confirm/accept-/
 *
 * Held: an answer that does not look right is kept aside. The contents stay what they were, until
 * the source says so again (confirm), says something else that looks right, or an operator takes
 * what it said (accept).
 *
 *   loading --restore--> backup --apply/confirm--> live
 *
 * Doubted: a backup that is read after the tree has answered knows so much more that this looks
 * like loss. The source is to say it again, compared with what is known now; observers have what
 * it said before.
 */
#pragma once

#include "daemon/kvset.h"
#include "daemon/list.h"
#include "daemon/loop.h"
#include "daemon/ordered.h"
#include "proto/wire.h"

enum tree_error_kind {
	TREE_UNREACHABLE,
	TREE_DENIED,
	TREE_TIMEOUT,
	TREE_INVALID,
	TREE_LIMIT,
};
#define TREE_N_ERROR_KINDS (TREE_LIMIT + 1)
#define TREE_MESSAGE 160 /* bytes of what is wrong */

struct tree_error {
	bool is_set;
	bool is_told; /* see trouble.h */
	enum tree_error_kind kind;
	char *message; /* see tree_error_message() */
	uint64_t since; /* loop_now() */
	uint64_t retry_at; /* loop_now() */
};

/* Why an answer is held, which decides what ends it. */
enum tree_doubt {
	TREE_UNCLEAR, /* it is asked for again until it is clear */
	TREE_ACCESS_LOST, /* also after the longest tree_observer::hold_usec */
	TREE_DATA_LOST, /* the source has lost its data, or went back in time */
};

struct tree_held {
	struct kvset *set; /* what the source says, NULL: nothing is held */
	enum tree_doubt doubt;
	bool is_told; /* see trouble.h */
	const char *reason; /* for people, static */
	uint64_t since; /* loop_now() */
	uint64_t doubted_since; /* the same; from here on hold_usec counts */
};

struct tree;
struct feed; /* what a source keeps per tree */

typedef void (*tree_observer_fn)(struct tree *tree, bool content_changed, void *userdata);

struct tree_observer {
	struct list link; /* tree::observers */
	tree_observer_fn fn; /* content_changed false: only state, age or error did */
	void *userdata;
	uint64_t hold_usec; /* how long lost access is held; 0: until it is accepted */
};

struct tree {
	RB_ENTRY(tree) link; /* trees::table */
	struct trees *trees;
	unsigned refs;
	char *prefix; /* ends with '/' */
	struct kvset *content; /* NULL while loading */
	enum wire_state state;
	bool has_answered; /* the source has said what the content is; else it is a backup's */
	struct kvset *said; /* by the source, and doubted: what observers have; or NULL */
	uint64_t confirmed_at; /* loop_now() when the source last said this is the content */
	struct tree_error error;
	struct tree_held held;
	struct list observers;
	struct feed *feed;
};

/* Where trees get their contents: the Consul source or the directory source. */
struct source {
	const char *name;
	/* Starts feeding; the tree outlives the feed. 0 or -errno. */
	int (*start)(struct source *source, struct tree *tree, struct feed **ret_feed);
	struct feed *(*stop)(struct feed *feed);
	/* An immediate full comparison, beside the regular ones; what waits to be tried again is
	 * tried now. */
	void (*resync)(struct feed *feed);
	/* More is known than before: an answer that was judged without it is to come again. NULL:
	 * what it says is never taken for loss. */
	void (*doubt)(struct feed *feed);
	/* For status: connections to the source now. */
	unsigned (*n_connections)(const struct source *source);
	/* What full comparisons found that had been missed; NULL: there is no such thing. */
	uint64_t (*n_repairs)(const struct source *source);
	uint64_t n_errors[TREE_N_ERROR_KINDS]; /* attempts that failed, counted by tree_fail() */
};

struct trees; /* all trees of the daemon */
int trees_new(struct loop *loop, struct source *source, struct trees **ret_trees);
struct trees *trees_free(struct trees *trees); /* no tree may be left */

unsigned trees_count(const struct trees *trees);
/* In order of prefixes; NULL: the first, and behind the last. */
struct tree *trees_next(struct trees *trees, struct tree *tree);

/* The tree of a prefix, started when new; give back with tree_unref. */
int trees_get(struct trees *trees, const char *prefix, struct tree **ret_tree);
struct tree *tree_unref(struct tree *tree);

/* An immediate full comparison with the source. */
void tree_resync(struct tree *tree);

/*
 * What a backup says of a tree that has no answer yet, but for one that is held: answers are
 * compared with it. Takes the set, which may lack keys that a higher layer had, too, and is added
 * to what other backups said; NULL: only the state changes. confirmed_at is loop_now() time and may
 * lie before the clock began.
 */
void tree_restore(struct tree *tree, struct kvset *set, uint64_t confirmed_at);

/* It has said what the contents are, and would say it again, should a backup know more. */
bool tree_may_be_doubted(const struct tree *tree);
/* What it said lacks much of this set, which is taken. Until it has said it again it has not
 * answered. */
void tree_doubt(struct tree *tree, struct kvset *set);

/* The contents are kept there from now on; takes the set, which is the same. */
void tree_keep_as(struct tree *tree, struct kvset *set);

void tree_observe(struct tree *tree, struct tree_observer *observer);
void tree_unobserve(struct tree_observer *observer);

/* From the source. tree_apply takes the set on every path; true when the content is another. */
bool tree_apply(struct tree *tree, struct kvset *set);
void tree_confirm(struct tree *tree);
/* Keeps the set aside; takes it. The same doubt again is no news, though the set may be another. */
void tree_hold(struct tree *tree, struct kvset *set, enum tree_doubt doubt, const char *reason);
/* The source says again what is held. */
void tree_hold_on(struct tree *tree);
void tree_fail(struct tree *tree, enum tree_error_kind kind, uint64_t retry_at, const char *format,
	...) PRINTF_FORMAT(4, 5);

/* How much longer what is held will be: UINT64_MAX: until somebody or something else ends it. */
uint64_t tree_hold_left_usec(const struct tree *tree);
/* Makes what is held the contents. False: nothing is. */
bool tree_accept(struct tree *tree);

/* It said nothing when it was asked last. A refusal is an answer. */
bool tree_is_silent(const struct tree *tree);

/* Zeroed memory is no error. `since` stays as long as there is one. True: it says something new. */
bool tree_error_set(struct tree_error *error, enum tree_error_kind kind, const char *message);
void tree_error_clear(struct tree_error *error);
/* One line, no values, no tokens. */
const char *tree_error_message(const struct tree_error *error);
const char *tree_error_kind_name(enum tree_error_kind kind);
