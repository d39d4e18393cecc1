/*
 * The source that is Consul: for each tree a watch and a resync, over one agent; doorbells for the
 * trees that are more than the connections carry polls (HTTP/1.1: one each; HTTP/2: 100).
 */
#pragma once

#include "daemon/config.h"
#include "daemon/loop.h"
#include "daemon/tree.h"

/* The configuration is borrowed until another one is given. 0, -ENOMEM. */
int consul_source_new(struct loop *loop, const struct config *config, struct source **ret_source);
struct source *consul_source_free(struct source *source); /* all feeds are stopped before */

/*
 * After a reload. Ends polls only when address, token, TLS, datacenter or namespace are others. On
 * failure (-ENOMEM) the old configuration stays in use.
 */
int consul_source_reconfigure(struct source *source, const struct config *config);

/* False while a watch or a resync is overdue by far: the watchdog is not fed then. */
bool consul_source_is_on_time(const struct source *source);
