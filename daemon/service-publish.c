#include "daemon/service-publish.h"

#include "daemon/log.h"
#include "daemon/publication.h"
#include "daemon/recall.h"
#include "daemon/service-backup.h"
#include "daemon/service-outcome.h"
#include "daemon/service-pin.h"
#include "daemon/service-state.h"
#include "daemon/services.h"

#define PUBLISH_BUDGET_USEC                                                                        \
	2000 /* CPU time of one turn of the loop; clients are served in between */
#define SAME_MAX (4u << 20) /* bytes that are compared in one go */

void service_publish_show(struct service *service)
{
	enum wire_state state = service_state(service);

	announcer_show(service->services->announcer, &service->announcement,
		service_state_age_usec(service), service_state_index(service), state);
	if (state != service->told_state)
		service_outcome_state(service, state);
}

/* Waiters may come and go, themselves and each other, while they are told. */
void service_publish_tell(struct service *service)
{
	struct list waiting = LIST_INIT(waiting);

	service_publish_show(service);
	list_splice(&waiting, &service->waiters);
	while (!list_is_empty(&waiting)) {
		struct service_waiter *waiter =
			LIST_ENTRY(waiting.next, struct service_waiter, link);

		list_unlink(&waiter->link);
		list_append(&service->waiters, &waiter->link);
		waiter->fn(service, waiter->userdata);
	}
}

/*
 * Above every generation of this service that any client can have seen: those of earlier daemons
 * were below their clock, too.
 */
static uint64_t next_generation(const struct service *service)
{
	uint64_t last = MAX(service->generation, backup_generation(service->backup));

	return MAX(MAX(last, service->seen_generation), loop_realtime_usec()) + 1;
}

/* Contents of before are published once more. */
static void renew(const struct service *service, struct snapshot *snapshot)
{
	snapshot->generation = next_generation(service);
	snapshot->published_at = loop_realtime_usec();
}

bool service_publish_is_possible(const struct service *service)
{
	if (service->restore)
		return false;
	for (unsigned i = 0; i < service->n_layers; i++)
		if (!service->layers[i].tree->has_answered)
			return false;
	return service->n_layers > 0;
}

bool service_publish_is_under_way(const struct service *service)
{
	return service->publication || loop_timer_is_armed(service->publish_timer);
}

static int make_publication(struct service *service, struct kvset *overrides)
{
	struct kvset *sets[PUBLICATION_SETS];
	unsigned n = service->n_layers;
	int r;

	for (unsigned i = 0; i < n; i++)
		sets[i] = service->layers[i].tree->content;
	if (overrides)
		sets[n++] = overrides;
	r = publication_new(sets, n, service->config->max_service, &service->publication);
	if (r < 0)
		return r;
	publication_lock(service->publication, &service->locks, service->n_layers);
	publication_judge(service->publication, &service->judge);
	return 0;
}

