/*
 * The CONSUL_* variables of Consul's own tools. They mean here what they mean there, but that a
 * boolean that does not parse is an error: there it switches the check of certificates off.
 */
#pragma once

#include "daemon/config-draft.h"

/* 0, -ENOMEM, -EINVAL after config_draft_fail(); a value is never in the message. */
int config_environment_apply(struct config_draft *draft);
