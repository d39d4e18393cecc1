#include "daemon/doorbells.h"

#include "daemon/list.h"
#include "daemon/log.h"
#include "daemon/shard.h"

#define WEIGHT_PRESENT 16u
#define WEIGHT_ABSENT 1u /* names that nobody configured cost nothing but their place here */

struct place { /* of a doorbell */
	struct list link; /* doorbells::places */
	struct doorbells *doorbells;
	struct doorbell *bell;
	bool is_leaving; /* rings on until its poll has run out */
};

struct doorbells {
	struct agent *agent;
	const struct doorbells_fns *fns;
	struct tenants tenants;
	unsigned n_tenants, n_absent;
	unsigned n_planned, n_polls; /* tenants, polls at once when prefixes were chosen last */
	struct list places; /* place::link */
	struct loop_timer *plan_timer;
};

/* Tenants -------------------------------------------------------------------------------------- */

/* Trees that hold something, or may: they are being read. */
static unsigned n_present(const struct doorbells *doorbells)
{
	unsigned n = doorbells->agent->n_trees;

	return n > doorbells->n_absent ? n - doorbells->n_absent : 0;
}

static bool present_ones_poll(const struct doorbells *doorbells)
{
	return n_present(doorbells) + LIMIT_BELLS_MIN <= agent_n_polls_at_once(doorbells->agent);
}

static bool is_homeless(const struct tenant *tenant)
{
	return !tenant->bell;
}

/* The doorbell with the longest prefix of this one's. */
static struct doorbell *find_bell(const struct doorbells *doorbells, const char *prefix)
{
	struct doorbell *found = NULL;
	size_t found_len = 0;

	LIST_FOREACH (node, &doorbells->places) {
		const struct place *place = LIST_ENTRY(node, struct place, link);
		const char *bell_prefix = doorbell_prefix(place->bell);
		size_t len = strlen(bell_prefix);

		if (!place->is_leaving && strncmp(prefix, bell_prefix, len) == 0 &&
			(!found || len > found_len)) {
			found = place->bell;
			found_len = len;
		}
	}
	return found;
}

static void count(struct doorbells *doorbells, const struct tenant *tenant, unsigned n)
{
	doorbells->n_tenants += n;
	if (tenant->was_absent)
		doorbells->n_absent += n;
}

static void on_moved(struct tenant *tenant, uint64_t index, void *userdata)
{
	struct place *place = userdata;

	doorbells_move_out(place->doorbells, tenant);
	place->doorbells->fns->moved(tenant, index);
}

static void on_doubted(struct tenant *tenant, void *userdata)
{
	struct place *place = userdata;

	doorbells_move_out(place->doorbells, tenant);
	place->doorbells->fns->doubted(tenant);
}

static void on_failed(
	struct tenant *tenant, const struct consul_error *error, uint64_t retry_at, void *userdata)
{
	struct place *place = userdata;

	place->doorbells->fns->failed(tenant, error, retry_at);
}

/* Places --------------------------------------------------------------------------------------- */

static void place_free(struct place *place)
{
	list_unlink(&place->link);
	doorbell_free(place->bell);
	free(place);
}

static bool overlap(const char *a, const char *b)
{
	size_t len = shard_common(a, b);

	return a[len] == '\0' || b[len] == '\0';
}

/* A poll has ended: whoever rests for want of one may have it, and what it rang for may be theirs.
 */
static void wake_others(const struct place *leaving)
{
	LIST_FOREACH (node, &leaving->doorbells->places) {
		const struct place *place = LIST_ENTRY(node, struct place, link);

		if (place != leaving &&
			overlap(doorbell_prefix(place->bell), doorbell_prefix(leaving->bell)))
			doorbell_wake(place->bell);
	}
}

static bool is_empty(struct doorbells *doorbells, const struct doorbell *bell)
{
	const char *prefix = doorbell_prefix(bell);
	struct tenant *tenant = tenants_first(&doorbells->tenants, prefix);

	while (tenant && tenant->bell != bell)
		tenant = tenant_next(tenant, prefix);
	return !tenant;
}

static void release(struct doorbells *doorbells, struct tenant *tenant)
{
	if (!doorbells_may_poll(doorbells, tenant->tree))
		return;
	doorbells_move_out(doorbells, tenant);
	doorbells->fns->released(tenant);
}