/* Where operators have a say, what the source says is recorded first. */
static int start_publication(struct service *service)
{
	service->is_dirty = false;
	service->publishing_since = service->changed_at;
	service->changed_at = 0;
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

/* What the backup said is right: nobody has anything to learn. */
static bool is_as_restored(const struct service *service, const struct image *image)
{
	const struct image *old = &service->snapshot->image;

	return service->is_restored && !service->is_foreign &&
	       service->seen_generation <= service->generation && old->size == image->size &&
	       image->size <= SAME_MAX && memcmp(old->data, image->data, image->size) == 0;
}

/* Takes the snapshot. */
static void replace_snapshot(struct service *service, struct snapshot *snapshot)
{
	if (!service->snapshot) {
		backup_list_changed(backups_list(service->backups));
		services_note_loaded(service->services);
	}
	service->is_restored = false;
	if (service->snapshot && *service->name != SERVICE_HIDDEN)
		changes_note(service->services->changes, service->name, service->snapshot, snapshot,
			service_state_index(service));
	service->is_foreign = false;
	announcer_put_aside(service->services->announcer, service->snapshot);
	service->snapshot = snapshot;
	service->is_pinned = service_pin_is_there(service);
	service->generation = snapshot->generation;
	announcer_raise_soon(service->services->announcer, &service->announcement);
	service_outcome_new(service);
}

/*
 * What is one layer's alone is in memory once: the tree has it from now on as clients do. It is
 * most of what a daemon of many services would have twice.
 */
static void share_records(const struct service *service)
{
	struct tree *tree = service->layers[0].tree;
	struct snapshot *snapshot = service->snapshot;
	struct kvset *set;

	if (!publication_is_of(service->publication, tree->content) ||
		kvset_is_borrowed(tree->content) ||
		kvset_move(tree->content, &snapshot->image, snapshot_give_back, snapshot, &set) < 0)
		return;
	snapshot_ref(snapshot);
	tree_keep_as(tree, set);
}

/*
 * What the source says is recorded, or was not good enough for that: now what is served instead.
 * 0: nothing changes there; 1: there is more to do; -errno.
 */
static int finish_recording(struct service *service)
{
	int r = service_pin_restore(service);

	if (r < 0)
		return r;
	if (service_pin_is_frozen(service))
		return 0;
	service->publication = publication_free(service->publication);
	return start_pinned_publication(service) < 0 ? -ENOMEM : 1;
}

/* 0; 1: there is more to do; -errno. */
static int finish_publication(struct service *service)
{
	struct snapshot *snapshot;
	int r;

	r = publication_take(service->publication, next_generation(service), &snapshot);
	if (r < 0)
		return r;
	snapshot->published_at = loop_realtime_usec();
	if (service->is_recording) {
		service_pin_note(service, snapshot);
		service_backup_record(service, snapshot);
		snapshot_unref(snapshot);
		r = finish_recording(service);
		if (r == 0)
			service->is_restored = false;
		return r;
	}
	if (service->snapshot && is_as_restored(service, &snapshot->image)) {
		snapshot_unref(snapshot);
		service->is_restored = false;
		return 0;
	}
	replace_snapshot(service, snapshot);
	share_records(service);
	service->is_foreign = service_backup_is_late(service);
	tally_update(services_tally(service->services), service->publishing_since);
	return 0;
}

/* The source's contents break the schema, and are not recorded. Overrides may mend them. */
static int refuse_recording(struct service *service)
{
	int r = finish_recording(service);

	return r == 0 ? -EKEYREJECTED : r;
}

/* Works at the publication for one budget; 1: more to do, 0: done, -errno. */
static int work_on_publication(struct service *service)
{
	uint64_t end = loop_cpu_usec() + PUBLISH_BUDGET_USEC;
	int r;

	do
		r = publication_step(service->publication);
	while (r > 0 && loop_cpu_usec() < end);
	if (r == -EKEYREJECTED && service->is_recording)
		return refuse_recording(service);
	return r == 0 ? finish_publication(service) : r;
}

/* The newest is withheld, and what is served came when operators said something that they do not
 * say any more. */
static bool must_fall_back(const struct service *service)
{
	return service->withheld && service->is_pinned && !service_pin_is_there(service);
}

static void take_newest(struct service *service, struct snapshot *snapshot, uint64_t confirmed_at)
{
	if (!service_publish_is_possible(service) && !service_pin_is_frozen(service)) {
		service_publish_restored(service, snapshot, confirmed_at);
	} else if (must_fall_back(service)) {
		renew(service, snapshot);
		replace_snapshot(service, snapshot);
		service_publish_tell(service);
	} else {
		snapshot_unref(snapshot);
	}
}

static void say_unreadable(const struct service *service, int error)
{
	log_error("%s: the newest of its history cannot be read: %s", service->name,
		strerror(-error));
}

static void on_newest(void *userdata, struct snapshot *snapshot, int error)
{
	struct service *service = userdata;
	uint64_t confirmed_at = recall_confirmed_at(service->recall);

	service->recall = recall_free(service->recall);
	if (snapshot)
		take_newest(service, snapshot, confirmed_at);
	else
		say_unreadable(service, error);
	service_publish_quiet(service);
}

/* What the source said last, as far as it was good. */
static void recall_newest(struct service *service)
{
	uint64_t generation;
	int r;

	if (service->recall)
		return;
	r = service_backup_find(service, NULL, &generation);
	if (r == 0)
		r = recall_new(service->services->loop, service->backups, service->name, generation,
			on_newest, service, &service->recall);
	if (r < 0 && r != -ENOENT && r != -EXDEV)
		say_unreadable(service, r);
}

static void work(struct service *service)
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
	if (r < 0)
		r = service_outcome_bad(service, r);
	else
		service_outcome_good(service);
	service->publication = publication_free(service->publication);
	service->published_at = loop_now();
	if (r == 0)
		service_backup_note(service);
	if (r == -EKEYREJECTED && must_fall_back(service))
		recall_newest(service);
	/* Changes that came meanwhile make one more publication, all together. What failed for want
	 * of memory, descriptors or room may work soon, without a change. */
	if (r < 0 && service_outcome_may_pass(r)) {
		service->is_dirty = true;
		loop_timer_arm(service->publish_timer, LIMIT_PUBLISH_RETRY_USEC);
	} else if (service->is_dirty) {
		loop_timer_arm(service->publish_timer, LIMIT_COALESCE_USEC);
	}
	service_publish_tell(service);
	service_publish_quiet(service);
}

