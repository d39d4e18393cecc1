/*
 * The generation file: one small file of the daemon, mapped by every client, that tells without a
 * system call whether a service has changed. consulcfg-image(5) describes it for strangers.
 *
 * A header and then slots, all in the byte order of the host. A slot belongs to a service as long
 * as the daemon says so in its reply to FETCH, and may belong to another one later: no names stand
 * here. Clients compare `change` with `!=` and ask by name. It is raised with each publication,
 * when a slot is given to another service, and for every slot when a daemon starts.
 *
 * The file is made once, at full size, and is never truncated: it is the one mapping that cannot be
 * sealed. It may grow; who has a shorter mapping asks for the file anew.
 */
#pragma once

#include <stdatomic.h>

#include "proto/std.h"

#define GENFILE_MAGIC_BYTES                                                                        \
	{                                                                                          \
		'C', 'C', 'F', 'G', 'G', 'E', 'N', '\n'                                            \
	}
#define GENFILE_MAJOR 1 /* another major: another layout, not readable */
#define GENFILE_MINOR 0 /* a higher minor only adds what readers may ignore */
#define GENFILE_NO_SLOT UINT32_MAX

struct genfile_header {
	uint8_t magic[8];
	uint16_t major;
	uint16_t minor;
	uint32_t header_size; /* slots begin here */
	uint32_t slot_size; /* from one to the next */
	_Atomic uint32_t n_slots;
	_Atomic uint64_t alive_at; /* the daemon's heartbeat: CLOCK_BOOTTIME, ns */
	_Atomic uint64_t alive_for; /* ns; an older heartbeat is that of a dead daemon */
	_Atomic uint32_t n_used; /* slots from here on were never given to a service */
	uint32_t zero;
	uint8_t unused[16];
};

struct genfile_slot {
	_Atomic uint64_t change;
	_Atomic uint64_t confirmed_at; /* by the source: CLOCK_BOOTTIME, ns; 0: not known */
	_Atomic uint64_t index; /* Consul's, of the newest layer */
	_Atomic uint32_t state; /* enum wire_state */
	uint32_t zero;
	uint8_t unused[32];
};

_Static_assert(sizeof(struct genfile_header) == 64, "generation file layout");
_Static_assert(sizeof(struct genfile_slot) == 64, "generation file layout");
_Static_assert(offsetof(struct genfile_header, alive_at) == 24, "generation file layout");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock would live in one process only");

static inline size_t genfile_size(uint32_t n_slots)
{
	return sizeof(struct genfile_header) + (size_t)n_slots * sizeof(struct genfile_slot);
}
