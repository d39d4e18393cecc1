#include "daemon/service-state.h"

#include "daemon/service-pin.h"

/* The worst of the layers: frozen > held > loading > backup > stale > live. */
static int badness(enum wire_state state)
{
	switch (state) {
	case WIRE_LIVE:
		return 0;
	case WIRE_STALE:
		return 1;
	case WIRE_BACKUP:
		return 2;
	case WIRE_LOADING:
		return 3;
	case WIRE_HELD:
		return 4;
	case WIRE_FROZEN:
		return 5;
	}
	return 0;
}

enum wire_state service_state(const struct service *service)
{
	enum wire_state worst = service->snapshot ? WIRE_LIVE : WIRE_LOADING;

	if (service_pin_is_frozen(service) && service->snapshot)
		return WIRE_FROZEN;
	if (service->is_restored)
		worst = WIRE_BACKUP;
	for (unsigned i = 0; i < service->n_layers; i++)
		if (badness(service->layers[i].tree->state) > badness(worst))
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
	return age;
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
