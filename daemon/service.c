#include "daemon/service.h"

#include <stdio.h>
#include <time.h>

#include "daemon/log.h"
#include "daemon/backup-history.h"
#include "daemon/publication.h"
#include "daemon/service-backup.h"
#include "daemon/service-pin.h"
#include "daemon/service-state.h"
#include "daemon/services.h"
#include "proto/key.h"

#define PUBLISH_BUDGET_USEC 2000 /* of one turn of the loop; clients are served in between */
#define SAME_MAX (4u << 20) /* bytes that are compared in one go */
#define SEEN_MAX_USEC (UINT64_C(86400) * USEC_PER_SEC) /* a clock may be wrong by a day */

/* Clients that only read see it here. */
static void show(const struct service *service)
{
	announcer_show(service->services->announcer, &service->announcement,
		service_state_age_usec(service), service_state_index(service),
		service_state(service));
}

/* Waiters may come and go, themselves and each other, while they are told. */
static void tell_waiters(struct service *service)
{
	struct list waiting = LIST_INIT(waiting);

	show(service);
	list_splice(&waiting, &service->waiters);
	while (!list_is_empty(&waiting)) {
		struct service_waiter *waiter =
			LIST_ENTRY(waiting.next, struct service_waiter, link);

		list_unlink(&waiter->link);
		list_append(&service->waiters, &waiter->link);
		waiter->fn(service, waiter->userdata);
	}
}

static uint64_t realtime_usec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_USEC;
}

/*
 * Above every generation of this service that any client can have seen: those of earlier daemons
 * were below their clock, too.
 */
static uint64_t next_generation(const struct service *service)
{
	uint64_t last = MAX(service->generation, backup_generation(service->backup));

	return MAX(MAX(last, service->seen_generation), realtime_usec()) + 1;
}

static bool all_layers_answered(const struct service *service)
{
	for (unsigned i = 0; i < service->n_layers; i++)
		if (!service->layers[i].tree->has_answered)
			return false;
	return service->n_layers > 0;
}

static int make_publication(struct service *service, struct kvset *overrides)
{
	struct kvset *sets[PUBLICATION_SETS];
	unsigned n = service->n_layers;

	for (unsigned i = 0; i < n; i++)
		sets[i] = service->layers[i].tree->content;
	if (overrides)
		sets[n++] = overrides;
	return publication_new(sets, n, service->config->max_service, &service->publication);
}

/* Where operators have a say, what the source says is recorded first. */
static int start_publication(struct service *service)
{
	service->is_dirty = false;
	service->is_recording = service_pin_is_there(service);
	return make_publication(service, NULL);
}

/* The same with what operators want in place of what the source says. */
static int start_pinned_publication(struct service *service)
{
	struct kvset *overrides;
	int r = pins_layer(service->pins, &overrides);

	if (r < 0)
		return r;
	service->is_recording = false;
	r = make_publication(service, overrides);
	kvset_unref(overrides);
	return r;
}

static void set_error(struct service *service, int error)
{
	const char *why = error == -EFBIG ? "its image would exceed max_service" : strerror(-error);

	log_error("%s: cannot publish: %s; serving the last good contents", service->name, why);
	if (!service->error.is_set)
		service->error.since = loop_now();
	service->error.is_set = true;
	service->error.kind = TREE_LIMIT;
	service->error.retry_at = 0;
	snprintf(service->error.message, sizeof(service->error.message), "cannot publish: %s", why);
}

/* In milliseconds, since the newest contents had come. */
static double cpu_since_answer(const struct service *service)
{
	uint64_t at = 0, now = loop_cpu_usec();

	for (unsigned i = 0; i < service->n_layers; i++)
		if (service->layers[i].tree->content)
			at = MAX(at, service->layers[i].tree->content->answered_cpu_usec);
	return at != 0 ? (double)(now - at) / 1000 : 0;
}

/* What the backup said is right: nobody has anything to learn. */
static bool is_as_restored(const struct service *service, const struct image *image)
{
	const struct image *old = &service->snapshot->image;

	return service->is_restored && service->seen_generation <= service->generation &&
	       old->size == image->size && image->size <= SAME_MAX &&
	       memcmp(old->data, image->data, image->size) == 0;
}

