/*
 * What all sessions share: the objects they serve from, the users they belong to, their deadlines,
 * and the two buffers that one turn of one session borrows. Owns the sessions.
 *
 * Knows no protocol. Whoever waits for something that happened to a service is woken from here, a
 * batch per loop turn: a publication that a thousand clients wait for does not stop the loop.
 */
#pragma once

#include "daemon/deadline.h"
#include "daemon/guard.h"
#include "daemon/user.h"

struct session;

#define SERVER_IN (LIMIT_READ_BATCH + sizeof(struct wire_header))
/* A request is handled while less than LIMIT_OUTPUT waits, and no reply is larger than this. */
#define SERVER_OUT (LIMIT_OUTPUT + LIMIT_MGET_REPLY + 4 * LIMIT_FRAME)

_Static_assert(LIMIT_READ_BATCH >= LIMIT_FRAME, "a whole frame fits");

struct server {
	struct loop *loop;
	struct services *services;
	const struct source *source;
	struct genfile *genfile;
	struct backups *backups; /* NULL: there are none */
	struct loop_timer *heartbeat; /* of the generation file, while anybody looks at it */
	const struct config *config;
	struct guard *guard;
	uint64_t started_at; /* loop_now() */
	struct list sessions; /* session::link */
	unsigned n_sessions;
	uint64_t unused_since; /* loop_now(): the end of the last session, or the start */
	unsigned max_sessions; /* of users but root: descriptors are left for the source */
	struct users users;
	/* Decisions about access carry the number of their time; older ones are taken anew. */
	unsigned epoch;
	struct loop_timer *epoch_timer;
	struct deadlines hellos, requests, stalls, pins;
	struct list woken; /* session::woken_link */
	unsigned turn; /* a number for the time between two looks at `woken` */
	bool is_waking;
	unsigned n_served; /* users, since the last of these looks */
	uint64_t shared_at; /* loop_now(): more than one was */
	unsigned n_crowded; /* turns in a row that put somebody off */
	struct loop_timer *wake_timer;
	struct list listings; /* listing::link */
	struct loop_timer *listing_timer;
	uint8_t *in; /* what one turn received, SERVER_IN bytes */
	uint8_t *out; /* what one turn replies, SERVER_OUT bytes */
	size_t out_len;
	uint64_t complained_at; /* loop_now() */
	unsigned n_unsaid; /* complaints since */
};

/* All arguments are borrowed and outlive the server; genfile may be NULL. 0 or -errno. */
int server_new(struct loop *loop, struct services *services, const struct source *source,
	struct genfile *genfile, const struct config *config, struct server **ret_server);

/* Closes every session; listeners go first. */
struct server *server_free(struct server *server);

/* After a reload; the old one is not used any more when this returns. */
void server_configure(struct server *server, const struct config *config);

/* The number of decisions about access that are taken now; it ends by itself. */
unsigned server_epoch(struct server *server);

/* For how long there has been no session; 0 while there is one. */
uint64_t server_unused_usec(const struct server *server);

/* A session has come: the generation file shows that we live. */
void server_start_heartbeat(struct server *server);

/*
 * What all connections of a user may spend together before others have their turn. Where there is
 * one user alone that is what one connection may spend.
 */
unsigned server_share(struct server *server, struct user *user);

/* Whether there is more than one user: what any of them costs at a time the others wait. */
bool server_is_shared(const struct server *server);

/* How much of a reply one connection may be sent, or have made, at a time. */
size_t server_share_bytes(const struct server *server);

/* The session has a turn of its own soon. */
void server_wake(struct server *server, struct session *session);

/*
 * One line about a client, at level warning; what a client can cause without end is not logged
 * without end.
 */
void server_complain(struct server *server, uid_t uid, const char *what);
