/*
 * What a watch is told: written down while the library calls, without the interpreter's lock, and
 * wrapped for Python later. A Change owns its record.
 */
#pragma once

#include "client/python/module.h"

struct watch;

struct change_record {
	struct change_record *next;
	struct watch *watch; /* whom it is for */
	uint64_t generation;
	size_t key_len, old_len, new_len;
	bool has_old, has_new;
	char bytes[]; /* key, old, new */
};

extern PyTypeObject change_type;

/* malloc(3)ed; NULL: no memory. */
struct change_record *change_record_new(const struct ccfg_change *change, struct watch *watch);
void change_record_free(struct change_record *record);

/* Takes the record over, also in failure. */
PyObject *change_new(struct change_record *record, PyObject *service);
