/*
 * A link: the client's end of one connection to the daemon. Knows frames and tags, not what they
 * are about. Not for two threads at a time.
 *
 * Requests are queued and go out together: HELLO, queued by link_connect(), travels with the first
 * requests. Replies come in the daemon's order, told apart by their tags.
 *
 * The descriptor lives in somebody else's process, which may close it and get the number back for
 * something of its own: before each use the link checks that the descriptor is still its socket.
 */
#pragma once

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "client/lib/clock.h"
#include "proto/limits.h"
#include "proto/wire.h"

#define LINK_DEFAULT_PATH "/run/consulcfgd/socket"
#define LINK_ENVIRONMENT "CONSULCFG_SOCKET"

struct link {
	struct sockaddr_un address;
	int fd; /* -1: not connected */
	dev_t dev; /* what fd was when it was ours */
	ino_t ino;
	uid_t euid; /* as whom the daemon knows us */
	uint64_t checked_at; /* link_has_input() looked at the identity */
	uint32_t last_tag;
	uint32_t hello_tag; /* 0: the daemon has greeted */
	char refusal[160]; /* what it said when it did not; not escaped */
	uint8_t *out; /* requests not yet sent: [out_start, out_end) */
	size_t out_start, out_end, out_allocated;
	uint8_t *in; /* bytes not yet taken: [in_start, in_end) */
	size_t in_start, in_end, in_allocated;
	int fds[LIMIT_RECEIVED_DESCRIPTORS]; /* received and not yet taken, oldest first */
	unsigned n_fds;
	bool has_lost_fds; /* some did not fit into this process: none is good any more */
	int epoll_fd; /* in which the connection always is; borrowed; -1: none */
};

struct link_reply {
	unsigned op;
	unsigned status; /* enum wire_status, or what a newer daemon may send */
	uint32_t tag;
	const uint8_t *payload; /* not aligned; until the next call on the link */
	size_t len;
};

/*
 * path: NULL for the environment's (not in set-user-ID programs), else the default one. Connects
 * nothing. 0, -ENAMETOOLONG. A link of zeros with fd -1 may be passed to link_done(), too.
 */
int link_init(struct link *link, const char *path);
void link_done(struct link *link);

const char *link_path(const struct link *link);

/* A new connection, the old one closed; queues HELLO. Never waits. 0 or -errno; -EAGAIN: the
 * daemon's queue of connections is full. */
int link_connect(struct link *link);

/* From now on the connection is in this epoll set, also after it was made anew. 0 or -errno. */
int link_poll_in(struct link *link, int epoll_fd);

/* Ends the connection; requests and replies under way are lost. */
void link_close(struct link *link);

/* In the child of a fork, when another thread of the parent may have been in the middle of
 * changing the link: lets go of the descriptor, leaves the memory alone. */
void link_abandon(struct link *link);

static inline bool link_is_up(const struct link *link)
{
	return link->fd >= 0;
}

static inline bool link_is_greeted(const struct link *link)
{
	return link->fd >= 0 && link->hello_tag == 0;
}

/* Queues a request. 0 with *ret_tag (never 0), -EMSGSIZE, -ENOMEM. */
int link_send(
	struct link *link, enum wire_op op, const struct wire_request *request, uint32_t *ret_tag);

/* Sends what the socket takes without waiting; link_receive() sends the rest. 0 or -errno. */
int link_flush(struct link *link);

/*
 * The next reply but that of HELLO, which is taken here. 0; -ETIMEDOUT: none until the deadline
 * (CLOCK_NO_WAIT: none now), also when one is coming that is too long for that; -EINTR: a signal
 * came while waiting. Of these two nothing is lost, call again. After any other error the link is
 * of no use until link_connect(): -ECONNRESET: the daemon is gone; -ENOTCONN: the descriptor was
 * taken from us; -EBADMSG, -EPROTONOSUPPORT, ….
 */
int link_receive(struct link *link, uint64_t deadline, struct link_reply *ret_reply);

/*
 * The descriptor that came with a reply that carries one, to be called once for each such reply,
 * in order; the caller closes it. -EMFILE: one did not fit into this process, since when none of
 * this connection is given; -EBADMSG: none came.
 */
int link_take_fd(struct link *link);

/* Whether this process has another user since the connection was made. One system call. */
bool link_is_of_another_user(const struct link *link);

/* Whether a whole reply was received and not yet taken: the socket does not tell of it again. */
bool link_has_reply(const struct link *link);

/* Whether link_receive() has something to say without waiting. One system call, twice a second
 * one more. */
bool link_has_input(struct link *link);

/* Gives back buffers; for links that will be idle. */
void link_trim(struct link *link);

/* 0 for OK and KEEP, else the -errno that stands for a status. */
int link_status_error(unsigned status);

/* Copies a reply's struct: 0, -EBADMSG when the payload is too short. */
int link_reply_head(const struct link_reply *reply, void *ret_head, size_t size);