static void on_publish_timer(void *userdata)
{
	struct service *service = userdata;

	if (service_publish_is_possible(service)) {
		work(service);
		return;
	}
	/* A layer is doubted since: all is published when it has answered. */
	if (service->publication) {
		service->publication = publication_free(service->publication);
		service->changed_at = loop_now();
	}
	service->is_dirty = false;
	if (service_pin_restore(service) < 0)
		service_publish_later(service);
}

int service_publish_init(struct service *service)
{
	return loop_timer_new(
		service->services->loop, on_publish_timer, service, &service->publish_timer);
}

void service_publish_drop(struct service *service)
{
	service->publication = publication_free(service->publication);
	loop_timer_disarm(service->publish_timer);
	service->is_dirty = false;
	service->changed_at = 0;
}

/* At once, as long as that does not hold up the loop: a tree may be a layer of a thousand services,
 * all of which hear of its change in one callback. */
static void work_in_turn(struct service *service)
{
	struct services *services = service->services;
	uint64_t start = loop_cpu_usec();

	if (services->spent_usec >= PUBLISH_BUDGET_USEC) {
		loop_timer_arm(service->publish_timer, 0);
		return;
	}
	work(service);
	services->spent_usec += loop_cpu_usec() - start;
	if (!loop_timer_is_armed(services->turn))
		loop_timer_arm(services->turn, 0);
}

void service_publish(struct service *service)
{
	uint64_t age = loop_now() - service->published_at;

	service->is_dirty = true;
	if (service->changed_at == 0)
		service->changed_at = loop_now();
	if (service->publication || loop_timer_is_armed(service->publish_timer))
		return;
	if (service->published_at != 0 && age < LIMIT_COALESCE_USEC)
		loop_timer_arm(service->publish_timer, LIMIT_COALESCE_USEC - age);
	else
		work_in_turn(service);
}

static bool is_same(const struct image *a, const struct image *b)
{
	return a->size == b->size && a->digest == b->digest;
}

/* A backup goes on being one. */
static void serve_instead(
	struct service *service, struct snapshot *snapshot, const uint64_t *restored_at)
{
	service_publish_drop(service);
	if (service->snapshot && is_same(&service->snapshot->image, &snapshot->image)) {
		snapshot_unref(snapshot);
		service->is_pinned = service_pin_is_there(service);
	} else {
		renew(service, snapshot);
		replace_snapshot(service, snapshot);
		service->published_at = loop_now();
		service->is_restored = restored_at != NULL;
		service->restored_at = restored_at ? *restored_at : 0;
	}
	service_backup_keep(service);
	service_publish_tell(service);
}

void service_publish_instead(struct service *service, struct snapshot *snapshot)
{
	service->recall = recall_free(service->recall);
	serve_instead(service, snapshot, NULL);
	/* What was under way is to be recorded. */
	if (service_publish_is_possible(service))
		service_publish(service);
}

void service_publish_restored(
	struct service *service, struct snapshot *snapshot, uint64_t confirmed_at)
{
	serve_instead(service, snapshot, &confirmed_at);
}

void service_publish_later(struct service *service)
{
	service->is_dirty = true;
	if (!service->publication)
		loop_timer_arm(service->publish_timer, LIMIT_PUBLISH_RETRY_USEC);
}

void service_publish_again(struct service *service, bool is_thawed)
{
	service_publish_drop(service);
	service->recall = recall_free(service->recall);
	if (service_publish_is_possible(service))
		service_publish(service);
	else if (!service_pin_is_there(service) || is_thawed || !service->snapshot)
		recall_newest(service);
	service_publish_show(service);
}

bool service_publish_is_busy(const struct service *service)
{
	return service->restore || service->recall || service->publication || service->is_dirty ||
	       loop_timer_is_armed(service->publish_timer);
}

void service_publish_quiet(void *userdata)
{
	struct service *service = userdata;
	struct list waiting = LIST_INIT(waiting);

	list_splice(&waiting, &service->quiet);
	while (!list_is_empty(&waiting)) {
		struct service_waiter *waiter =
			LIST_ENTRY(waiting.next, struct service_waiter, link);

		list_unlink(&waiter->link);
		list_append(&service->quiet, &waiter->link);
		waiter->fn(service, waiter->userdata);
	}
}