static void release_all(struct doorbells *doorbells, const struct doorbell *bell)
{
	const char *prefix = doorbell_prefix(bell);
	struct tenant *tenant = tenants_first(&doorbells->tenants, prefix), *next;

	for (; tenant; tenant = next) {
		next = tenant_next(tenant, prefix);
		if (tenant->bell == bell)
			release(doorbells, tenant);
	}
}

static bool some_may_poll(const struct doorbells *doorbells)
{
	const struct agent *agent = doorbells->agent;

	return agent->n_trees <= agent_n_polls_at_once(agent) || present_ones_poll(doorbells);
}

static bool on_idle(struct doorbell *bell, void *userdata)
{
	struct place *place = userdata;

	if (!place->is_leaving && some_may_poll(place->doorbells))
		release_all(place->doorbells, bell);
	if (!place->is_leaving && !is_empty(place->doorbells, bell))
		return true;
	wake_others(place);
	place_free(place);
	return false;
}

static const struct doorbell_fns bell_functions = {
	.moved = on_moved,
	.doubted = on_doubted,
	.failed = on_failed,
	.idle = on_idle,
};

static int place_new(struct doorbells *doorbells, const char *prefix)
{
	struct place *place = calloc(1, sizeof(*place));
	int r;

	if (!place)
		return -ENOMEM;
	place->doorbells = doorbells;
	r = doorbell_new(doorbells->agent, &doorbells->tenants, prefix, &bell_functions, place,
		&place->bell);
	if (r < 0) {
		free(place);
		return r;
	}
	list_append(&doorbells->places, &place->link);
	return 0;
}

/* The plan ------------------------------------------------------------------------------------- */

static unsigned n_wanted(const struct doorbells *doorbells)
{
	unsigned n = agent_n_polls_at_once(doorbells->agent);

	return present_ones_poll(doorbells) ? n - n_present(doorbells) : n;
}

static int choose_prefixes(struct doorbells *doorbells, struct shard **ret_shards)
{
	AUTO_FREE struct shard_key *keys = calloc(doorbells->n_tenants, sizeof(*keys));
	size_t n = 0;

	if (!keys)
		return -ENOMEM;
	for (struct tenant *tenant = tenants_first(&doorbells->tenants, ""); tenant;
		tenant = tenant_next(tenant, ""))
		keys[n++] = (struct shard_key){
			.prefix = tenant->tree->prefix,
			.weight = tenant->was_absent ? WEIGHT_ABSENT : WEIGHT_PRESENT,
		};
	return shard_divide(keys, n, n_wanted(doorbells), ret_shards);
}

static bool is_chosen(const struct shard *shards, unsigned n, const char *prefix)
{
	for (unsigned i = 0; i < n; i++)
		if (std_streq(shards[i].prefix, prefix))
			return true;
	return false;
}

static struct place *find_place(const struct doorbells *doorbells, const char *prefix)
{
	LIST_FOREACH (node, &doorbells->places) {
		struct place *place = LIST_ENTRY(node, struct place, link);

		if (std_streq(doorbell_prefix(place->bell), prefix))
			return place;
	}
	return NULL;
}

/* Those that are not chosen go, when they are in a poll not yet; those that are come. */
static void change_places(struct doorbells *doorbells, const struct shard *shards, unsigned n)
{
	struct list *next;

	for (struct list *node = doorbells->places.next; node != &doorbells->places; node = next) {
		struct place *place = LIST_ENTRY(node, struct place, link);

		next = node->next;
		place->is_leaving = !is_chosen(shards, n, doorbell_prefix(place->bell));
		if (place->is_leaving && !doorbell_is_listening(place->bell))
			place_free(place);
	}
	for (unsigned i = 0; i < n; i++)
		if (!find_place(doorbells, shards[i].prefix) &&
			place_new(doorbells, shards[i].prefix) < 0) {
			log_warning("out of memory: no doorbell for %s yet", shards[i].prefix);
			loop_timer_arm(doorbells->plan_timer, LIMIT_KNOCK_USEC);
		}
}

static void house_tenants(struct doorbells *doorbells)
{
	for (struct tenant *tenant = tenants_first(&doorbells->tenants, ""); tenant;
		tenant = tenant_next(tenant, ""))
		tenant->bell = find_bell(doorbells, tenant->tree->prefix);
	LIST_FOREACH (node, &doorbells->places)
		doorbell_look(LIST_ENTRY(node, struct place, link)->bell);
}

