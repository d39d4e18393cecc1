/*
 * A service: a name, its layers (trees, the last wins) merged into one image, published as a
 * snapshot with a generation. THE WAIST: the half of the daemon that talks to the source and the
 * half that talks to clients meet only here.
 *
 * A service lives while it has users and for `linger` after the last one left; preloaded ones
 * live as long as the daemon. It ends from a timer, or to make room in services_want(): giving one
 * back, or anything a waiter does, never frees a service, a tree or a feed that is on the stack.
 */
#pragma once

#include "daemon/announcer.h"
#include "daemon/config.h"
#include "proto/glob.h"
#include "daemon/judge.h"
#include "daemon/list.h"
#include "daemon/loop.h"
#include "daemon/snapshot.h"
#include "daemon/tree.h"

struct services;
struct service;

/* Told after each publication; for sessions. */
typedef void (*service_waiter_fn)(struct service *service, void *userdata);

struct service_waiter {
	struct list link; /* service::waiters */
	service_waiter_fn fn;
	void *userdata;
};

/* What the layers make and clients do not get: it breaks the schema. */
struct withheld {
	bool is_set;
	char reason[SCHEMA_MESSAGE]; /* which key and why, without its value */
	uint64_t since; /* loop_now() */
	size_t n_keys;
	uint64_t digest;
};

struct service_layer {
	struct service *service;
	struct tree *tree;
	struct tree_observer observer;
};

struct service {
	RB_ENTRY(service) link; /* services::table */
	struct services *services;
	char name[LIMIT_SERVICE_NAME + 1];
	unsigned n_users;
	bool is_preloaded;
	struct loop_timer *linger;
	struct list idle_link; /* services::idle, while nobody uses it */
	struct service_layer *layers; /* an array: most services have one */
	unsigned n_layers;
	struct glob_list locks; /* keys that belong to the lowest layer that has them */
	struct judge judge; /* by the schema */
	struct withheld withheld;
	struct snapshot *snapshot; /* the published one; NULL while loading */
	uint64_t generation; /* of the snapshot; 0 while loading */
	struct announcement announcement;
	struct list waiters;
	struct publication *publication; /* under way, or NULL */
	bool is_dirty; /* a layer changed since the publication under way began */
	uint64_t published_at; /* loop_now() */
	struct loop_timer *publish_timer;
	struct tree_error error; /* why the newest contents could not be published */
};

/* genfile may be NULL; all are borrowed. */
int services_new(struct loop *loop, struct trees *trees, struct genfile *genfile,
	const struct config *config, struct services **ret_services);
struct services *services_free(struct services *services);

/* Preloads, and after a reload applies, the configured services. Layers that a reload changed take
 * effect at once. */
int services_configure(struct services *services, const struct config *config);

/*
 * The service of that name, started when it is new; one user more. Give it back with
 * service_unwant(). One that lingers ends where max_services would be exceeded. -EINVAL: not a
 * name; -ENOBUFS: max_services are in use; -ENOMEM.
 */
int services_want(
	struct services *services, const char *name, size_t name_len, struct service **ret_service);
void service_unwant(struct service *service);

/* NULL when it is not running. Starts nothing. */
struct service *services_find(struct services *services, const char *name, size_t name_len);

void service_add_waiter(struct service *service, struct service_waiter *waiter);
void service_remove_waiter(struct service_waiter *waiter);

enum wire_state service_state(const struct service *service);
/* The place in the generation file as clients see it now. */
uint64_t service_change(struct service *service);
/* Consul's index, the highest of its layers. */
uint64_t service_index(const struct service *service);
/* When the source last confirmed the whole content (the oldest of its layers), loop_now() time. */
uint64_t service_confirmed_at(const struct service *service);
/* Its own error, else the first layer's, or NULL. Valid until the loop goes on. */
const struct tree_error *service_error(const struct service *service);

size_t services_count(const struct services *services);
/* In name order: the first service whose name is above `after` (NULL: the first). */
struct service *services_next(struct services *services, const char *after);
void services_resync(struct services *services, struct service *service_or_null);
