/*
 * The state of things as JSON, the objects of `consulcfg-status --json`. What later versions can
 * tell (held, frozen, overrides, backups) is there from the first one, as nothing.
 */
#pragma once

#include "daemon/json.h"
#include "daemon/server.h"

void status_daemon(const struct server *server, struct json *json);
void status_service(const struct service *service, struct json *json);
void status_change(const struct change *change, struct json *json);
