/*
 * Follows one service over a link: what the handle's thread that works calls step by step. Gives
 * newer views and what the daemon says about the service. Knows no threads and no forks.
 *
 * By shared memory: FETCH brings descriptors of images, GENFILE the file whose slot tells without a
 * system call that there is a newer one. Where that cannot be (another major version of the image,
 * a sandbox without mmap or descriptors), over the socket: OPEN, and LIST for every page of the
 * service, from which a view is built here.
 *
 *   down --connect--> fetching (FETCH, GENFILE pending) --OK, KEEP--> settled --ask--> fetching
 *                       | no data: FETCH waits                           | WATCH waits, if wanted
 *                       | cannot map: OPEN, then LIST until complete, then WATCH
 *   any failure --> down, connected again when the back-off has passed
 */
#pragma once

#include "client/lib/backoff.h"
#include "client/lib/genmap.h"
#include "client/lib/link.h"
#include "client/lib/pages.h"
#include "client/lib/view.h"

struct follow {
	const char *service;
	struct link link;
	struct pages pages;
	/* Of requests under way, or 0. wait_tag: a FETCH that waits for another generation. */
	uint32_t open_tag, list_tag, watch_tag, fetch_tag, wait_tag, genfile_tag;
	uint64_t generation; /* of the view given last, 0: none yet */
	bool is_over_socket; /* this connection brings no descriptors that we can use */
	unsigned n_failed_fetches; /* so many connections died over one, the last ones */
	bool is_settled; /* this connection has brought data, or said there is nothing newer */
	bool wants_notice; /* somebody polls the link: it must become readable at a change */
	struct backoff reconnecting;
	int error; /* why the link is down, or 0 */

	struct genmap *map; /* NULL: none yet */
	bool has_map; /* it is of the daemon of this connection */
	const struct genfile_slot *slot; /* of the service; NULL: none, or not known */
	uint64_t change; /* of the slot as of the last answer */

	/* What steps brought; the caller takes it and sets it back. */
	struct ccfg_view *news; /* a newer view, or NULL */
	bool has_info;
	struct wire_info info;
};

/* Connects nothing; `service` is borrowed. 0, -ENAMETOOLONG. */
int follow_init(struct follow *follow, const char *service, const char *socket_path);
void follow_done(struct follow *follow);

/*
 * In the child of a fork that holds a view of that generation: begins anew with a connection of its
 * own. is_whole false: a thread of the parent may have been in the middle of a step; what it was
 * changing is left alone, at the price of its memory.
 */
void follow_restart(struct follow *follow, uint64_t generation, bool is_whole);

/*
 * One reply, after connecting where needed: 0; -ETIMEDOUT: none until the deadline; -EINTR; any
 * other error: the link is down. Look at news and has_info after each.
 */
int follow_step(struct follow *follow, uint64_t deadline);

/* Queues the question for anything newer when the slot has moved, or when a slot is not known. */
void follow_ask(struct follow *follow);

/* A newer generation is to arrive by itself, with as few steps as can be; for who waits now. */
void follow_ask_to_wait(struct follow *follow);

/* From now on the link becomes readable at each change. */
void follow_want_notice(struct follow *follow);

/* Whether a reply is owed that a daemon in good health gives at once. */
bool follow_is_owed(const struct follow *follow);

/* Whether a step without waiting would do anything. At most one system call, but for twice a
 * second. */
bool follow_has_work(struct follow *follow);
