/*
 * From what the layers of a service say to what its clients have: recorded, judged, published,
 * told; in slices, and in turns with other services. Generations only grow.
 */
#pragma once

#include "daemon/service.h"

int service_publish_init(struct service *service);

/* Clients that only read see state and age here. */
void service_publish_show(struct service *service);
/* The same, and whoever waits for a change. */
void service_publish_tell(struct service *service);

/* Whether all layers have said what they have: only then there is something to publish. */
bool service_publish_is_under_way(const struct service *service);

bool service_publish_is_possible(const struct service *service);

/* A layer changed. The first change goes out at once; a storm is coalesced. */
void service_publish(struct service *service);
/* What was to be published is not the configuration any more. */
void service_publish_drop(struct service *service);

/* Whether what is served is about to be another. */
bool service_publish_is_busy(const struct service *service);
/* Tells service::quiet that something under way has ended. The argument is the service. */
void service_publish_quiet(void *userdata);

/* From now on this is served, under a new generation unless it is the same; takes the snapshot,
 * which nobody else has. */
void service_publish_instead(struct service *service, struct snapshot *snapshot);
/* The same while the source is away; confirmed_at: when it had said so, loop_now() time. */
void service_publish_restored(
	struct service *service, struct snapshot *snapshot, uint64_t confirmed_at);
/* What is served is made anew, from what the source said, or from the newest that is recorded: a
 * moment later. While the source is away overrides wait for it, unless a freeze has ended. */
void service_publish_again(struct service *service, bool is_thawed);
/* What could not be had for now is tried again. */
void service_publish_later(struct service *service);
