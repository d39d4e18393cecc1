/*
 * The state of the daemon and its services for people: as a table, what is not well first, each
 * with what to do about it; or as a line of each, without what changes all the time.
 */
#pragma once

#include "client/tools/output.h"

struct table_style {
	bool has_color;
	unsigned columns; /* lines are no longer, 0: as long as they are */
};

/* From the daemon's JSON objects. 0, -EBADMSG, -ENOMEM. */
int table_print(struct output *output, const struct table_style *style, const struct output *daemon,
	const struct output *services);
int table_lines(struct output *output, const struct output *daemon, const struct output *services);
