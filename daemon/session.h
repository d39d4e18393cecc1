/*
 * The daemon's end of one connection: bytes in, frames to commands, replies out.
 *
 * One turn: flush what waits, receive once, handle the frames at hand, flush once. What a turn
 * cannot send is kept, and a client that does not take its replies is not read from.
 *
 * The input holds at most one frame's length. Replies collect in the server's buffer and are
 * copied only when the socket is full. At most one large value is under way; it is sent from its
 * snapshot, and requests behind it wait.
 */
#pragma once

#include "daemon/access.h"
#include "daemon/buffer.h"
#include "daemon/opened.h"
#include "daemon/server.h"

struct errand;
struct listing;
struct lookups;

struct session {
	struct list link; /* server::sessions */
	struct server *server;
	struct user *user;
	struct loop_io *io;
	int fd;
	unsigned wanted; /* events that io was told */
	bool has_hello;
	bool is_safe; /* see guard_is_safe() */
	bool is_eof; /* no more requests come */
	bool is_closing; /* no more requests are handled */
	bool is_blocked; /* the socket takes no more for now */
	bool is_woken; /* something happened to a service that a request waits for */
	bool has_frame; /* input holds a whole request that was not handled yet */
	bool has_sent, has_handled; /* in this turn: a byte, a request */
	unsigned budget; /* of this turn, see LIMIT_TURN_COST */
	unsigned put_off; /* events of turns that the user's other connections had no share left for
			   */
	size_t n_buffered; /* bytes that the user was charged for */
	struct buffer input;
	struct buffer output;
	struct snapshot *large; /* a value under way behind output, or NULL */
	const uint8_t *large_data;
	size_t large_len;
	int fds[LIMIT_DESCRIPTORS]; /* to go with the next byte that is sent */
	unsigned n_fds;
	unsigned n_untaken; /* descriptors sent since the client had last read everything */
	struct openings openings;
	struct list pendings; /* pending::link */
	unsigned n_pendings;
	struct loop_timer *pending_timer; /* for OPEN with a time-out */
	struct list woken_link; /* server::woken */
	struct listing *listing; /* a STATUS reply in the making, or NULL */
	struct lookups *lookups; /* an MGET reply in the making, or NULL */
	struct errand *errand; /* a reply that takes a while, or NULL */
	struct snapshot *pinned; /* that LIST goes on with, or NULL */
	struct opened *pinned_from;
	struct deadline pin_deadline;
	struct deadlines *clock; /* which of the server's deadlines runs, or NULL */
	struct deadline deadline;
	struct access_peer peer;
};

/*
 * Serves a connected, non-blocking stream socket that came by a [socket NAME], or by the main one
 * (""); fd is consumed on success. The server owns the
 * session, which ends by itself. -EUSERS: the user has max_clients_per_user; -ENFILE: the daemon
 * has as many clients as it can.
 */
int session_new(struct server *server, int fd, const char *socket, struct session **ret_session);
struct session *session_free(struct session *session);

/* One turn; may free the session. */
void session_turn(struct session *session, unsigned events);

/* Takes a turn of its own soon to answer what waits. */
void session_wake(struct session *session);

/* Whether one more request may be answered now. */
bool session_is_ready(const struct session *session);

/* Takes from the turn's budget; at 0 other clients have their turn first. */
void session_spend(struct session *session, size_t cost);
#define SESSION_BYTES_PER_COST 512 /* copied into a reply, or sent */

/* Whether one more descriptor may go to this client now. One system call. */
bool session_may_pass(struct session *session);

/* Sends a descriptor with the replies under way; takes it. Only when session_may_pass(). */
void session_pass(struct session *session, int fd);

/* Ends after what was replied has been sent. */
void session_end(struct session *session);

/* Keeps a snapshot of an opened service for the next page of a list; NULL lets go. */
void session_pin(struct session *session, struct snapshot *snapshot, struct opened *opened);

/* For the server. */
void session_on_deadline(struct deadline *deadline);
void session_on_pin_deadline(struct deadline *deadline);
