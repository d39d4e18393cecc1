/*
 * Pages: the entries of a service, of one generation, as LIST replies bring them one after the
 * other.
 */
#pragma once

#include "client/lib/link.h"
#include "proto/record.h"

/* Zeros: nothing asked yet. */
struct pages {
	uint64_t generation;
	uint64_t cursor; /* of the next page */
	struct records records; /* in key order */
	size_t last_off; /* of the record added last */
	uint64_t digest; /* over keys and values */
};

/* Queues the request for the next page. */
int pages_ask(struct pages *pages, struct link *link, const char *service, const char *prefix,
	uint32_t *ret_tag);

/* Takes an OK reply. 1: there are more pages; 0: complete; -EBADMSG, -ENOMEM. */
int pages_add(struct pages *pages, const struct link_reply *reply);

/* Wipes and frees the records; the struct is zeros again. */
void pages_done(struct pages *pages);
