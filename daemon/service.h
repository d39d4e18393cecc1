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
#include "daemon/backup.h"
#include "daemon/changes.h"
#include "daemon/config.h"
#include "proto/glob.h"
#include "daemon/judge.h"
#include "daemon/list.h"
#include "daemon/loop.h"
#include "daemon/snapshot.h"
#include "daemon/tally.h"
#include "daemon/tree.h"

/*
 * In front of a name: the service as those see it from whom it is hidden. It is one that nobody
 * has, with layers of its own in which there is nothing, and lives like any other. No client can
 * ask for such a name, no source has keys for it.
 */
#define SERVICE_HIDDEN '-'

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
	struct backups *backups; /* NULL: there are none */
	const struct config *config;
	char name[1 + LIMIT_SERVICE_NAME + 1]; /* of a hidden one with SERVICE_HIDDEN in front */
	unsigned n_users;
	bool is_preloaded;
	struct loop_timer *linger;
	struct list idle_link; /* services::idle, while nobody uses it */
	struct service_layer *layers; /* an array: most services have one */
	unsigned n_layers;
	struct glob_list locks; /* keys that belong to the lowest layer that has them */
	struct judge judge; /* by the schema */
	struct withheld *withheld; /* NULL: nothing is */
	int refusal; /* -errno: why what the layers have is not served; 0: it is, or nobody tried */
	uint64_t refused_at; /* loop_now(): since when */
	struct snapshot *snapshot; /* the published one; NULL while loading */
	uint64_t generation; /* of the snapshot; 0 while loading */
	enum wire_state told_state; /* the one that was logged last */
	struct announcement announcement;
	struct list waiters;
	struct list quiet; /* service_waiter::link: told when something under way has ended */
	struct list orders; /* order::link: in the order they came, until each is in force */
	struct publication *publication; /* under way, or NULL */
	bool is_recording; /* the publication is for the history alone */
	struct preview *preview; /* of what is held; NULL: nobody asked */
	struct recall *recall; /* of what is to be served instead, under way; or NULL */
	struct pins *pins; /* what operators said; NULL: nothing ever */
	bool is_pinned; /* the snapshot came when they said something */
	struct loop_timer *pin_timer;
	bool is_dirty; /* a layer changed since the publication under way began */
	uint64_t published_at; /* loop_now() */
	uint64_t changed_at; /* loop_now() when the first change to be published was told; 0 */
	uint64_t publishing_since; /* the same of the publication under way */
	struct loop_timer *publish_timer;
	struct backup *backup; /* NULL: none yet */
	struct restore *restore; /* under way, the layers, or what they say, wait for it; or NULL */
	bool is_read; /* what is restored: the layers are taken, and compared with it */
	unsigned n_compared; /* layers */
	struct loop_timer *restore_timer; /* NULL: it has its layers */
	uint64_t identity; /* a hash: what backups must be of, as it is configured */
	bool is_foreign; /* the snapshot is of what the service was configured to be before */
	bool is_restored; /* the snapshot is a backup's, and the source has not confirmed it */
	uint64_t restored_at; /* when it had, loop_now() time; may lie before the clock began */
	uint64_t seen_generation; /* the highest that a client held when this was from a backup */
	struct tree_error error; /* why the newest contents could not be published */
};

/* genfile and backups may be NULL; all are borrowed. */
int services_new(struct loop *loop, struct trees *trees, struct genfile *genfile,
	struct backups *backups, const struct config *config, struct services **ret_services);
struct services *services_free(struct services *services);

/* Starts those that were in use when the daemon before ended, some in each turn of the loop. */
void services_await_clients(struct services *services);

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

/* Without SERVICE_HIDDEN. */
const char *service_shown_name(const struct service *service);

/* NULL when it is not running. Starts nothing. */
struct service *services_find(struct services *services, const char *name, size_t name_len);

/* The place in the generation file as clients see it now. */
uint64_t service_change(struct service *service);

/* Whether who holds that generation (0: none) is to have the published one. Not while that is of a
 * backup, and older. */
bool service_has_news_for(struct service *service, uint64_t generation);

void service_add_waiter(struct service *service, struct service_waiter *waiter);
void service_remove_waiter(struct service_waiter *waiter);

struct tally *services_tally(struct services *services);
struct changes *services_changes(struct services *services);
uint64_t services_n_backup_errors(const struct services *services);
size_t services_count(const struct services *services);
/* In name order: the first service whose name is above `after` (NULL: the first). */
struct service *services_next(struct services *services, const char *after);
void services_resync(struct services *services, struct service *service_or_null);
