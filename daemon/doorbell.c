#include "daemon/doorbell.h"

#include "daemon/log.h"

struct doorbell {
	struct agent *agent;
	struct tenants *tenants;
	char *prefix;
	const struct doorbell_fns *fns;
	void *userdata;
	struct fetch *fetch; /* a knock or a poll */
	bool is_listening; /* a poll */
	struct search *search;
	struct loop_timer *timer;
	uint64_t timer_at;
	uint64_t goal; /* the index that was seen last; 0: knock first */
	uint64_t rung_at; /* loop_now() of the last answer */
	uint64_t wait_usec, asked_at; /* of the poll under way */
	uint64_t next_wait_usec;
	uint64_t confirmed_at;
	unsigned n_hurried; /* rings that came at once, one after the other */
	bool is_doubtful; /* all are doubted when it answers again */
	bool is_blind; /* may not list */
	struct consul_backoff backoff;
};

#define FOREACH_TENANT(tenant, next, bell)                                                         \
	for (struct tenant * (next),                                                               \
		*(tenant) = next_own(bell, tenants_first((bell)->tenants, (bell)->prefix));        \
		(tenant) && ((next) = tenant_next(tenant, (bell)->prefix), true);                  \
		(tenant) = next_own(bell, next))

static struct tenant *next_own(const struct doorbell *bell, struct tenant *tenant)
{
	while (tenant && tenant->bell != bell)
		tenant = tenant_next(tenant, bell->prefix);
	return tenant;
}

static void rest(struct doorbell *bell, uint64_t delay_usec)
{
	bell->timer_at = loop_now() + delay_usec;
	loop_timer_arm(bell->timer, delay_usec);
}

/* What is held may be of another store than the one that answers from here on. */
static void forget(struct doorbell *bell)
{
	bell->is_doubtful = true;
	bell->goal = 0;
	bell->tenants->floor = 0;
}

static void rest_after_failure(struct doorbell *bell, const struct consul_error *error)
{
	uint64_t now = loop_now();
	uint64_t delay = consul_backoff_next(&bell->backoff, now, agent_random());

	forget(bell);
	FOREACH_TENANT(tenant, next, bell)
	bell->fns->failed(tenant, error, now + delay, bell->userdata);
	rest(bell, delay);
}

static void doubt_all(struct doorbell *bell)
{
	bell->is_doubtful = false;
	FOREACH_TENANT(tenant, next, bell)
	bell->fns->doubted(tenant, bell->userdata);
}

static void confirm_all(struct doorbell *bell)
{
	bell->confirmed_at = loop_now();
	FOREACH_TENANT(tenant, next, bell)
	if (tenant->known >= bell->goal)
		tree_confirm(tenant->tree);
}

/* Contents that are newer than anything the store has there are of another store. */
static void forget_newer(struct doorbell *bell)
{
	FOREACH_TENANT(tenant, next, bell)
	if (tenant->index > bell->goal)
		tenant_forget(tenant);
}

/* An index that was seen elsewhere and was not true would hide what is written below it. */
static void trust_own_sight(struct doorbell *bell, uint64_t index)
{
	FOREACH_TENANT(tenant, next, bell)
	if (tenant->known > index)
		tenant->known = MIN(tenant->known, bell->goal);
}

static bool is_behind(const struct doorbell *bell)
{
	FOREACH_TENANT(tenant, next, bell)
	if (tenant->known < bell->goal)
		return true;
	return false;
}

static bool has_contents(const struct doorbell *bell)
{
	FOREACH_TENANT(tenant, next, bell)
	if (!tenant_is_absent(tenant))
		return true;
	return false;
}

/* The first rings of a burst cost nothing. Where nothing but absent trees live, each write of the
 * cluster rings. */
static uint64_t rest_of_storm(const struct doorbell *bell)
{
	unsigned n = bell->n_hurried;
	uint64_t max = has_contents(bell) ? LIMIT_BELL_REST_USEC : LIMIT_KNOCK_USEC;

	if (n <= LIMIT_PACE_BURST)
		return 0;
	return MIN((uint64_t)LIMIT_BELL_REST_FIRST_USEC << MIN(n - LIMIT_PACE_BURST - 1, 16u), max);
}

static void on_answer(struct fetch_answer *answer, void *userdata);

static void ask(struct doorbell *bell, struct fetch_query query)
{
	static const struct consul_error no_memory = { TREE_LIMIT, "out of memory" };

	query.prefix = bell->prefix;
	query.lists = true;
	query.fn = on_answer;
	query.userdata = bell;
	bell->asked_at = loop_now();
	bell->wait_usec = query.wait_usec;
	bell->is_listening = query.index > 0;
	if (fetch_start(bell->agent, &query, &bell->fetch) < 0) {
		bell->is_listening = false;
		rest_after_failure(bell, &no_memory);
	}
}