static void on_plan(void *userdata)
{
	struct doorbells *doorbells = userdata;
	struct shard *shards = NULL;
	int n = choose_prefixes(doorbells, &shards);

	if (n < 0) {
		loop_timer_arm(doorbells->plan_timer, LIMIT_KNOCK_USEC);
		return;
	}
	change_places(doorbells, shards, (unsigned)n);
	shard_free(shards, (unsigned)n);
	house_tenants(doorbells);
	doorbells->n_planned = doorbells->n_tenants;
	doorbells->n_polls = agent_n_polls_at_once(doorbells->agent);
	log_debug("%u trees share %d doorbells", doorbells->n_tenants, n);
}

static void plan_soon(struct doorbells *doorbells)
{
	if (!loop_timer_is_armed(doorbells->plan_timer))
		loop_timer_arm(doorbells->plan_timer, LIMIT_PLAN_USEC);
}

/* Half as many again, or half as many, since prefixes were chosen: others divide them better. */
static bool is_outgrown(const struct doorbells *doorbells)
{
	unsigned n = doorbells->n_tenants, planned = doorbells->n_planned;

	return n > planned + planned / 2 || n < planned / 2;
}

/* Public --------------------------------------------------------------------------------------- */

int doorbells_new(
	struct agent *agent, const struct doorbells_fns *fns, struct doorbells **ret_doorbells)
{
	struct doorbells *doorbells = calloc(1, sizeof(*doorbells));
	int r;

	if (!doorbells)
		return -ENOMEM;
	doorbells->agent = agent;
	doorbells->fns = fns;
	tenants_init(&doorbells->tenants);
	list_init(&doorbells->places);
	r = loop_timer_new(agent->loop, on_plan, doorbells, &doorbells->plan_timer);
	if (r < 0) {
		free(doorbells);
		return r;
	}
	*ret_doorbells = doorbells;
	return 0;
}

struct doorbells *doorbells_free(struct doorbells *doorbells)
{
	if (!doorbells)
		return NULL;
	doorbells_stop(doorbells);
	loop_timer_free(doorbells->plan_timer);
	free(doorbells);
	return NULL;
}

bool doorbells_may_poll(const struct doorbells *doorbells, const struct tree *tree)
{
	const struct agent *agent = doorbells->agent;

	if (!agent_has_room_for_poll(agent))
		return false;
	if (agent->n_trees <= agent_n_polls_at_once(agent))
		return true;
	return tree->content->records.n > 0 && present_ones_poll(doorbells);
}

uint64_t doorbells_floor(const struct doorbells *doorbells)
{
	return doorbells->tenants.floor;
}

void doorbells_move_in(struct doorbells *doorbells, struct tenant *tenant, struct tree *tree,
	uint64_t index, uint64_t floor)
{
	tenant->tree = tree;
	tenant->index = index;
	tenant->known = MAX(index, MIN(floor, doorbells->tenants.floor));
	tenant->rung_at = 0;
	tenant->was_absent = tenant_is_absent(tenant);
	tenant->bell = find_bell(doorbells, tree->prefix);
	tenants_add(&doorbells->tenants, tenant);
	count(doorbells, tenant, 1);
	if (is_homeless(tenant) || is_outgrown(doorbells))
		plan_soon(doorbells);
	if (tenant->bell)
		doorbell_look(tenant->bell);
}

void doorbells_move_out(struct doorbells *doorbells, struct tenant *tenant)
{
	tenants_remove(&doorbells->tenants, tenant);
	count(doorbells, tenant, -1u);
	tenant->bell = NULL;
	if (is_outgrown(doorbells))
		plan_soon(doorbells);
}

void doorbells_stop(struct doorbells *doorbells)
{
	while (!list_is_empty(&doorbells->places))
		place_free(LIST_ENTRY(doorbells->places.next, struct place, link));
	loop_timer_disarm(doorbells->plan_timer);
	doorbells->n_planned = 0;
	doorbells->tenants.floor = 0;
}

void doorbells_reconfigure(struct doorbells *doorbells)
{
	if (doorbells->n_tenants > 0 &&
		doorbells->n_polls != agent_n_polls_at_once(doorbells->agent))
		plan_soon(doorbells);
}

bool doorbells_is_on_time(const struct doorbells *doorbells, uint64_t now)
{
	LIST_FOREACH (node, &doorbells->places)
		if (!doorbell_is_on_time(LIST_ENTRY(node, struct place, link)->bell, now))
			return false;
	return true;
}
