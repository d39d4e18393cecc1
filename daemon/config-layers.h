/*
 * Layers: templates such as config/{env}/{service}/, the labels that they name, and the prefixes
 * that they make. config_layers() itself is declared in config.h.
 */
#pragma once

#include "daemon/config-draft.h"

/* Makes the label that the draft is at. 0, -ENOMEM, -EINVAL after config_draft_fail(). */
int config_layers_set_label(struct config_draft *draft, const char *value);

/*
 * Judges the templates of a rule when all labels are known. The draft is at the line that gave
 * them. 0, -ENOMEM, -EINVAL after config_draft_fail().
 */
int config_layers_check(struct config_draft *draft, const struct config_rule *rule);
