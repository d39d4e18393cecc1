/*
 * A tree that the Consul source feeds, with the test in the place of Consul and of the clock.
 */
#pragma once

#include "daemon/config.h"
#include "daemon/consul-source.h"
#include "daemon/tree.h"
#include "fake-http.h"
#include "fake-loop.h"

#define FIXTURE_PREFIX "config/a/"
#define FIXTURE_WAIT (30 * USEC_PER_SEC)
#define FIXTURE_RESYNC (15 * 60 * USEC_PER_SEC)

/* Pools, in the order of enum agent_pool. */
#define POLLS 0
#define READS 1
#define RESYNCS 2

struct consul_fixture {
	struct loop *loop;
	char *addresses[2];
	struct config config;
	struct source *source;
	struct trees *trees;
	struct tree *tree;
	struct tree_observer observer;
	unsigned n_changes, n_states; /* told to the observer */
};

/* cmocka's: the source runs and the first read of the tree is under way. */
int consul_fixture_set_up(void **state);
int consul_fixture_tear_down(void **state);

/* An answer with these "key=value" pairs, ended by NULL. */
void consul_fixture_answer(struct http_request *request, const char *index, ...);
/* "k0=v", … with this many keys. */
void consul_fixture_answer_keys(
	struct http_request *request, const char *index, unsigned n_keys, const char *value);

/* Answers the first read with a=1 at index 10: a poll at 10 is under way then. */
void consul_fixture_load(struct consul_fixture *f);

/* Fails the test unless these "key=value" pairs are all that the tree holds. */
void consul_fixture_assert_content(struct consul_fixture *f, ...);

/* The one request that is under way: a poll, or a read at index 0, consistent or not. */
struct http_request *consul_fixture_expect_poll(const char *part);
struct http_request *consul_fixture_expect_read(bool consistent);

/* The read of one key that is under way, in the pool of reads or of resyncs. */
struct http_request *consul_fixture_expect_probe(unsigned pool, const char *key);
/* Answers n such reads, whatever their keys: 404 at index 99. */
void consul_fixture_answer_deleted(unsigned pool, unsigned n);

/* Fails the test unless the tree holds an answer of so many keys back for this reason. */
void consul_fixture_assert_held(
	struct consul_fixture *f, enum tree_doubt doubt, size_t n_keys, const char *reason);
/* Lets the next read of what is held come. */
struct http_request *consul_fixture_expect_look(struct consul_fixture *f);

/* Fails the test unless the tree has this error and asks again within a second. */
void consul_fixture_assert_failed(
	struct consul_fixture *f, enum tree_error_kind kind, const char *message);
/* Lets that come: a plain read at index 0, as there are contents. */
struct http_request *consul_fixture_expect_retry(struct consul_fixture *f);
