#include "daemon/service.h"

#include "daemon/log.h"
#include "daemon/preview.h"
#include "daemon/publication.h"
#include "daemon/recall.h"
#include "daemon/service-backup.h"
#include "daemon/service-pin.h"
#include "daemon/service-publish.h"
#include "daemon/services.h"

#define SEEN_MAX_USEC (UINT64_C(86400) * USEC_PER_SEC) /* a clock may be wrong by a day */
#define RESTORE_BUDGET_USEC 2000 /* of one turn of the loop; clients are served in between */

/* All layers have answered. Whether what is served is not yet what they said. */
static bool needs_publication(const struct service *service)
{
	const struct kvset *content = service->layers[0].tree->content;

	if (service->changed_at != 0)
		return true;
	/* The same would be refused again. */
	if (service->refusal == -EKEYREJECTED || service->refusal == -EFBIG)
		return false;
	if (!service->snapshot || service->refusal != 0 ||
		(service->is_foreign && !service_pin_is_frozen(service)))
		return true;
	return service->is_restored && (service->n_layers > 1 || service->judge.source ||
					       service->seen_generation > service->generation ||
					       content->digest != service->snapshot->image.digest);
}

static void on_answered(struct service *service, const struct tree *tree, bool content_changed)
{
	if (content_changed && service->changed_at == 0)
		service->changed_at = tree->content->heard_at;
	if (content_changed || needs_publication(service)) {
		service_publish(service);
		return;
	}
	if (service->refusal == 0)
		service->is_restored = false;
	service_publish_show(service);
	if (!service->publication && !service->is_dirty)
		service_backup_note(service);
}

/* What changes while another layer is doubted is published when that has answered. */
static void note_change(struct service *service, bool content_changed)
{
	if (content_changed && service->snapshot && !service->is_restored &&
		service->changed_at == 0)
		service->changed_at = loop_now();
	service_publish_show(service);
}

static void on_tree_changed(struct tree *tree, bool content_changed, void *userdata)
{
	struct service_layer *layer = userdata;
	struct service *service = layer->service;

	/* Nobody waits for a state, and each confirmation comes by here. */
	if (service_publish_is_possible(service) && tree->state == WIRE_LIVE)
		on_answered(service, tree, content_changed);
	else
		note_change(service, content_changed);
	preview_review(service);
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
	service_publish_drop(service);
	drop_layers(service);
	service->layers = layers;
	for (unsigned i = 0; i < n; i++)
		add_layer(service, trees[i]);
	/* Trees that other services already watch have their contents now. */
	if (service_publish_is_possible(service))
		service_publish(service);
	else
		service_publish_show(service);
	return 0;
}

static void set_hold(struct service *service)
{
	for (unsigned i = 0; i < service->n_layers; i++)
		service->layers[i].observer.hold_usec =
			config_rule_hold_usec(service->services->config, service->name);
}

/* Gives the service its locks and its schema. 1: it had others, or a file may say something else.
 */
static int apply_rules(struct service *service)
{
	const struct config_rule *rule = config_rule_for(service->config, service->name);
	const struct glob_list wanted = { rule ? rule->lock : NULL, rule ? rule->n_lock : 0 };
	const char *schema = rule ? rule->schema : NULL;
	int r;

	if (!schema && !service->judge.source && glob_list_is_same(&service->locks, &wanted))
		return 0;
	service_publish_drop(service);
	glob_list_done(&service->locks);
	r = glob_list_copy(&wanted, &service->locks);
	if (r == 0)
		r = judge_configure(&service->judge, schema);
	return r < 0 ? r : 1;
}

int service_apply_layers(struct service *service)
{
	char *prefixes[LIMIT_LAYERS];
	int n, r = 0, has_others = apply_rules(service);

	if (has_others < 0)
		return has_others;
	service_backup_identify(service);
	n = config_layers(service->services->config, service->name, prefixes);
	if (n < 0)
		return n;
	if (service->restore && !service->is_read) {
		free_prefixes(prefixes, (unsigned)n);
		return 0; /* they are taken when it is done */
	}
	if (!has_layers(service, prefixes, (unsigned)n))
		r = replace_layers(service, prefixes, (unsigned)n);
	else if ((has_others > 0 || service->refusal == -EFBIG) &&
		 service_publish_is_possible(service))
		service_publish(service);
	set_hold(service);
	free_prefixes(prefixes, (unsigned)n);
	return r;
}

/* What is served from now on is a backup. */
static void adopt(struct service *service, struct snapshot *snapshot)
{
	uint64_t confirmed_at = loop_now();

	/* An order came in between: what it brought is newer. */
	if (service->snapshot) {
		snapshot_unref(snapshot);
		return;
	}
	(void)backup_is_known(service->backup, &confirmed_at);
	service->snapshot = snapshot;
	service->generation = snapshot->generation;
	service->is_restored = true;
	service->is_pinned = service_pin_is_there(service);
	service->restored_at = confirmed_at;
	announcer_raise_soon(service->services->announcer, &service->announcement);
	log_debug("%s: serving the backup of generation %llu until the source answers",
		service->name, (unsigned long long)service->generation);
}

/* For the first time. Others may have them already, and publishing must find what is frozen. */
static int take_layers(struct service *service)
{
	bool was_frozen = service_pin_is_frozen(service), is_late;
	int r;

	service_backup_identify(service); /* which ends what is being read */
	is_late = service_pin_restore(service) < 0;
	r = service_apply_layers(service);
	if (is_late)
		service_publish_later(service);
	if (was_frozen && !service_pin_is_frozen(service))
		service_publish_again(service, true);
	return r;
}

