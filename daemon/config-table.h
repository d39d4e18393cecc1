/*
 * The settings that exist once: [source], [consul], [services], [socket] and
 * [exit]. One row of a table per
 * key says how its value reads, within which bounds, and where it goes.
 */
#pragma once

#include "daemon/config-draft.h"

bool config_table_has_section(const char *section);

/*
 * Makes the setting that the draft is at (its place, section and key). 0; -ENOMEM; -EINVAL after
 * config_draft_fail(), also for a key that does not exist.
 */
int config_table_set(struct config_draft *draft, const char *value);

/* A file's mode in octal. 0, -EINVAL. */
int config_table_parse_mode(struct config_draft *draft, const char *value, unsigned *ret_mode);

/* Where a key was given last; its `file` is NULL when it has its default. */
const struct config_place *config_table_place(
	const struct config_draft *draft, const char *section, const char *key);

/* Makes this (normalised) address the only one. 0, -ENOMEM. */
int config_table_set_address(struct config_draft *draft, const char *address);
