#include "daemon/services.h"

#include <malloc.h>
#include <stdio.h>

#include "daemon/service-backup.h"
#include "proto/key.h"

#define AWAIT_BUDGET_USEC 2000 /* of one turn of the loop */

static int compare_services(const struct service *a, const struct service *b)
{
	return strcmp(a->name, b->name);
}

ORDERED_GENERATE(service_table, service, link, compare_services)

/* Nobody hears of it any more. */
static void end(struct service *service)
{
	struct services *services = service->services;

	if (service->snapshot)
		backup_list_changed(backups_list(services->backups));
	list_unlink(&service->idle_link);
	RB_REMOVE(service_table, &services->table, service);
	services->n_services--;
	service_free(service);
}

static void on_linger(void *userdata)
{
	struct service *service = userdata;

	log_debug("%s: no client left, closing", service->name);
	end(service);
}

static int begin(
	struct services *services, const char *name, size_t name_len, struct service **ret_service)
{
	struct service *service;
	int r = service_new(services, name, name_len, &service);

	if (r < 0)
		return r;
	RB_INSERT(service_table, &services->table, service);
	services->n_services++;
	r = loop_timer_new(services->loop, on_linger, service, &service->linger);
	if (r < 0) {
		end(service);
		return r;
	}
	*ret_service = service;
	return 0;
}

/* For the next daemon: those that somebody uses, and those that are still to be started. */
static char *list_names(void *userdata)
{
	struct services *services = userdata;
	size_t n_awaited = services->awaited ? strlen(services->awaited_next) : 0;
	char *text = malloc(services->n_services * (LIMIT_SERVICE_NAME + 1) + n_awaited + 1);
	struct service *service;
	char *at = text;

	if (!text)
		return NULL;
	RB_FOREACH (service, service_table, &services->table)
		if ((service->restore || service->snapshot) && *service->name != SERVICE_HIDDEN)
			at += sprintf(at, "%s\n", service->name);
	strcpy(at, n_awaited > 0 ? services->awaited_next : "");
	return text;
}

static void await_client(struct services *services, const char *name)
{
	struct service *service = services_find(services, name, strlen(name));

	if (service || services_want(services, name, strlen(name), &service) < 0)
		return;
	service_unwant(service);
	loop_timer_arm(service->linger, MAX(services->config->linger_usec, LIMIT_AWAITED_USEC));
}

static void on_await_timer(void *userdata)
{
	struct services *services = userdata;
	uint64_t end = loop_now() + AWAIT_BUDGET_USEC;
	const char *name;

	do {
		name = strsep(&services->awaited_next, "\n");
		if (name)
			await_client(services, name);
	} while (services->awaited_next && loop_now() < end);
	if (services->awaited_next) {
		loop_timer_arm(services->await_timer, 0);
		return;
	}
	free(services->awaited);
	services->awaited = NULL;
}

void services_await_clients(struct services *services)
{
	if (!services->backups)
		return;
	services->awaited = services->awaited_next =
		backup_list_read(backups_directory(services->backups)->fds[STATE_TOP]);
	backup_list_with(backups_list(services->backups), list_names, services);
	if (services->awaited)
		loop_timer_arm(services->await_timer, 0);
}

static void on_turn(void *userdata)
{
	struct services *services = userdata;

	services->spent_usec = 0;
}

/* Answers and writes of many services at once leave holes on the heap: with the 10 000 of `bench
 * scale` a twentieth of it, which the kernel gets back in less than 2 ms. */
static void on_settle_timer(void *userdata)
{
	struct services *services = userdata;

	services->n_loaded = 0;
	malloc_trim(0);
}

void services_note_loaded(struct services *services)
{
	if (++services->n_loaded >= LIMIT_SETTLE_SERVICES)
		loop_timer_arm(services->settle_timer, LIMIT_SETTLE_USEC);
}

int services_new(struct loop *loop, struct trees *trees, struct genfile *genfile,
	struct backups *backups, const struct config *config, struct services **ret_services)
{
	struct services *services = calloc(1, sizeof(*services));
	int r;

	if (!services)
		return -ENOMEM;
	services->loop = loop;
	services->trees = trees;
	services->backups = backups;
	services->config = config;
	services->source = service_backup_source(config);
	RB_INIT(&services->table);
	list_init(&services->idle);
	r = announcer_new(loop, genfile, &services->announcer);
	if (r == 0)
		r = changes_new(loop, &services->changes);
	if (r == 0)
		r = loop_timer_new(loop, on_await_timer, services, &services->await_timer);
	if (r == 0)
		r = loop_timer_new(loop, on_turn, services, &services->turn);
	if (r == 0)
		r = loop_timer_new(loop, on_settle_timer, services, &services->settle_timer);
	if (r < 0) {
		services_free(services);
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
	backup_list_end(backups_list(services->backups));
	while ((service = RB_MIN(service_table, &services->table)))
		end(service);
	announcer_free(services->announcer);
	changes_free(services->changes);
	loop_timer_free(services->await_timer);
	loop_timer_free(services->turn);
	loop_timer_free(services->settle_timer);
	free(services->awaited);
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

/* Trees that stay have the contents of the source before, until it has answered. */
static void note_source(struct services *services)
{
	uint64_t source = service_backup_source(services->config);

	if (source != services->source)
		services->moved_at = loop_now();
	services->source = source;
}

int services_configure(struct services *services, const struct config *config)
{
	struct service *service;
	int r, first = 0;

	services->config = config;
	note_source(services);
	/* All of them first: the one before is about to be freed, whatever fails here. */
	RB_FOREACH (service, service_table, &services->table)
		service->config = config;
	RB_FOREACH (service, service_table, &services->table) {
		r = service_apply_layers(service);
		if (first == 0)
			first = r;
		if (service->is_preloaded && !is_preloaded(config, service->name)) {
			service->is_preloaded = false;
			service_unwant(service);
		}
	}
	for (unsigned i = 0; i < config->n_preload; i++) {
		r = preload(services, config->preload[i]);
		if (first == 0)
			first = r;
	}
	return first;
}

/* Whoever opens names and closes them again must not keep others from theirs. */
static int make_room(struct services *services)
{
	if (services->n_services < services->config->max_services)
		return 0;
	if (list_is_empty(&services->idle))
		return -ENOBUFS;
	end(LIST_ENTRY(services->idle.next, struct service, idle_link));
	return 0;
}

int services_want(
	struct services *services, const char *name, size_t name_len, struct service **ret_service)
{
	bool is_hidden = name_len > 0 && *name == SERVICE_HIDDEN;
	struct service *service;
	int r;

	if (!key_is_service_name(name + is_hidden, name_len - is_hidden))
		return -EINVAL;
	service = services_find(services, name, name_len);
	if (!service) {
		r = make_room(services);
		if (r == 0)
			r = begin(services, name, name_len, &service);
		if (r < 0)
			return r;
	}
	loop_timer_disarm(service->linger);
	list_unlink(&service->idle_link);
	service->n_users++;
	*ret_service = service;
	return 0;
}

struct service *services_find(struct services *services, const char *name, size_t name_len)
{
	struct service wanted;

	if (name_len >= sizeof(wanted.name))
		return NULL;
	memcpy(wanted.name, name, name_len);
	wanted.name[name_len] = '\0';
	return RB_FIND(service_table, &services->table, &wanted);
}

struct tally *services_tally(struct services *services)
{
	return &services->tally;
}

struct changes *services_changes(struct services *services)
{
	return services->changes;
}

uint64_t services_n_backup_errors(const struct services *services)
{
	return backups_n_errors(services->backups);
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