/* Takes the snapshot. */
static void replace_snapshot(struct service *service, struct snapshot *snapshot)
{
	if (!service->snapshot)
		backup_list_changed(backups_list(service->backups));
	service->is_restored = false;
	announcer_put_aside(service->services->announcer, service->snapshot);
	service->snapshot = snapshot;
	service->generation = snapshot->generation;
	announcer_raise_soon(service->services->announcer, &service->announcement);
	log_debug("%s: published generation %llu with %llu keys, %.2f ms of CPU after the answer",
		service->name, (unsigned long long)service->generation,
		(unsigned long long)snapshot->image.n_entries, cpu_since_answer(service));
}

/* Takes the snapshot: what the source says, where operators say something else. */
static int finish_recording(struct service *service, struct snapshot *snapshot)
{
	service_backup_record(service, snapshot);
	service->publication = publication_free(service->publication);
	/* Frozen, and what was frozen is lost: better this than nothing. */
	if (!service->snapshot || !service_pin_is_frozen(service)) {
		snapshot_unref(snapshot);
		return start_pinned_publication(service) < 0 ? -ENOMEM : 1;
	}
	snapshot_unref(snapshot);
	service->is_restored = false;
	return 0;
}

/* 0; 1: there is more to do; -errno. */
static int finish_publication(struct service *service)
{
	struct snapshot *snapshot;
	int r;

	r = publication_take(service->publication, next_generation(service), &snapshot);
	if (r < 0)
		return r;
	service->error.is_set = false;
	if (service->is_recording)
		return finish_recording(service, snapshot);
	if (service->snapshot && is_as_restored(service, &snapshot->image)) {
		snapshot_unref(snapshot);
		service->is_restored = false;
		return 0;
	}
	replace_snapshot(service, snapshot);
	return 0;
}

/* Works at the publication for one budget; 1: more to do, 0: done, -errno. */
static int work_on_publication(struct service *service)
{
	uint64_t end = loop_now() + PUBLISH_BUDGET_USEC;
	int r;

	do
		r = publication_step(service->publication);
	while (r > 0 && loop_now() < end);
	return r == 0 ? finish_publication(service) : r;
}

static void publish(struct service *service)
{
	int r = 0;

	if (!service->publication)
		r = start_publication(service);
	if (r == 0)
		r = work_on_publication(service);
	if (r > 0) {
		loop_timer_arm(service->publish_timer, 0);
		return;
	}
	service->publication = publication_free(service->publication);
	service->published_at = loop_now();
	if (r < 0)
		set_error(service, r);
	else
		service_backup_note(service);
	/* Changes that came meanwhile make one more publication, all together. */
	if (service->is_dirty)
		loop_timer_arm(service->publish_timer, LIMIT_COALESCE_USEC);
	tell_waiters(service);
}

static void on_publish_timer(void *userdata)
{
	publish(userdata);
}

/* The first change goes out at once; a storm is coalesced. */
static void request_publication(struct service *service)
{
	uint64_t age = loop_now() - service->published_at;

	service->is_dirty = true;
	if (service->publication || loop_timer_is_armed(service->publish_timer))
		return;
	if (service->published_at != 0 && age < LIMIT_COALESCE_USEC)
		loop_timer_arm(service->publish_timer, LIMIT_COALESCE_USEC - age);
	else
		publish(service);
}

/* All layers have answered. Whether what is served is not yet what they said. */
static bool needs_publication(const struct service *service)
{
	const struct kvset *content = service->layers[0].tree->content;

	if (!service->snapshot)
		return true;
	return service->is_restored &&
	       (service->n_layers > 1 || service->seen_generation > service->generation ||
		       content->digest != service->snapshot->image.digest);
}

static void on_answered(struct service *service, bool content_changed)
{
	if (content_changed || needs_publication(service)) {
		request_publication(service);
		return;
	}
	service->is_restored = false;
	show(service);
	if (!service->publication && !service->is_dirty)
		service_backup_note(service);
}

static void on_tree_changed(struct tree *tree, bool content_changed, void *userdata)
{
	struct service_layer *layer = userdata;
	struct service *service = layer->service;

	/* Nobody waits for a state, and each confirmation comes by here. */
	if (all_layers_answered(service) && tree->state == WIRE_LIVE)
		on_answered(service, content_changed);
	else
		show(service);
}

static void drop_layers(struct service *service)
{
	for (unsigned i = 0; i < service->n_layers; i++) {
		tree_unobserve(&service->layers[i].observer);
		tree_unref(service->layers[i].tree);
	}
	service->n_layers = 0;
	free(service->layers);
	service->layers = NULL;
}

