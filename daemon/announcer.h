/*
 * Tells clients that only read, through the generation file, when a service has something newer:
 * not at once, but when the daemon is ready to be asked for it. Knows slots, no services.
 */
#pragma once

#include "daemon/genfile.h"
#include "daemon/list.h"
#include "daemon/loop.h"
#include "daemon/snapshot.h"

struct announcer;

/* A service's place. */
struct announcement {
	struct list link; /* announcer::due, or alone */
	uint32_t slot; /* GENFILE_NO_SLOT: there was none left */
};

/* genfile may be NULL: nobody looks. Both are borrowed. 0, -ENOMEM. */
int announcer_new(struct loop *loop, struct genfile *genfile, struct announcer **ret_announcer);
struct announcer *announcer_free(struct announcer *announcer); /* no announcement may be left */

void announcer_add(struct announcer *announcer, struct announcement *announcement);
void announcer_remove(struct announcer *announcer, struct announcement *announcement);

/* The slot is raised when the work that comes with an answer of the source is done. */
void announcer_raise_soon(struct announcer *announcer, struct announcement *announcement);

/* What the slot says to who asks now: what was to be raised soon is raised. */
uint64_t announcer_change(struct announcer *announcer, struct announcement *announcement);

/* State and freshness; see genfile_set(). */
void announcer_show(struct announcer *announcer, const struct announcement *announcement,
	uint64_t confirmed_age_usec, uint64_t index, uint32_t state);

/* Takes the reference to a snapshot that was replaced; it goes when clients have the next one. */
void announcer_put_aside(struct announcer *announcer, struct snapshot *snapshot);
