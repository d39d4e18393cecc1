/*
 * Follows one service over a link: what the handle's thread that works calls step by step. Gives
 * newer views and what the daemon says about the service. Knows no threads and no forks.
 *
 * A WATCH request is pending on the link; when it is answered the pages of the whole service are
 * fetched, from which the next view is built.
 *
 *   down --connect--> opening (OPEN pending) --> fetching --complete--> watching --answer-->
 * fetching any failure --> down, connected again when the back-off has passed
 */
#pragma once

#include "client/lib/backoff.h"
#include "client/lib/link.h"
#include "client/lib/pages.h"
#include "client/lib/view.h"

struct follow {
	const char *service;
	struct link link;
	struct pages pages;
	uint32_t open_tag, list_tag, watch_tag; /* of requests under way, or 0 */
	uint64_t generation; /* of the view given last, 0: none yet */
	bool is_settled; /* this connection has brought data */
	struct backoff reconnecting;
	int error; /* why the link is down, or 0 */

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
 * own. is_whole false: a thread of the
 * parent may have been in the middle of a step; what it was changing is left alone, at the price of
 * its memory.
 */
void follow_restart(struct follow *follow, uint64_t generation, bool is_whole);

/*
 * One reply, after connecting where needed: 0; -ETIMEDOUT: none until the deadline; -EINTR; any
 * other error: the link is down. Look at news and has_info after each.
 */
int follow_step(struct follow *follow, uint64_t deadline);

/* Whether a reply is owed that a daemon in good health gives at once. */
bool follow_is_owed(const struct follow *follow);

/* Whether a step without waiting would do anything. At most one system call, but for twice a
 * second. */
bool follow_has_work(struct follow *follow);
