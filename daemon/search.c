/*
 * Invariant: what waits to be asked are prefixes, not tenants: those may come and go meanwhile, and
 * each answer is for whoever lives below its prefix when it comes and knows too little.
 */
#include "daemon/search.h"

#include "daemon/doorbell.h"
#include "daemon/list.h"
#include "daemon/log.h"
#include "daemon/shard.h"

#define INDEX_NOT_KNOWN UINT64_MAX /* may not be listed, or no index: above what anybody knows */

struct probe {
	struct list link; /* search::waiting or asked */
	struct search *search;
	struct fetch *fetch; /* NULL: waiting */
	uint64_t goal; /* when it was asked */
	char prefix[];
};

struct search {
	struct agent *agent;
	struct tenants *tenants;
	const struct doorbell *bell;
	const struct search_fns *fns;
	void *userdata;
	struct list waiting, asked; /* probe::link */
	struct list turn_link; /* tenants::searches */
	bool has_turn;
	unsigned n_asked;
	bool is_settled; /* the consistent answer came */
	unsigned n_probes; /* since it began */
	uint64_t began_at;
	uint64_t goal;
	struct loop_timer *timer; /* to be done, out of nobody's call */
	struct consul_error error;
	bool has_failed;
};

static void probe_free(struct probe *probe)
{
	list_unlink(&probe->link);
	fetch_cancel(probe->fetch);
	free(probe);
}

static void ask(struct search *search);

static bool take_turn(struct search *search)
{
	struct tenants *tenants = search->tenants;

	if (search->has_turn)
		return true;
	list_unlink(&search->turn_link);
	if (tenants->n_searching >= LIMIT_BELL_SEARCHES) {
		list_append(&tenants->searches, &search->turn_link);
		return false;
	}
	search->has_turn = true;
	tenants->n_searching++;
	return true;
}

static void give_turn(struct search *search)
{
	struct tenants *tenants = search->tenants;

	list_unlink(&search->turn_link);
	if (!search->has_turn)
		return;
	search->has_turn = false;
	tenants->n_searching--;
	if (!list_is_empty(&tenants->searches))
		ask(LIST_ENTRY(tenants->searches.next, struct search, turn_link));
}

static void drop(struct search *search)
{
	while (!list_is_empty(&search->waiting))
		probe_free(LIST_ENTRY(search->waiting.next, struct probe, link));
	while (!list_is_empty(&search->asked))
		probe_free(LIST_ENTRY(search->asked.next, struct probe, link));
	search->n_asked = 0;
}

static void give_up(struct search *search, const struct consul_error *error)
{
	drop(search);
	search->error = *error;
	search->has_failed = true;
	loop_timer_arm(search->timer, 0);
}

static void run_out_of_memory(struct search *search)
{
	static const struct consul_error no_memory = { TREE_LIMIT, "out of memory" };

	give_up(search, &no_memory);
}

static bool is_lagging(const struct search *search, const struct tenant *tenant, uint64_t goal)
{
	return tenant->bell == search->bell && tenant->known < goal;
}

static struct tenant *next_lagging(
	const struct search *search, struct tenant *tenant, const char *prefix, uint64_t goal)
{
	while (tenant && !is_lagging(search, tenant, goal))
		tenant = tenant_next(tenant, prefix);
	return tenant;
}

/* The tenants below a prefix that know too little, one after the other; they may leave. */
#define FOREACH_LAGGING(tenant, next, search, prefix, goal)                                        \
	for (struct tenant * (next),                                                               \
		*(tenant) = next_lagging(                                                          \
			search, tenants_first((search)->tenants, prefix), prefix, goal);           \
		(tenant) && ((next) = tenant_next(tenant, prefix), true);                          \
		(tenant) = next_lagging(search, next, prefix, goal))

static bool is_known_to_all(
	const struct search *search, const char *prefix, uint64_t index, uint64_t goal)
{
	FOREACH_LAGGING(tenant, next, search, prefix, goal)
	if (tenant->known < index)
		return false;
	return true;
}

static void settle(
	struct search *search, struct tenant *tenant, bool moved, uint64_t index, uint64_t goal)
{
	if (moved)
		search->fns->moved(tenant, index == INDEX_NOT_KNOWN ? 0 : index, search->userdata);
	else
		tenant->known = goal;
}

static void settle_absent(struct search *search, const char *prefix, uint64_t index, uint64_t goal)
{
	FOREACH_LAGGING(tenant, next, search, prefix, goal)
	settle(search, tenant, !tenant_is_absent(tenant), index, goal);
}

static void settle_all(struct search *search, const char *prefix, uint64_t goal)
{
	FOREACH_LAGGING(tenant, next, search, prefix, goal)
	tenant->known = goal;
}

static int add_probe(struct search *search, const char *prefix, size_t len, struct list *to)
{
	struct probe *probe = calloc(1, sizeof(*probe) + len + 1);

	if (!probe)
		return -ENOMEM;
	probe->search = search;
	memcpy(probe->prefix, prefix, len);
	list_append(to, &probe->link);
	return 0;
}

