/*
 * [service NAME-OR-GLOB] sections. config_rule_for() is declared in config.h.
 */
#pragma once

#include "daemon/config-draft.h"

/* Of services' names. */
bool config_rule_is_glob(const char *text);

/* Is this the section of a rule, whatever the name in it? */
bool config_rule_is_section(const char *section);

/* The section that the draft is at; makes its rule when it is new. 0, -ENOMEM, -EINVAL. */
int config_rule_enter(struct config_draft *draft);
/* The setting that the draft is at, below a section that was entered. 0, -ENOMEM, -EINVAL. */
int config_rule_set(struct config_draft *draft, const char *value);

/*
 * When all is read: gives each rule what [service *] says and it does not, puts [service *] last,
 * and checks the layers. 0, -ENOMEM, -EINVAL.
 */
int config_rule_finish(struct config_draft *draft);

void config_rule_done(struct config_rule *rule);
