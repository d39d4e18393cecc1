/*
 * Which file knows a section: one way in for whatever names settings, be it a file or --set.
 */
#pragma once

#include "daemon/config-draft.h"

/* The section that the draft is at, before its settings. 0, -ENOMEM, -EINVAL after
 * config_draft_fail(). */
int config_section_enter(struct config_draft *draft);

/* The setting that the draft is at, in a section that was entered. The same results. */
int config_section_set(struct config_draft *draft, const char *value);
