#include "daemon/service-state.h"

#include <stdio.h>

#include "daemon/service-pin.h"

/* The worst of the layers: frozen > held > loading > backup > stale > live. */
enum wire_state service_state(const struct service *service)
{
	enum wire_state worst = WIRE_LIVE;

	if (service_pin_is_frozen(service) && service->snapshot)
		return WIRE_FROZEN;
	if (service->withheld)
		worst = WIRE_HELD;
	else if (service->is_restored)
		worst = WIRE_BACKUP;
	else if (!service->snapshot)
		worst = WIRE_LOADING;
	for (unsigned i = 0; i < service->n_layers; i++)
		if (wire_state_is_worse(service->layers[i].tree->state, worst))
			worst = service->layers[i].tree->state;
	return worst;
}

/* Indexes of one Consul: the highest is that of the newest change. */
uint64_t service_state_index(const struct service *service)
{
	uint64_t index = 0;

	for (unsigned i = 0; i < service->n_layers; i++)
		if (service->layers[i].tree->content)
			index = MAX(index, service->layers[i].tree->content->index);
	return index;
}

/* Differences, as what a backup says may lie before the clock began. */
uint64_t service_state_age_usec(const struct service *service)
{
	uint64_t now = loop_now(), age = service->is_restored ? now - service->restored_at : 0;

	for (unsigned i = 0; i < service->n_layers; i++)
		if (service->layers[i].tree->content)
			age = MAX(age, now - service->layers[i].tree->confirmed_at);
	/* What the source confirms since is something else. */
	if (service->refusal != 0)
		age = MAX(age, now - service->refused_at);
	return age;
}

const char *service_state_prefix(
	const struct service *service, const struct tree *tree, char buf[LIMIT_KEY + 1])
{
	char *name;

	snprintf(buf, LIMIT_KEY + 1, "%s", tree->prefix);
	name = service_shown_name(service) > service->name ? strstr(buf, service->name) : NULL;
	if (name)
		memmove(name, name + 1, strlen(name));
	return buf;
}

const struct tree_error *service_state_error(const struct service *service)
{
	if (service->error.is_set)
		return &service->error;
	for (unsigned i = 0; i < service->n_layers; i++)
		if (service->layers[i].tree->error.is_set)
			return &service->layers[i].tree->error;
	return NULL;
}
