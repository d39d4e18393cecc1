/*
 * What operators do to a service: freeze it, thaw it, give single keys other values. Survives
 * restarts, ends by itself where it has an end, and is logged; what the source says goes on being
 * recorded in the history.
 */
#pragma once

#include "daemon/pin.h"
#include "daemon/service.h"

/* What the disk has of it; for service_new(). What cannot be believed is set aside, loudly. */
void service_pin_load(struct service *service);
void service_pin_done(struct service *service);

static inline bool service_pin_is_frozen(const struct service *service)
{
	return service->pins && service->pins->is_frozen;
}

static inline bool service_pin_is_there(const struct service *service)
{
	return service->pins && !pins_are_empty(service->pins);
}

/* The digest of what the source said last; false: nothing since the start. */
bool service_pin_said(const struct service *service, uint64_t *ret_digest);
/* The source says this, while something else may be served. */
void service_pin_note(struct service *service, const struct snapshot *snapshot);

/* Of what a backup has: whether the service is frozen at other contents, which the history has.
 * Where it has not that is logged, and ends the freeze. */
bool service_pin_is_other(struct service *service, const struct snapshot *snapshot);
/* Where nothing is served yet: what it is frozen at is a moment later. -errno: it cannot be had for
 * now. Where it is gone that is logged, and ends the freeze. */
int service_pin_restore(struct service *service);

/*
 * From now on the service has these contents of its history, under a new number unless they are
 * those that are served. Takes the snapshot, which nobody else has. 0, -ENOMEM.
 */
int service_pin_freeze(
	struct service *service, struct snapshot *snapshot, const struct pin_note *note);
/* -ENOENT: it was not frozen. */
int service_pin_thaw(struct service *service, const char *by);

/* -ENOBUFS: LIMIT_PINS. */
int service_pin_override(struct service *service, const char *key, size_t key_len,
	const char *value, size_t value_len, const struct pin_note *note);
/* key_len 0: all. -ENOENT: there was none. */
int service_pin_clear(struct service *service, const char *key, size_t key_len, const char *by);