static void knock(struct doorbell *bell)
{
	ask(bell, (struct fetch_query){
			  .pool = agent_pool_for_read(bell->agent),
			  .consistent = true,
		  });
}

/*
 * What all tenants know: the index that was seen last, or one that was seen elsewhere before they
 * were looked at. What was written up to it needs not ring.
 */
static uint64_t choose_index(const struct doorbell *bell)
{
	uint64_t index = UINT64_MAX;

	FOREACH_TENANT(tenant, next, bell)
	index = MIN(index, tenant->known);
	return index == UINT64_MAX ? bell->goal : MAX(index, bell->goal);
}

/* Short at first: many trees come at once, and the prefixes of doorbells change with them. */
static void listen(struct doorbell *bell)
{
	uint64_t max = bell->agent->config->wait_usec;
	uint64_t wait_usec = MIN(MAX(bell->next_wait_usec, LIMIT_WAIT_MIN_USEC), max);

	bell->next_wait_usec = MIN(wait_usec * 2, max);
	ask(bell, (struct fetch_query){
			  .pool = AGENT_POLLS,
			  .index = choose_index(bell),
			  .wait_usec = wait_usec,
		  });
}

/* Neither asking nor searching: whatever is due. */
static void go_on(struct doorbell *bell)
{
	uint64_t delay;

	if (bell->fetch || search_is_under_way(bell->search))
		return;
	if (!bell->fns->idle(bell, bell->userdata))
		return;
	delay = rest_of_storm(bell);
	if (bell->goal == 0 || bell->is_blind)
		knock(bell);
	else if (is_behind(bell))
		search_begin(bell->search, bell->prefix, bell->goal, false, bell->goal);
	else if (!agent_has_room_for_poll(bell->agent))
		rest(bell, LIMIT_KNOCK_USEC);
	else if (delay > 0)
		rest(bell, delay);
	else
		listen(bell);
}

static void on_timer(void *userdata)
{
	struct doorbell *bell = userdata;

	if (bell->goal == 0 || bell->is_blind)
		go_on(bell);
	else if (!bell->fns->idle(bell, bell->userdata))
		return;
	else if (is_behind(bell) || !agent_has_room_for_poll(bell->agent))
		knock(bell);
	else
		listen(bell);
}

static void on_moved(struct tenant *tenant, uint64_t index, void *userdata)
{
	struct doorbell *bell = userdata;

	tenant->rung_at = bell->rung_at;
	bell->fns->moved(tenant, index, bell->userdata);
}

static void on_searched(const struct consul_error *error, void *userdata)
{
	struct doorbell *bell = userdata;

	if (error) {
		bell->fetch = fetch_abandon(bell->fetch);
		bell->is_listening = false;
		rest_after_failure(bell, error);
		return;
	}
	if (is_behind(bell)) {
		search_begin(bell->search, bell->prefix, bell->goal, false, bell->goal);
		return;
	}
	/* Where it rings again and again no poll ends by itself. */
	if (loop_now() - bell->confirmed_at >= bell->agent->config->wait_usec / 2)
		confirm_all(bell);
	if (!loop_timer_is_armed(bell->timer))
		go_on(bell);
}

static const struct search_fns search_functions = {
	.moved = on_moved,
	.done = on_searched,
};

/* Not listed, for want of a permission or because there is too much: its tenants can be read. */
static void go_blind(struct doorbell *bell, const struct consul_error *error)
{
	if (!bell->is_blind)
		log_info("%s: no listing (%s): prefixes below it are read one by one", bell->prefix,
			error->message);
	bell->is_blind = true;
	bell->goal = 0;
	FOREACH_TENANT(tenant, next, bell)
	bell->fns->moved(tenant, 0, bell->userdata);
	rest(bell, bell->agent->config->wait_usec);
}

static void on_error(struct doorbell *bell, const struct consul_error *error)
{
	if (consul_is_outage(error))
		rest_after_failure(bell, error);
	else
		go_blind(bell, error);
}

/*
 * The store is not the one that it was, or may not be: the index went backwards, or the query ended
 * early and says nothing new, as before an agent goes away and when a snapshot is restored.
 */
static bool is_suspicious(const struct doorbell *bell, const struct fetch_answer *answer)
{
	if (answer->index < bell->goal)
		return true;
	return bell->is_listening && answer->index == bell->goal &&
	       consul_is_early(bell->wait_usec, answer->answered_usec);
}