/* Something moved below the prefix: each branch is asked for, before what waits already. */
static int branch_out(struct search *search, const char *prefix, uint64_t goal)
{
	struct list branches = LIST_INIT(branches);
	size_t len = strlen(prefix);
	struct tenant *tenant =
		next_lagging(search, tenants_first(search->tenants, prefix), prefix, goal);
	int r = 0;

	while (tenant && r == 0) {
		struct tenant *last = tenant_last_alike(search->tenants, tenant, len + 1);

		r = add_probe(search, tenant->tree->prefix,
			shard_common(tenant->tree->prefix, last->tree->prefix), &branches);
		tenant = next_lagging(search, tenant_next(last, prefix), prefix, goal);
	}
	list_splice(&branches, &search->waiting);
	list_splice(&search->waiting, &branches);
	return r;
}

/* What the answer for a prefix means for those that live below it. */
static int settle_below(
	struct search *search, const char *prefix, uint64_t index, bool is_absent, uint64_t goal)
{
	struct tenant *own;

	if (is_absent) {
		settle_absent(search, prefix, index, goal);
		return 0;
	}
	if (is_known_to_all(search, prefix, index, goal)) {
		settle_all(search, prefix, goal);
		return 0;
	}
	own = tenants_first(search->tenants, prefix);
	if (own && std_streq(own->tree->prefix, prefix) && is_lagging(search, own, goal))
		settle(search, own, index > own->known && index != own->index, index, goal);
	return branch_out(search, prefix, goal);
}

static uint64_t usable_index(const struct fetch_answer *answer)
{
	bool is_usable = answer->is_good && consul_next_index(0, answer->index) != 0;

	return is_usable ? answer->index : INDEX_NOT_KNOWN;
}

static void on_answer(struct fetch_answer *answer, void *userdata)
{
	struct probe *probe = userdata;
	struct search *search = probe->search;
	uint64_t index = usable_index(answer);
	int r;

	probe->fetch = NULL;
	search->n_asked--;
	if (!answer->is_good && consul_is_outage(&answer->error)) {
		give_up(search, &answer->error);
		return;
	}
	search->is_settled = true;
	if (answer->is_good)
		tenants_see(search->tenants, index);
	list_unlink(&probe->link);
	r = settle_below(search, probe->prefix, index, answer->is_absent, probe->goal);
	free(probe);
	if (r < 0)
		run_out_of_memory(search);
	else
		ask(search);
}

static int send_probe(struct search *search, struct probe *probe)
{
	const struct fetch_query query = {
		.pool = agent_pool_for_read(search->agent),
		.prefix = probe->prefix,
		.lists = true,
		.consistent = !search->is_settled,
		.fn = on_answer,
		.userdata = probe,
	};

	list_unlink(&probe->link);
	list_append(&search->asked, &probe->link);
	probe->goal = MAX(search->goal, search->tenants->floor);
	search->n_asked++;
	search->n_probes++;
	return fetch_start(search->agent, &query, &probe->fetch);
}

static bool is_needed(const struct search *search, const struct probe *probe)
{
	return next_lagging(
		search, tenants_first(search->tenants, probe->prefix), probe->prefix, search->goal);
}

static void ask(struct search *search)
{
	unsigned max = search->is_settled ? LIMIT_BELL_PROBES : 1;

	if (!list_is_empty(&search->waiting) && !take_turn(search))
		return;
	while (search->n_asked < max && !list_is_empty(&search->waiting)) {
		struct probe *probe = LIST_ENTRY(search->waiting.next, struct probe, link);

		if (!is_needed(search, probe)) {
			probe_free(probe);
		} else if (send_probe(search, probe) < 0) {
			run_out_of_memory(search);
			return;
		}
	}
	if (search->n_asked == 0)
		loop_timer_arm(search->timer, 0);
}

static void on_timer(void *userdata)
{
	struct search *search = userdata;
	bool has_failed = search->has_failed;

	log_debug("%s: searched with %u probes in %.1f ms", doorbell_prefix(search->bell),
		search->n_probes, (double)(loop_now() - search->began_at) / 1000);
	search->n_probes = 0;
	search->has_failed = false;
	search->is_settled = false;
	give_turn(search);
	search->fns->done(has_failed ? &search->error : NULL, search->userdata);
}

int search_new(struct agent *agent, struct tenants *tenants, const struct doorbell *bell,
	const struct search_fns *fns, void *userdata, struct search **ret_search)
{
	struct search *search = calloc(1, sizeof(*search));
	int r;

	if (!search)
		return -ENOMEM;
	search->agent = agent;
	search->tenants = tenants;
	search->bell = bell;
	search->fns = fns;
	search->userdata = userdata;
	list_init(&search->waiting);
	list_init(&search->asked);
	list_init(&search->turn_link);
	r = loop_timer_new(agent->loop, on_timer, search, &search->timer);
	if (r < 0) {
		free(search);
		return r;
	}
	*ret_search = search;
	return 0;
}

struct search *search_free(struct search *search)
{
	if (!search)
		return NULL;
	drop(search);
	give_turn(search);
	loop_timer_free(search->timer);
	free(search);
	return NULL;
}

void search_begin(
	struct search *search, const char *prefix, uint64_t index, bool is_absent, uint64_t goal)
{
	if (!search_is_under_way(search))
		search->began_at = loop_now();
	if (goal > search->goal || !search_is_under_way(search)) {
		search->goal = goal;
		search->is_settled = false;
	}
	if (settle_below(search, prefix, index, is_absent, goal) < 0)
		run_out_of_memory(search);
	else
		ask(search);
}

bool search_is_under_way(const struct search *search)
{
	return search->n_asked > 0 || !list_is_empty(&search->turn_link) ||
	       loop_timer_is_armed(search->timer);
}