static void free_prefixes(char *prefixes[], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free(prefixes[i]);
}

/* Takes the reference. */
static void add_layer(struct service *service, struct tree *tree)
{
	struct service_layer *layer = &service->layers[service->n_layers++];

	layer->service = service;
	layer->tree = tree;
	layer->observer.fn = on_tree_changed;
	layer->observer.userdata = layer;
	tree_observe(tree, &layer->observer);
}

static bool has_layers(const struct service *service, char *const prefixes[], unsigned n)
{
	if (service->n_layers != n)
		return false;
	for (unsigned i = 0; i < n; i++)
		if (!std_streq(service->layers[i].tree->prefix, prefixes[i]))
			return false;
	return true;
}

/* The new trees are taken before the old ones are dropped: one that stays is not restarted. */
static int replace_layers(struct service *service, char *const prefixes[], unsigned n)
{
	struct service_layer *layers = calloc(n, sizeof(*layers));
	struct tree *trees[LIMIT_LAYERS];
	int r = layers ? 0 : -ENOMEM;

	for (unsigned i = 0; i < n && r == 0; i++) {
		r = trees_get(service->services->trees, prefixes[i], &trees[i]);
		while (r < 0 && i > 0)
			tree_unref(trees[--i]);
	}
	if (r < 0) {
		free(layers);
		return r;
	}
	/* What was to be published is not the configuration any more. */
	service->publication = publication_free(service->publication);
	loop_timer_disarm(service->publish_timer);
	service->is_dirty = false;
	drop_layers(service);
	service->layers = layers;
	for (unsigned i = 0; i < n; i++)
		add_layer(service, trees[i]);
	/* Trees that other services already watch have their contents now. */
	if (all_layers_answered(service))
		request_publication(service);
	else
		show(service);
	return 0;
}

static void set_hold(struct service *service)
{
	for (unsigned i = 0; i < service->n_layers; i++)
		service->layers[i].observer.hold_usec =
			config_rule_hold_usec(service->services->config, service->name);
}

int service_apply_layers(struct service *service)
{
	char *prefixes[LIMIT_LAYERS];
	int n, r = 0;

	n = config_layers(service->services->config, service->name, prefixes);
	if (n < 0)
		return n;
	if (service->restore) {
		free_prefixes(prefixes, (unsigned)n);
		return 0; /* they are taken when it is done */
	}
	if (!has_layers(service, prefixes, (unsigned)n))
		r = replace_layers(service, prefixes, (unsigned)n);
	set_hold(service);
	free_prefixes(prefixes, (unsigned)n);
	return r;
}

/* What is served from now on is a backup. */
static void adopt(struct service *service, struct snapshot *snapshot)
{
	uint64_t confirmed_at = loop_now();

	(void)backup_is_known(service->backup, &confirmed_at);
	service->snapshot = snapshot;
	service->generation = snapshot->generation;
	service->is_restored = true;
	service->restored_at = confirmed_at;
	announcer_raise_soon(service->services->announcer, &service->announcement);
	log_debug("%s: serving the backup of generation %llu until the source answers",
		service->name, (unsigned long long)service->generation);
}

/* With what is known of them, so that answers can be judged. */
static int end_restore(struct service *service)
{
	struct restore *restore = TAKE_PTR(service->restore);
	int r = service_apply_layers(service);

	for (unsigned i = 0; service->is_restored && i < service->n_layers; i++)
		tree_restore(service->layers[i].tree, restore_take_layer(restore, i),
			service->restored_at);
	restore_free(restore);
	show(service);
	return r;
}

/* 0; -errno: the layers cannot be had. */
static int work_on_restore(struct service *service)
{
	uint64_t end = loop_now() + PUBLISH_BUDGET_USEC;
	struct snapshot *snapshot;
	int r;

	do {
		r = restore_step(service->restore);
		snapshot = restore_take(service->restore);
		if (snapshot)
			adopt(service, snapshot);
	} while (r > 0 && loop_now() < end);
	if (r > 0)
		return loop_timer_arm(service->restore_timer, 0);
	return end_restore(service);
}

static void on_restore_timer(void *userdata)
{
	struct service *service = userdata;
	bool had_snapshot = service->snapshot;
	int r = work_on_restore(service);

	if (r < 0)
		log_error("%s: cannot be watched: %s", service->name, strerror(-r));
	if (!had_snapshot && service->snapshot)
		tell_waiters(service);
}

