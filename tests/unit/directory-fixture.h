/*
 * For the tests of the directory source: a temporary directory, a source that reads it, one tree,
 * and waiting until something holds. It stands in front of the C library's inotify functions, so
 * that a test can have them fail.
 */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "daemon/config.h"
#include "daemon/directory.h"
#include "daemon/loop.h"
#include "daemon/tree.h"

#define PREFIX "config/billing/"
#define BASE "root/config/billing/"

enum fixture_watches {
	FIXTURE_WATCHES_WORK,
	FIXTURE_WATCHES_FAIL, /* none are left */
	FIXTURE_WATCHES_ARE_DEAF, /* made, but they tell nothing */
};

/* Back at their first values in each test. */
extern enum fixture_watches fixture_watches;
extern bool fixture_has_no_instance;

struct directory_fixture;

typedef bool (*fixture_condition_fn)(struct directory_fixture *f, const void *argument);

struct directory_fixture {
	char base[PATH_MAX / 2]; /* the files of the test; the source's path is base/root */
	char path[PATH_MAX];
	struct config config;
	struct loop *loop;
	struct loop_timer *tick;
	unsigned n_ticks; /* turns of the loop, one a millisecond */
	struct source *source;
	struct trees *trees;
	struct tree *tree; /* of PREFIX */
	struct tree_observer observer;
	unsigned n_changes; /* of its contents */
	/* What holds for all contents that are published; NULL: anything. */
	bool (*invariant)(const struct kvset *content);
	bool was_violated;
	/* Of fixture_run(). */
	fixture_condition_fn condition;
	const void *argument;
	uint64_t deadline;
	bool was_met;
};

int directory_fixture_set_up(void **state);
int directory_fixture_tear_down(void **state);
/* Makes the source, with the settings of f->config, and the tree. */
void fixture_start(struct directory_fixture *f);

/* Files, relative to f->base. They end the process when they fail: children use them, too. */
const char *fixture_path(struct directory_fixture *f, const char *name); /* until the next call */
void fixture_put(struct directory_fixture *f, const char *name, const char *text);
void fixture_make_dirs(struct directory_fixture *f, const char *name);
void fixture_rename(struct directory_fixture *f, const char *from, const char *to);
void fixture_link(struct directory_fixture *f, const char *target, const char *name);
void fixture_delete(struct directory_fixture *f, const char *name);
void fixture_delete_all(struct directory_fixture *f, const char *name);

/* Runs the loop until the condition holds; fails when it does not within a deadline. */
void fixture_run(struct directory_fixture *f, fixture_condition_fn condition, const void *argument);
/* Runs the loop for a while in which the invariant is watching. */
void fixture_let_pass(struct directory_fixture *f, uint64_t usec);
/* Until the tree has this many keys. */
void fixture_expect_count(struct directory_fixture *f, size_t n);
/* Until the source failed so; the last good value of `key` must still be there. */
void fixture_expect_failure(
	struct directory_fixture *f, enum tree_error_kind kind, const char *text, const char *key);
/* Until a child ended, successfully. */
void fixture_wait_for(struct directory_fixture *f, pid_t child);

/* Until the tree is live and its contents are exactly these "key=value" pairs, ended by NULL. */
void fixture_expect(struct directory_fixture *f, const char *const *pairs);
#define EXPECT(f, ...) fixture_expect(f, (const char *const[]){ __VA_ARGS__, NULL })
#define EXPECT_NOTHING(f) fixture_expect(f, (const char *const[]){ NULL })

bool fixture_find(const struct kvset *set, const char *key, struct record *ret_record);
