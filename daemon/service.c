#include "daemon/service.h"

#include <stdio.h>

#include "daemon/publication.h"
#include "daemon/service-outcome.h"
#include "proto/key.h"

#define PUBLISH_BUDGET_USEC                                                                        \
	2000 /* CPU time of one turn of the loop; clients are served in between */

RB_HEAD(service_table, service);

struct services {
	struct loop *loop;
	struct trees *trees;
	struct announcer *announcer;
	const struct config *config;
	struct service_table table; /* by name */
	size_t n_services;
	struct loop_timer *turn; /* armed: something was published in this turn of the loop, */
	uint64_t spent_usec; /* which took so long */
	/* service::idle_link: that linger, those without keys in front, as they are free to invent.
	 */
	struct list idle;
};

static int compare_services(const struct service *a, const struct service *b)
{
	return strcmp(a->name, b->name);
}

ORDERED_GENERATE(service_table, service, link, compare_services)

/* Clients that only read see it here. */
static void show(const struct service *service)
{
	announcer_show(service->services->announcer, &service->announcement,
		loop_now() - service_confirmed_at(service), service_index(service),
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

static bool all_layers_answered(const struct service *service)
{
	for (unsigned i = 0; i < service->n_layers; i++)
		if (!service->layers[i].tree->content)
			return false;
	return service->n_layers > 0;
}

static int start_publication(struct service *service)
{
	struct kvset *sets[LIMIT_LAYERS];
	int r;

	for (unsigned i = 0; i < service->n_layers; i++)
		sets[i] = service->layers[i].tree->content;
	service->is_dirty = false;
	r = publication_new(sets, service->n_layers, service->services->config->max_service,
		&service->publication);
	if (r < 0)
		return r;
	publication_lock(service->publication, &service->locks);
	publication_judge(service->publication, &service->judge);
	return 0;
}

static int finish_publication(struct service *service)
{
	struct snapshot *snapshot;
	int r;

	r = publication_take(service->publication, service->generation, &snapshot);
	if (r < 0)
		return r;
	announcer_put_aside(service->services->announcer, service->snapshot);
	service->snapshot = snapshot;
	service->generation = snapshot->generation;
	service_outcome_good(service);
	announcer_raise_soon(service->services->announcer, &service->announcement);
	return 0;
}

/* Works at the publication for one budget; 1: more to do, 0: done, -errno. */
static int work_on_publication(struct service *service)
{
	uint64_t end = loop_cpu_usec() + PUBLISH_BUDGET_USEC;
	int r;

	do
		r = publication_step(service->publication);
	while (r > 0 && loop_cpu_usec() < end);
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
	if (r < 0)
		service_outcome_bad(service, r);
	service->publication = publication_free(service->publication);
	service->published_at = loop_now();
	/* Changes that came meanwhile make one more publication, all together. */
	if (service->is_dirty)
		loop_timer_arm(service->publish_timer, LIMIT_COALESCE_USEC);
	tell_waiters(service);
}

static void on_publish_timer(void *userdata)
{
	publish(userdata);
}

static void on_turn(void *userdata)
{
	struct services *services = userdata;

	services->spent_usec = 0;
}

/* At once, as long as that does not hold up the loop: a tree may be a layer of a thousand services,
 * all of which hear of its change in one callback. */
static void publish_in_turn(struct service *service)
{
	struct services *services = service->services;
	uint64_t start = loop_cpu_usec();

	if (services->spent_usec >= PUBLISH_BUDGET_USEC) {
		loop_timer_arm(service->publish_timer, 0);
		return;
	}
	publish(service);
	services->spent_usec += loop_cpu_usec() - start;
	if (!loop_timer_is_armed(services->turn))
		loop_timer_arm(services->turn, 0);
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
		publish_in_turn(service);
}

static void on_tree_changed(struct tree *tree, bool content_changed, void *userdata)
{
	struct service_layer *layer = userdata;
	struct service *service = layer->service;

	(void)tree;
	/* Nobody waits for a state, and each confirmation comes by here. */
	if (content_changed && all_layers_answered(service))
		request_publication(service);
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

/* What was to be published is not the configuration any more. */
static void drop_publication(struct service *service)
{
	service->publication = publication_free(service->publication);
	loop_timer_disarm(service->publish_timer);
	service->is_dirty = false;
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
	drop_publication(service);
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

/* Gives the service its locks and its schema. 1: it had others, or a file may say something else.
 */
static int apply_rules(struct service *service)
{
	const struct config_rule *rule = config_rule_for(service->services->config, service->name);
	const struct glob_list wanted = { rule ? rule->lock : NULL, rule ? rule->n_lock : 0 };
	const char *schema = rule ? rule->schema : NULL;
	int r;

	if (!schema && !service->judge.source && glob_list_is_same(&service->locks, &wanted))
		return 0;
	drop_publication(service);
	glob_list_done(&service->locks);
	r = glob_list_copy(&wanted, &service->locks);
	if (r == 0)
		r = judge_configure(&service->judge, schema);
	return r < 0 ? r : 1;
}

/* Gives the service the layers that the configuration names, if it has others. */
static int apply_layers(struct service *service)
{
	char *prefixes[LIMIT_LAYERS];
	int n, r, has_others = apply_rules(service);

	if (has_others < 0)
		return has_others;
	r = 0;
	n = config_layers(service->services->config, service->name, prefixes);
	if (n < 0)
		return n;
	if (!has_layers(service, prefixes, (unsigned)n))
		r = replace_layers(service, prefixes, (unsigned)n);
	else if (has_others > 0 && all_layers_answered(service))
		request_publication(service);
	set_hold(service);
	free_prefixes(prefixes, (unsigned)n);
	return r;
}

static void service_free(struct service *service)
{
	list_unlink(&service->idle_link);
	RB_REMOVE(service_table, &service->services->table, service);
	service->services->n_services--;
	service->publication = publication_free(service->publication);
	drop_layers(service);
	glob_list_done(&service->locks);
	judge_done(&service->judge);
	loop_timer_free(service->linger);
	loop_timer_free(service->publish_timer);
	snapshot_unref(service->snapshot);
	announcer_remove(service->services->announcer, &service->announcement);
	free(service);
}

static void on_linger(void *userdata)
{
	struct service *service = userdata;

	log_debug("%s: no client left, closing", service->name);
	service_free(service);
}

static int service_new(
	struct services *services, const char *name, size_t name_len, struct service **ret_service)
{
	struct service *service = calloc(1, sizeof(*service));
	int r;

	if (!service)
		return -ENOMEM;
	service->services = services;
	memcpy(service->name, name, name_len);
	announcer_add(services->announcer, &service->announcement);
	list_init(&service->waiters);
	list_init(&service->idle_link);
	RB_INSERT(service_table, &services->table, service);
	services->n_services++;
	r = loop_timer_new(services->loop, on_linger, service, &service->linger);
	if (r == 0)
		r = loop_timer_new(
			services->loop, on_publish_timer, service, &service->publish_timer);
	if (r == 0)
		r = apply_layers(service);
	if (r < 0) {
		service_free(service);
		return r;
	}
	*ret_service = service;
	return 0;
}

int services_new(struct loop *loop, struct trees *trees, struct genfile *genfile,
	const struct config *config, struct services **ret_services)
{
	struct services *services = calloc(1, sizeof(*services));
	int r;

	if (!services)
		return -ENOMEM;
	services->loop = loop;
	services->trees = trees;
	services->config = config;
	RB_INIT(&services->table);
	list_init(&services->idle);
	r = loop_timer_new(loop, on_turn, services, &services->turn);
	if (r == 0)
		r = announcer_new(loop, genfile, &services->announcer);
	if (r < 0) {
		loop_timer_free(services->turn);
		free(services);
		return r;
	}
	*ret_services = services;
	return 0;
}

struct services *services_free(struct services *services)
{
	struct service *service;

	if (!services)
		return NULL;
	while ((service = RB_MIN(service_table, &services->table)))
		service_free(service);
	announcer_free(services->announcer);
	loop_timer_free(services->turn);
	free(services);
	return NULL;
}

static bool is_preloaded(const struct config *config, const char *name)
{
	for (unsigned i = 0; i < config->n_preload; i++)
		if (std_streq(config->preload[i], name))
			return true;
	return false;
}

static int preload(struct services *services, const char *name)
{
	struct service *service = services_find(services, name, strlen(name));
	int r;

	if (service && service->is_preloaded)
		return 0;
	r = services_want(services, name, strlen(name), &service);
	if (r == 0)
		service->is_preloaded = true;
	return r;
}

int services_configure(struct services *services, const struct config *config)
{
	struct service *service;
	int r;

	services->config = config;
	RB_FOREACH (service, service_table, &services->table) {
		r = apply_layers(service);
		if (r < 0)
			return r;
		if (service->is_preloaded && !is_preloaded(config, service->name)) {
			service->is_preloaded = false;
			service_unwant(service);
		}
	}
	for (unsigned i = 0; i < config->n_preload; i++) {
		r = preload(services, config->preload[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Whoever opens names and closes them again must not keep others from theirs. */
static int make_room(struct services *services)
{
	if (services->n_services < services->config->max_services)
		return 0;
	if (list_is_empty(&services->idle))
		return -ENOBUFS;
	service_free(LIST_ENTRY(services->idle.next, struct service, idle_link));
	return 0;
}

int services_want(
	struct services *services, const char *name, size_t name_len, struct service **ret_service)
{
	struct service *service;
	int r;

	if (!key_is_service_name(name, name_len))
		return -EINVAL;
	service = services_find(services, name, name_len);
	if (!service) {
		r = make_room(services);
		if (r == 0)
			r = service_new(services, name, name_len, &service);
		if (r < 0)
			return r;
	}
	loop_timer_disarm(service->linger);
	list_unlink(&service->idle_link);
	service->n_users++;
	*ret_service = service;
	return 0;
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

struct service *services_find(struct services *services, const char *name, size_t name_len)
{
	struct service wanted;

	if (name_len > LIMIT_SERVICE_NAME)
		return NULL;
	memcpy(wanted.name, name, name_len);
	wanted.name[name_len] = '\0';
	return RB_FIND(service_table, &services->table, &wanted);
}

void service_add_waiter(struct service *service, struct service_waiter *waiter)
{
	list_append(&service->waiters, &waiter->link);
}

void service_remove_waiter(struct service_waiter *waiter)
{
	list_unlink(&waiter->link);
}

enum wire_state service_state(const struct service *service)
{
	enum wire_state worst = service->withheld.is_set ? WIRE_HELD
				: service->snapshot	 ? WIRE_LIVE
							 : WIRE_LOADING;

	for (unsigned i = 0; i < service->n_layers; i++)
		if (wire_state_is_worse(service->layers[i].tree->state, worst))
			worst = service->layers[i].tree->state;
	return worst;
}

uint64_t service_change(struct service *service)
{
	return announcer_change(service->services->announcer, &service->announcement);
}

/* Indexes of one Consul: the highest is that of the newest change. */
uint64_t service_index(const struct service *service)
{
	uint64_t index = 0;

	for (unsigned i = 0; i < service->n_layers; i++)
		if (service->layers[i].tree->content)
			index = MAX(index, service->layers[i].tree->content->index);
	return index;
}

uint64_t service_confirmed_at(const struct service *service)
{
	uint64_t oldest = loop_now();

	for (unsigned i = 0; i < service->n_layers; i++)
		oldest = MIN(oldest, service->layers[i].tree->confirmed_at);
	return oldest;
}

const struct tree_error *service_error(const struct service *service)
{
	if (service->error.is_set)
		return &service->error;
	for (unsigned i = 0; i < service->n_layers; i++)
		if (service->layers[i].tree->error.is_set)
			return &service->layers[i].tree->error;
	return NULL;
}

size_t services_count(const struct services *services)
{
	return services->n_services;
}

struct service *services_next(struct services *services, const char *after)
{
	struct service wanted, *service;

	if (!after)
		return RB_MIN(service_table, &services->table);
	snprintf(wanted.name, sizeof(wanted.name), "%s", after);
	service = RB_NFIND(service_table, &services->table, &wanted);
	if (service && std_streq(service->name, wanted.name))
		service = RB_NEXT(service_table, &services->table, service);
	return service;
}

void services_resync(struct services *services, struct service *service_or_null)
{
	struct service *service;

	RB_FOREACH (service, service_table, &services->table)
		if (!service_or_null || service == service_or_null)
			for (unsigned i = 0; i < service->n_layers; i++)
				tree_resync(service->layers[i].tree);
}