static bool is_same(const struct image *a, const struct image *b)
{
	return a->size == b->size && a->digest == b->digest;
}

void service_serve(struct service *service, struct snapshot *snapshot)
{
	service->publication = publication_free(service->publication);
	loop_timer_disarm(service->publish_timer);
	if (service->snapshot && is_same(&service->snapshot->image, &snapshot->image)) {
		snapshot_unref(snapshot);
	} else {
		snapshot->generation = next_generation(service);
		replace_snapshot(service, snapshot);
		service->published_at = loop_now();
	}
	service_backup_note(service);
	tell_waiters(service);
	/* What was under way is to be recorded. */
	if (all_layers_answered(service))
		request_publication(service);
}

void service_serve_again(struct service *service)
{
	struct snapshot *snapshot;

	service->publication = publication_free(service->publication);
	loop_timer_disarm(service->publish_timer);
	if (all_layers_answered(service)) {
		request_publication(service);
		return;
	}
	/* The source is away: the newest that it said. Overrides wait for it. */
	snapshot = backup_history_newest(service->backups, service->name);
	if (snapshot && !service_pin_is_frozen(service)) {
		service_serve(service, snapshot);
		service->is_restored = true;
		show(service);
		return;
	}
	snapshot_unref(snapshot);
	show(service);
}

static int start_layers(struct service *service)
{
	service_pin_load(service);
	service->backup = backups_find(service->backups, service->name);
	backup_set_used(service->backup, true);
	if (service_backup_begin(service, &service->restore) == 0)
		return work_on_restore(service);
	return service_apply_layers(service);
}

void service_free(struct service *service)
{
	service->restore = restore_free(service->restore);
	loop_timer_free(service->restore_timer);
	service->publication = publication_free(service->publication);
	drop_layers(service);
	loop_timer_free(service->linger);
	loop_timer_free(service->publish_timer);
	service_pin_done(service);
	backup_set_used(service->backup, false);
	snapshot_unref(service->snapshot);
	announcer_remove(service->services->announcer, &service->announcement);
	free(service);
}

int service_new(
	struct services *services, const char *name, size_t name_len, struct service **ret_service)
{
	struct service *service = calloc(1, sizeof(*service));
	int r;

	if (!service)
		return -ENOMEM;
	service->services = services;
	/* A hidden service is nobody's: nothing of it is kept. */
	service->backups = *name == SERVICE_HIDDEN ? NULL : services->backups;
	service->config = services->config;
	memcpy(service->name, name, name_len);
	announcer_add(services->announcer, &service->announcement);
	list_init(&service->waiters);
	list_init(&service->idle_link);
	r = loop_timer_new(services->loop, on_publish_timer, service, &service->publish_timer);
	if (r == 0)
		r = loop_timer_new(
			services->loop, on_restore_timer, service, &service->restore_timer);
	if (r == 0)
		r = start_layers(service);
	if (r < 0) {
		service_free(service);
		return r;
	}
	*ret_service = service;
	return 0;
}

const char *service_shown_name(const struct service *service)
{
	return service->name + (*service->name == SERVICE_HIDDEN);
}

void service_unwant(struct service *service)
{
	struct list *idle = &service->services->idle;

	if (--service->n_users > 0)
		return;
	loop_timer_arm(service->linger, service->services->config->linger_usec);
	if (service->snapshot && service->snapshot->image.n_entries > 0)
		list_append(idle, &service->idle_link);
	else
		list_append(idle->next, &service->idle_link); /* in front of the first */
}

bool service_has_news_for(struct service *service, uint64_t generation)
{
	if (!service->snapshot || service->snapshot->generation == generation)
		return false;
	if (!service->is_restored || generation < service->generation)
		return true;
	/* The daemon before had published what its backup did not get to hold any more. Whoever
	 * makes generations up gets what there is. */
	if (generation > realtime_usec() + SEEN_MAX_USEC)
		return true;
	service->seen_generation = MAX(service->seen_generation, generation);
	return false;
}

void service_add_waiter(struct service *service, struct service_waiter *waiter)
{
	list_append(&service->waiters, &waiter->link);
}

void service_remove_waiter(struct service_waiter *waiter)
{
	list_unlink(&waiter->link);
}

uint64_t service_change(struct service *service)
{
	return announcer_change(service->services->announcer, &service->announcement);
}
