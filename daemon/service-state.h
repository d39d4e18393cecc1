/*
 * What can be said of a service: state, age, error. Changes nothing.
 */
#pragma once

#include "daemon/service.h"

enum wire_state service_state(const struct service *service);
/* Consul's index, the highest of its layers. */
uint64_t service_state_index(const struct service *service);
/* Time since the source last confirmed the whole content (the oldest of its layers). */
uint64_t service_state_age_usec(const struct service *service);
/* Of a layer, without SERVICE_HIDDEN: of a hidden service as of one that was not hidden. */
const char *service_state_prefix(
	const struct service *service, const struct tree *tree, char buf[LIMIT_KEY + 1]);
/* Its own error, else the first layer's, or NULL. Valid until the loop goes on. */
const struct tree_error *service_state_error(const struct service *service);
