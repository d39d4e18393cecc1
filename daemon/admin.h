/*
 * The admin port: health, readiness, status and a page for people. Sees everything that an operator
 * sees, never a value; who may connect is a matter of the address.
 */
#pragma once

#include "daemon/server.h"

struct admin;

/* All borrowed. A place that cannot be listened at is logged and left out: nobody's configuration
 * hangs on it. 0, -ENOMEM. */
int admin_new(struct server *server, const struct config *config, struct admin **ret_admin);
struct admin *admin_free(struct admin *admin);

/* After a reload; the old one is not used any more when this returns. */
void admin_configure(struct admin *admin, const struct config *config);