static void start_afresh(struct doorbell *bell)
{
	forget(bell);
	bell->n_hurried++;
	rest(bell, rest_of_storm(bell));
}

static void note_hurry(struct doorbell *bell, const struct fetch_answer *answer)
{
	if (bell->is_listening)
		bell->n_hurried =
			answer->answered_usec < LIMIT_BELL_HURRY_USEC ? bell->n_hurried + 1 : 0;
}

static void take_index(struct doorbell *bell, const struct fetch_answer *answer)
{
	bool is_timeout = bell->is_listening && answer->index == bell->goal;
	bool is_first = bell->goal == 0;

	note_hurry(bell, answer);
	if (!is_first)
		trust_own_sight(bell, answer->index);
	bell->is_listening = false;
	bell->goal = answer->index;
	bell->rung_at = loop_now();
	tenants_see(bell->tenants, bell->goal);
	/* They are read after this index was seen. */
	if (bell->is_doubtful)
		doubt_all(bell);
	if (is_first)
		forget_newer(bell);
	if (is_timeout)
		confirm_all(bell);
	if (is_behind(bell))
		search_begin(bell->search, bell->prefix, bell->goal, answer->is_absent, bell->goal);
	else
		go_on(bell);
}

static void on_answer(struct fetch_answer *answer, void *userdata)
{
	struct doorbell *bell = userdata;
	bell->fetch = NULL;
	loop_timer_disarm(bell->timer);
	if (!answer->is_good) {
		bell->is_listening = false;
		on_error(bell, &answer->error);
		return;
	}
	consul_backoff_reset(&bell->backoff);
	bell->is_blind = false;
	if (consul_next_index(0, answer->index) == 0 || is_suspicious(bell, answer)) {
		bell->is_listening = false;
		start_afresh(bell);
		return;
	}
	take_index(bell, answer);
}

int doorbell_new(struct agent *agent, struct tenants *tenants, const char *prefix,
	const struct doorbell_fns *fns, void *userdata, struct doorbell **ret_bell)
{
	struct doorbell *bell = calloc(1, sizeof(*bell));
	int r;

	if (!bell)
		return -ENOMEM;
	bell->agent = agent;
	bell->tenants = tenants;
	bell->fns = fns;
	bell->userdata = userdata;
	bell->confirmed_at = loop_now();
	bell->prefix = strdup(prefix);
	r = bell->prefix ? loop_timer_new(agent->loop, on_timer, bell, &bell->timer) : -ENOMEM;
	if (r == 0)
		r = search_new(agent, tenants, bell, &search_functions, bell, &bell->search);
	if (r < 0) {
		doorbell_free(bell);
		return r;
	}
	rest(bell, 0);
	*ret_bell = bell;
	return 0;
}

/* Those it had live behind other doorbells by now, or will soon. */
static void pass_doubt_on(struct doorbell *bell)
{
	struct tenant *tenant = tenants_first(bell->tenants, bell->prefix);

	for (; tenant; tenant = tenant_next(tenant, bell->prefix))
		tenant_forget(tenant);
}

struct doorbell *doorbell_free(struct doorbell *bell)
{
	if (!bell)
		return NULL;
	if (bell->is_doubtful)
		pass_doubt_on(bell);
	if (bell->is_listening)
		fetch_abandon(bell->fetch);
	else
		fetch_cancel(bell->fetch);
	search_free(bell->search);
	loop_timer_free(bell->timer);
	free(bell->prefix);
	free(bell);
	return NULL;
}

const char *doorbell_prefix(const struct doorbell *bell)
{
	return bell->prefix;
}

bool doorbell_is_listening(const struct doorbell *bell)
{
	return bell->is_listening;
}

void doorbell_look(struct doorbell *bell)
{
	if (bell->goal == 0 || search_is_under_way(bell->search) || !is_behind(bell))
		return;
	search_begin(bell->search, bell->prefix, bell->goal, false, bell->goal);
}

void doorbell_wake(struct doorbell *bell)
{
	if (!bell->fetch && loop_timer_is_armed(bell->timer) && !bell->is_doubtful)
		rest(bell, 0);
}

bool doorbell_is_on_time(const struct doorbell *bell, uint64_t now)
{
	uint64_t due = now;

	if (bell->fetch)
		due = fetch_due_at(bell->fetch);
	else if (loop_timer_is_armed(bell->timer))
		due = bell->timer_at;
	else if (!search_is_under_way(bell->search))
		return false;
	return due >= now || now - due < LIMIT_OVERDUE_USEC;
}
