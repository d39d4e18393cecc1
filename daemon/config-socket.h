/*
 * [socket NAME] sections: further listeners that see only their services.
 */
#pragma once

#include "daemon/config-draft.h"

/* Is this the section of a further listener, whatever the name in it? */
bool config_socket_is_section(const char *section);

/* The section that the draft is at; makes its listener when it is new. 0, -ENOMEM, -EINVAL. */
int config_socket_enter(struct config_draft *draft);
/* The setting that the draft is at, below a section that was entered. 0, -ENOMEM, -EINVAL. */
int config_socket_set(struct config_draft *draft, const char *value);
/* When all is read. 0, -ENOMEM, -EINVAL. */
int config_socket_finish(struct config_draft *draft);

void config_socket_done(struct config_socket *socket);
