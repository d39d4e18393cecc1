/*
 * What Config and View have in common: reads of a pinned view. A config's follows the daemon: each
 * read asks the library whether there is something newer, a few loads from memory, and pins that.
 */
#pragma once

#include "client/python/pinned.h"

struct reader {
	PyObject ob_base;
	ccfg *cfg; /* NULL: a view, or closed */
	struct pinned *pinned; /* NULL: closed */
	PyObject *service; /* str */
};

extern PyTypeObject reader_type;

/* Pins what is newer, where there may be something. 0, or -1 with an exception. */
int reader_refresh(struct reader *reader);

/* The newest, borrowed: good until the interpreter's lock is given away. NULL with Closed. */
static inline struct pinned *reader_newest(struct reader *reader)
{
	if (LIKELY(reader->cfg != NULL)) {
		uint64_t generation = ccfg_current(reader->cfg);

		if (LIKELY(generation == reader->pinned->generation && generation != 0))
			return reader->pinned;
	}
	return reader_refresh(reader) < 0 ? NULL : reader->pinned;
}

/* Gives its view back; what is begun goes on with its own. */
void reader_close(struct reader *reader);
