/*
 * A server without a listener: sessions over socketpairs, real services, a source driven by hand.
 * Clients are driven from the same thread, while the loop turns.
 */
#pragma once

#include "test.h"

#include "daemon/genfile.h"
#include "daemon/server.h"
#include "daemon/session.h"
#include "fake-source.h"
#include "proto/wire.h"

#define FIXTURE_STRANGER 12345 /* a uid that no rule names */

struct fixture {
	struct loop *loop;
	struct loop_timer *tick;
	struct fake_source fake;
	struct trees *trees;
	struct genfile *genfile;
	struct config config;
	struct config_rule rules[3];
	struct access_subject nobody;
	struct services *services;
	struct server *server;
};

struct client {
	struct fixture *f;
	struct session *session; /* gone when the daemon ended it */
	int fd;
	uint8_t *in;
	size_t len, allocated, consumed;
	uint32_t last_tag;
	bool is_eof;
};

struct frame {
	unsigned op, status;
	uint32_t tag;
	const uint8_t *payload; /* until the next frame */
	size_t len;
};

/* "billing" and others: config/NAME/; "shared-*": all of them shared/; "secret-*": for nobody. */
int fixture_set_up(void **state);
int fixture_tear_down(void **state);

/* Lets the loop turn that often. */
void fixture_turn(struct fixture *f, unsigned n);

/* Lets it turn until the condition holds; fails the test after 10 s. */
void fixture_until(struct fixture *f, bool (*holds)(void *), void *userdata);

/* Records of a tree with values of any size: key N has sizes[N] bytes and is called "key-N". */
void fixture_apply_sizes(
	struct fixture *f, const char *prefix, const size_t *sizes, size_t n, char fill);

struct client *client_new(struct fixture *f); /* connected, nothing said */
struct client *client_new_with_hello(struct fixture *f);
struct client *client_free(struct client *client);

void client_send(struct client *client, const void *data, size_t len);
uint32_t client_request(struct client *client, enum wire_op op, const struct wire_request *request);

/* The usual ones; they return the tag. */
uint32_t client_open(struct client *client, const char *service, uint32_t timeout_ms);
uint32_t client_close(struct client *client, const char *service);
uint32_t client_get(struct client *client, const char *service, const char *key);
uint32_t client_list(struct client *client, const char *service, const char *prefix,
	uint64_t generation, uint64_t cursor);
uint32_t client_watch(struct client *client, const char *service, uint64_t generation);
uint32_t client_status(struct client *client, enum wire_status_what what, const char *text);

/* Whether a whole frame has arrived by now. */
bool client_has_frame(struct client *client);

/* The next frame, waited for. */
struct frame client_frame(struct client *client);

/* The next frame, which must be this one. */
struct frame client_expect(struct client *client, uint32_t tag, enum wire_status status);
void client_expect_text(
	struct client *client, uint32_t tag, enum wire_status status, const char *part);
void client_expect_value(struct client *client, uint32_t tag, const char *value);
struct wire_info client_expect_info(struct client *client, uint32_t tag);
void client_expect_end(struct client *client);
