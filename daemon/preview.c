#include "daemon/preview.h"

#include "daemon/held.h"
#include "daemon/publication.h"
#include "daemon/service-pin.h"
#include "daemon/services.h"

#define PREVIEW_BUDGET_USEC 2000 /* CPU time of one turn of the loop */

struct preview {
	struct service *service;
	struct kvset *sets[PUBLICATION_SETS]; /* what it is made of */
	unsigned n_sets, n_layers;
	unsigned pins_version; /* likewise */
	struct glob_list locks;
	struct publication *publication;
	struct snapshot *snapshot; /* NULL: in the making */
	struct loop_timer *timer;
	struct list waiters;
};

static void tell(struct preview *preview, int error)
{
	struct list waiting = LIST_INIT(waiting);

	list_splice(&waiting, &preview->waiters);
	while (!list_is_empty(&waiting)) {
		struct preview_waiter *waiter =
			LIST_ENTRY(waiting.next, struct preview_waiter, link);

		list_unlink(&waiter->link);
		waiter->fn(waiter, error < 0 ? NULL : preview->snapshot, error);
	}
}

struct preview *preview_free(struct preview *preview)
{
	if (!preview)
		return NULL;
	tell(preview, -ECANCELED);
	publication_free(preview->publication);
	snapshot_unref(preview->snapshot);
	for (unsigned i = 0; i < preview->n_sets; i++)
		kvset_unref(preview->sets[i]);
	glob_list_done(&preview->locks);
	loop_timer_free(preview->timer);
	free(preview);
	return NULL;
}

static bool is_there(const struct service *service)
{
	struct held held;

	return held_find(service, &held) || service->withheld;
}

static unsigned pins_version(const struct service *service)
{
	return service->pins ? service->pins->version : 0;
}

/* Whether it is of what is held now. */
static bool is_current(const struct preview *preview)
{
	const struct service *service = preview->service;
	struct kvset *sets[LIMIT_LAYERS];

	if (!is_there(service) || preview->n_layers != service->n_layers ||
		preview->pins_version != pins_version(service) ||
		!glob_list_is_same(&preview->locks, &service->locks))
		return false;
	held_sets(service, sets);
	for (unsigned i = 0; i < service->n_layers; i++)
		if (preview->sets[i] != sets[i])
			return false;
	return true;
}

static int step(struct preview *preview)
{
	uint64_t end = loop_cpu_usec() + PREVIEW_BUDGET_USEC;
	int r;

	do
		r = publication_step(preview->publication);
	while (r > 0 && loop_cpu_usec() < end);
	if (r == 0)
		r = publication_take(
			preview->publication, preview->service->generation, &preview->snapshot);
	return r;
}

static void on_timer(void *userdata)
{
	struct preview *preview = userdata;
	struct service *service = preview->service;
	int r = step(preview);

	if (r > 0) {
		loop_timer_arm(preview->timer, 0);
		return;
	}
	preview->publication = publication_free(preview->publication);
	tell(preview, r);
	if (r < 0)
		service->preview = preview_free(service->preview);
}

/* The layers, and what operators put above them: references. */
static int collect(struct preview *preview)
{
	const struct service *service = preview->service;

	held_sets(service, preview->sets);
	for (unsigned i = 0; i < service->n_layers; i++) {
		if (!preview->sets[i])
			return -ENODATA;
		kvset_ref(preview->sets[i]);
		preview->n_sets++;
	}
	preview->n_layers = service->n_layers;
	preview->pins_version = pins_version(service);
	if (!service->pins || service->pins->n_overrides == 0)
		return 0;
	return pins_layer(service->pins, &preview->sets[preview->n_sets++]);
}

static int start(struct preview *preview)
{
	struct service *service = preview->service;
	int r = collect(preview);

	if (r == 0)
		r = glob_list_copy(&service->locks, &preview->locks);
	if (r == 0)
		r = loop_timer_new(service->services->loop, on_timer, preview, &preview->timer);
	if (r == 0)
		r = publication_new(preview->sets, preview->n_sets, service->config->max_service,
			&preview->publication);
	if (r < 0)
		return r;
	publication_lock(preview->publication, &preview->locks, service->n_layers);
	return loop_timer_arm(preview->timer, 0);
}

static int preview_new(struct service *service, struct preview **ret_preview)
{
	struct preview *preview = calloc(1, sizeof(*preview));
	int r;

	if (!preview)
		return -ENOMEM;
	preview->service = service;
	list_init(&preview->waiters);
	r = start(preview);
	if (r < 0) {
		preview_free(preview);
		return r;
	}
	*ret_preview = preview;
	return 0;
}

/* One of what is held now, in place of one of what was; who waited for that waits on. */
static int renew(struct service *service)
{
	struct preview *preview;
	int r = preview_new(service, &preview);

	if (r < 0)
		return r;
	if (service->preview)
		list_splice(&preview->waiters, &service->preview->waiters);
	preview_free(service->preview);
	service->preview = preview;
	return 0;
}

void preview_ask(struct service *service, struct preview_waiter *waiter)
{
	int r = is_there(service) ? 0 : -ENOENT;

	if (r == 0 && (!service->preview || !is_current(service->preview)))
		r = renew(service);
	if (r < 0)
		waiter->fn(waiter, NULL, r);
	else if (service->preview->snapshot)
		waiter->fn(waiter, service->preview->snapshot, 0);
	else
		list_append(&service->preview->waiters, &waiter->link);
}

void preview_review(struct service *service)
{
	if (service->preview && list_is_empty(&service->preview->waiters) &&
		!is_current(service->preview))
		service->preview = preview_free(service->preview);
}
