/*
 * What clients of a service would get if what is held of it, or withheld, were taken: its layers
 * with what each of them keeps aside, under the overrides. Made in slices when somebody asks, and
 * then kept for whoever asks next: clients get descriptors, and whatever they keep of these is one
 * image. Knows services, no sessions.
 */
#pragma once

#include "daemon/service.h"

struct preview;

struct preview_waiter {
	struct list link; /* preview::waiters; unlink it to leave */
	/* Once, maybe from within preview_ask(). Borrows the snapshot; NULL: -errno of
	 * publication_step(); -ENOENT: nothing is held; -ECANCELED: the service ended. */
	void (*fn)(struct preview_waiter *waiter, struct snapshot *snapshot, int error);
};

void preview_ask(struct service *service, struct preview_waiter *waiter);

/* Something changed: what nobody would be shown any more goes. */
void preview_review(struct service *service);
struct preview *preview_free(struct preview *preview);
