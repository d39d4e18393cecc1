/*
 * What the command line says of the configuration, above every file.
 */
#pragma once

#include "daemon/config-draft.h"

struct options; /* daemon/options.h */

/* --set first, then the options of their own. 0, -ENOMEM, -EINVAL after config_draft_fail(). */
int config_options_apply(struct config_draft *draft, const struct options *options);