static void restore_layer(struct service *service, unsigned i)
{
	struct kvset *set = restore_take_layer(service->restore, i);
	uint64_t confirmed_at = loop_now();

	(void)backup_is_known(service->backup, &confirmed_at);
	if (set || service->is_restored)
		tree_restore(service->layers[i].tree, set, confirmed_at);
}

/* With what is known of them, so that answers can be judged. */
static int restore_layers(struct service *service)
{
	int r;

	service->is_read = true;
	r = take_layers(service);
	for (unsigned i = 0; !service->is_foreign && i < service->n_layers; i++)
		if (!tree_may_be_doubted(service->layers[i].tree))
			restore_layer(service, i);
	return r;
}

/* What was judged without this backup is judged again where it looks like loss. 1: more to do. */
static int compare_layer(struct service *service)
{
	unsigned i = service->n_compared;
	struct tree *tree;
	int r;

	if (i >= service->n_layers || service->is_foreign)
		return 0;
	tree = service->layers[i].tree;
	r = restore_compare(service->restore, i, tree->content);
	if (r > 0)
		return r;
	service->n_compared++;
	if (!tree_may_be_doubted(tree))
		restore_layer(service, i);
	else if (r < 0)
		tree_doubt(tree, restore_take_layer(service->restore, i));
	return 1;
}

static void end_restore(struct service *service)
{
	service->restore = restore_free(service->restore);
	if (service_publish_is_possible(service))
		service_publish(service);
	else
		service_publish_show(service);
}

/* 1: more to do. */
static int read_backup(struct service *service, bool *ret_has_news)
{
	int r = restore_step(service->restore);
	struct snapshot *snapshot = restore_take(service->restore);

	if (snapshot && service_pin_is_other(service, snapshot))
		snapshot_unref(snapshot);
	else if (snapshot)
		adopt(service, snapshot);
	*ret_has_news = snapshot;
	return r;
}

/* 0; -errno: the layers cannot be had. */
static int work_on_restore(struct service *service)
{
	uint64_t end = loop_now() + RESTORE_BUDGET_USEC;
	bool has_news = false;
	int r = 0;

	/* Who waits for the snapshot is told first. */
	do
		r = service->is_read ? 0 : read_backup(service, &has_news);
	while (r > 0 && !has_news && loop_now() < end);
	if (r > 0)
		return loop_timer_arm(service->restore_timer, 0);
	r = service->is_read ? 0 : restore_layers(service);
	while (r >= 0 && (r = compare_layer(service)) > 0)
		if (loop_now() >= end)
			return loop_timer_arm(service->restore_timer, 0);
	end_restore(service);
	return r;
}

static void on_restore_timer(void *userdata)
{
	struct service *service = userdata;
	bool had_snapshot = service->snapshot;
	int r = service->restore ? work_on_restore(service) : take_layers(service);

	if (r < 0) {
		log_error("%s: cannot be watched: %s; it is tried again", service->name,
			strerror(-r));
		loop_timer_arm(service->restore_timer, LIMIT_PUBLISH_RETRY_USEC);
	} else if (!service->restore) {
		service->restore_timer = loop_timer_free(service->restore_timer);
	}
	if (!had_snapshot && service->snapshot)
		service_publish_tell(service);
	service_publish_quiet(service);
}

static int start_layers(struct service *service)
{
	int r;

	service_pin_load(service);
	service_backup_identify(service);
	service->backup = backups_find(service->backups, service->name);
	backup_set_used(service->backup, true);
	backup_listen(service->backup, service_publish_quiet, service);
	r = service_backup_begin(service, &service->restore);
	if (r == 0)
		return work_on_restore(service);
	if (r != -ENOENT)
		log_error("%s: cannot read its backup: %s", service->name, strerror(-r));
	return take_layers(service);
}

void service_free(struct service *service)
{
	service->restore = restore_free(service->restore);
	loop_timer_free(service->restore_timer);
	service->publication = publication_free(service->publication);
	service->preview = preview_free(service->preview);
	service->recall = recall_free(service->recall);
	drop_layers(service);
	glob_list_done(&service->locks);
	judge_done(&service->judge);
	free(service->withheld);
	tree_error_clear(&service->error);
	loop_timer_free(service->linger);
	loop_timer_free(service->publish_timer);
	service_pin_done(service);
	backup_set_used(service->backup, false);
	backup_listen(service->backup, NULL, NULL);
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
	list_init(&service->quiet);
	list_init(&service->orders);
	list_init(&service->idle_link);
	r = service_publish_init(service);
	if (r == 0)
		r = loop_timer_new(
			services->loop, on_restore_timer, service, &service->restore_timer);
	if (r == 0)
		r = start_layers(service);
	if (r < 0) {
		service_free(service);
		return r;
	}
	if (!service->restore)
		service->restore_timer = loop_timer_free(service->restore_timer);
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
	uint64_t linger_usec = service->services->config->linger_usec;

	if (--service->n_users > 0)
		return;
	/* Else clients that come and go would read the backup for ever. */
	if (service->is_restored)
		linger_usec = MAX(linger_usec, (uint64_t)LIMIT_CONFIRM_USEC);
	loop_timer_arm(service->linger, linger_usec);
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
	if (generation > loop_realtime_usec() + SEEN_MAX_USEC)
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
