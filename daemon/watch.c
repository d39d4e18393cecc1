/*
 * Invariants: exactly one of a fetch, an inquiry, an armed timer and a doorbell drives a watch that
 * is not stopped. A candidate is an answer that waits for an inquiry or for a confirming read.
 */
#include "daemon/watch.h"

#include "daemon/fetch.h"
#include "daemon/inquiry.h"

enum watch_state {
	WATCH_STOPPED,
	WATCH_ASKING,
	WATCH_BLOCKING,
	WATCH_EXAMINING,
	WATCH_LISTENING, /* behind a doorbell */
	WATCH_READING, /* after it rang */
	WATCH_CONFIRMING,
	WATCH_PAUSING, /* before the next query, see consul_pace */
	WATCH_BACKING_OFF,
};

struct watch {
	struct agent *agent;
	struct doorbells *doorbells;
	struct tree *tree;
	struct tenant tenant; /* while listening */
	uint64_t floor; /* see doorbells_move_in() */
	unsigned n_hurried; /* changes that came at once, one after the other */
	uint64_t rung_index; /* what is read after a ring is at this index or above */
	enum watch_state state;
	struct fetch *fetch;
	struct loop_timer *timer;
	uint64_t timer_at;
	uint64_t index; /* to send; 0: ask now */
	uint64_t wait_usec; /* of the next poll; grows, see consul_next_wait() */
	uint64_t sent_wait_usec; /* of the poll under way */
	uint64_t n_bytes; /* of the last answer's body */
	struct kvset *candidate;
	bool is_consistent; /* the candidate came from a consistent read */
	struct inquiry *inquiry; /* after what the candidate lacks; NULL: none is under way */
	struct consul_backoff backoff;
	struct consul_pace pace;
};

static void wait_for(struct watch *watch, enum watch_state state, uint64_t delay_usec)
{
	watch->state = state;
	watch->timer_at = loop_now() + delay_usec;
	loop_timer_arm(watch->timer, delay_usec);
}

static void drop_candidate(struct watch *watch)
{
	watch->candidate = kvset_unref(watch->candidate);
}

static uint64_t back_off(struct watch *watch)
{
	uint64_t now = loop_now();
	uint64_t delay = consul_backoff_next(&watch->backoff, now, agent_random());

	wait_for(watch, WATCH_BACKING_OFF, delay);
	return now + delay;
}

static void fail(struct watch *watch, const struct consul_error *error)
{
	drop_candidate(watch);
	watch->index = 0;
	watch->wait_usec = watch->agent->config->wait_usec;
	tree_fail(watch->tree, error->kind, back_off(watch), "%s", error->message);
}

static void fail_without_memory(struct watch *watch)
{
	static const struct consul_error no_memory = { TREE_LIMIT, "out of memory" };

	fail(watch, &no_memory);
}

/* What is held is asked for again, and when it need not be held any longer. */
static void rest(struct watch *watch)
{
	const struct tree_held *held = &watch->tree->held;
	uint64_t now = loop_now(), delay;

	if (held->doubt == TREE_UNCLEAR)
		delay = consul_backoff_next(&watch->backoff, now, agent_random());
	else
		delay = consul_look_delay(now - held->since, agent_random());
	watch->index = 0;
	wait_for(watch, WATCH_BACKING_OFF, MIN(delay, tree_hold_left_usec(watch->tree)));
}

/* An answer that is not believed stays away from the contents. Takes the set. */
static void withhold(
	struct watch *watch, struct kvset *set, enum tree_doubt doubt, const char *reason)
{
	tree_hold(watch->tree, set, doubt, reason);
	rest(watch);
}

static void on_answer(struct fetch_answer *answer, void *userdata);

static void send_query(struct watch *watch, enum watch_state state, struct fetch_query query)
{
	watch->floor = doorbells_floor(watch->doorbells);
	query.prefix = watch->tree->prefix;
	query.model = watch->tree->content;
	query.fn = on_answer;
	query.userdata = watch;
	watch->state = state;
	if (fetch_start(watch->agent, &query, &watch->fetch) < 0)
		fail_without_memory(watch);
}

static void ask(struct watch *watch)
{
	send_query(watch, WATCH_ASKING,
		(struct fetch_query){
			.pool = agent_pool_for_read(watch->agent),
			.consistent = !watch->tree->content,
		});
}

/* A wait that grew would keep its connection from trees that come later. */
static uint64_t choose_wait(const struct watch *watch)
{
	const struct agent *agent = watch->agent;

	return agent->n_trees > agent_n_polls_at_once(agent) / 2
		       ? MIN(watch->wait_usec, agent->config->wait_usec)
		       : watch->wait_usec;
}

static void block(struct watch *watch)
{
	if (!doorbells_may_poll(watch->doorbells, watch->tree)) {
		watch->state = WATCH_LISTENING;
		doorbells_move_in(
			watch->doorbells, &watch->tenant, watch->tree, watch->index, watch->floor);
		return;
	}
	watch->sent_wait_usec = choose_wait(watch);
	send_query(watch, WATCH_BLOCKING,
		(struct fetch_query){
			.pool = AGENT_POLLS,
			.index = watch->index,
			.wait_usec = watch->sent_wait_usec,
		});
}

static void confirm(struct watch *watch)
{
	send_query(watch, WATCH_CONFIRMING,
		(struct fetch_query){
			.pool = agent_pool_for_read(watch->agent),
			.consistent = true,
		});
}

static void go_on(struct watch *watch)
{
	if (watch->candidate)
		confirm(watch);
	else if (watch->index == 0)
		ask(watch);
	else
		block(watch);
}

static void pause_watch(struct watch *watch)
{
	uint64_t delay = consul_pace_take(&watch->pace, loop_now());

	if (delay == 0)
		go_on(watch);
	else
		wait_for(watch, WATCH_PAUSING, delay);
}

/* Without a usable index the next query answers at once: a broken server must not be hammered. */
static void go_on_from(struct watch *watch, uint64_t sent, uint64_t received)
{
	watch->index = consul_next_index(sent, received);
	if (watch->index == 0)
		pause_watch(watch);
	else
		go_on(watch);
}

/*
 * After a change. What changes again and again is published once in LIMIT_COALESCE_USEC: there is
 * no use in asking more. The longer a storm lasts, the less of the host it takes.
 */
static uint64_t pause_usec(const struct watch *watch)
{
	if (watch->n_hurried <= LIMIT_STORM_BURST)
		return LIMIT_READERS_USEC;
	return MIN((watch->n_hurried - LIMIT_STORM_BURST) * (uint64_t)LIMIT_COALESCE_USEC,
		(uint64_t)LIMIT_STORM_USEC);
}

/* Takes the set: these are the contents now. */
static void accept(struct watch *watch, struct kvset *set)
{
	struct tree *tree = watch->tree;

	drop_candidate(watch);
	consul_backoff_reset(&watch->backoff);
	if (tree->content && tree->content->index == set->index && kvset_same(tree->content, set)) {
		kvset_unref(set);
		tree_confirm(tree);
	} else {
		tree_apply(tree, set);
	}
}

/*
 * The next poll keeps two processors busy, ours and the agent's, when readers wake up for what has
 * changed: they come first (a quarter of the time from a write to a reader that has it).
 */
static void apply_change(struct watch *watch, uint64_t sent, struct kvset *set)
{
	uint64_t received = set->index;

	consul_pace_reset(&watch->pace);
	accept(watch, set);
	watch->index = consul_next_index(sent, received);
	if (watch->index != 0)
		wait_for(watch, WATCH_PAUSING, pause_usec(watch));
	else
		go_on_from(watch, sent, received);
}

/* Takes the set as candidate and has a consistent read say whether it is so. */
static void doubt(struct watch *watch, struct kvset *set)
{
	drop_candidate(watch);
	watch->candidate = set;
	confirm(watch);
}

static void apply_candidate(struct watch *watch)
{
	apply_change(watch, watch->is_consistent ? 0 : watch->index, TAKE_PTR(watch->candidate));
}

/* Keys are hidden from the token; what is left is not what there is. */
static void on_hidden(struct watch *watch)
{
	tree_hold(watch->tree, kvset_ref(watch->candidate), TREE_ACCESS_LOST,
		consul_words_access_lost);
	if (tree_hold_left_usec(watch->tree) == 0) {
		apply_candidate(watch);
	} else {
		drop_candidate(watch);
		rest(watch);
	}
}

static void on_finding(enum inquiry_finding finding, uint64_t index, void *userdata)
{
	struct watch *watch = userdata;

	watch->inquiry = inquiry_free(watch->inquiry);
	switch (finding) {
	case INQUIRY_HARMLESS:
		apply_candidate(watch);
		break;
	case INQUIRY_DELETED:
		if (consul_is_lost_store(watch->tree, watch->candidate, index))
			withhold(watch, TAKE_PTR(watch->candidate), TREE_DATA_LOST,
				consul_words_data_lost);
		else
			apply_candidate(watch);
		break;
	case INQUIRY_HIDDEN:
		on_hidden(watch);
		break;
	case INQUIRY_UNCLEAR:
		withhold(watch, TAKE_PTR(watch->candidate), TREE_UNCLEAR, consul_words_unclear);
		break;
	case INQUIRY_SUSPICIOUS:
		if (!watch->is_consistent)
			confirm(watch);
		else /* the candidate stays: the next read may say the same */
			withhold(watch, kvset_ref(watch->candidate), TREE_UNCLEAR,
				consul_words_disagree);
		break;
	}
}

static void examine(struct watch *watch, struct kvset *set, bool is_consistent, bool is_confirmed)
{
	const struct inquiry_query query = {
		.pool = AGENT_READS,
		.prefix = watch->tree->prefix,
		.held = watch->tree->content,
		.fresh = set,
		.is_confirmed = is_confirmed,
		.fn = on_finding,
		.userdata = watch,
	};

	drop_candidate(watch);
	watch->candidate = set;
	watch->is_consistent = is_consistent;
	watch->state = WATCH_EXAMINING;
	if (inquiry_begin(watch->agent, &query, &watch->inquiry) < 0)
		fail_without_memory(watch);
}

/* Index 0: the first answer, after an outage, or after a wake-up that told nothing. */
static void on_asked(struct watch *watch, struct kvset *set)
{
	const struct kvset *content = watch->tree->content;
	uint64_t received = set->index;

	if (consul_is_held(watch->tree, set)) {
		kvset_unref(set);
		tree_hold_on(watch->tree);
		rest(watch);
		return;
	}
	if (content && !kvset_same(content, set)) {
		doubt(watch, set);
		return;
	}
	accept(watch, set);
	go_on_from(watch, 0, received);
}

static void on_unchanged(struct watch *watch, struct kvset *set, bool is_early)
{
	uint64_t sent = watch->index, received = set->index;

	accept(watch, set);
	if (!is_early) {
		consul_pace_reset(&watch->pace);
		watch->wait_usec =
			consul_next_wait(watch->wait_usec, watch->agent->config->wait_usec,
				watch->agent->config->max_wait_usec, watch->n_bytes);
		go_on_from(watch, sent, received);
		return;
	}
	/* Early at the same index: the store was restored from a snapshot and this is the old one,
	 * or the agent went away. A read at 0 tells. */
	watch->index = received == sent ? 0 : consul_next_index(sent, received);
	pause_watch(watch);
}

/* A server that knows less than the one that rang is asked to make sure. */
static void on_read(struct watch *watch, struct kvset *set)
{
	const struct kvset *content = watch->tree->content;
	uint64_t sent = watch->index, received = set->index;

	if (received < watch->rung_index || received < sent) {
		doubt(watch, set);
	} else if (kvset_same(content, set)) {
		accept(watch, set);
		go_on_from(watch, sent, received);
	} else {
		examine(watch, set, false, false);
	}
}

static void on_woken(struct watch *watch, struct kvset *set, uint64_t answered_usec)
{
	const struct kvset *content = watch->tree->content;

	if (kvset_same(content, set)) {
		on_unchanged(watch, set, consul_is_early(watch->sent_wait_usec, answered_usec));
		return;
	}
	watch->n_hurried = answered_usec < LIMIT_COALESCE_USEC ? watch->n_hurried + 1 : 0;
	if (set->index < watch->index)
		doubt(watch, set);
	else
		examine(watch, set, false, false);
}

/* The alarm was false: what is held is right. Whoever raised it may do so at once again. */
static void on_reassured(struct watch *watch, struct kvset *set)
{
	uint64_t received = set->index;

	accept(watch, set);
	watch->index = consul_next_index(0, received);
	pause_watch(watch);
}

static void on_confirmed(struct watch *watch, struct kvset *set)
{
	const struct kvset *content = watch->tree->content;

	if (kvset_same(content, set)) {
		on_reassured(watch, set);
	} else {
		examine(watch, set, true, kvset_same(watch->candidate, set));
	}
}

/* The source began to tell when the doorbell rang; then it was searched for. */
static void hear_ring(struct watch *watch, struct kvset *set)
{
	if (watch->tenant.rung_at != 0)
		set->heard_at = MIN(set->heard_at, watch->tenant.rung_at);
	watch->tenant.rung_at = 0;
}

static void on_answer(struct fetch_answer *answer, void *userdata)
{
	struct watch *watch = userdata;

	watch->fetch = NULL;
	if (!answer->set) {
		fail(watch, &answer->error);
		return;
	}
	watch->n_bytes = answer->n_bytes;
	switch (watch->state) {
	case WATCH_ASKING:
		on_asked(watch, TAKE_PTR(answer->set));
		break;
	case WATCH_BLOCKING:
		on_woken(watch, TAKE_PTR(answer->set), answer->answered_usec);
		break;
	case WATCH_READING:
		hear_ring(watch, answer->set);
		on_read(watch, TAKE_PTR(answer->set));
		break;
	case WATCH_CONFIRMING:
		on_confirmed(watch, TAKE_PTR(answer->set));
		break;
	case WATCH_STOPPED:
	case WATCH_EXAMINING:
	case WATCH_LISTENING:
	case WATCH_PAUSING:
	case WATCH_BACKING_OFF:
		break;
	}
}

static void on_timer(void *userdata)
{
	go_on(userdata);
}

static struct watch *watch_of(struct tenant *tenant)
{
	return CONTAINER_OF(tenant, struct watch, tenant);
}

static void on_moved(struct tenant *tenant, uint64_t index)
{
	struct watch *watch = watch_of(tenant);

	watch->rung_index = index;
	send_query(watch, WATCH_READING,
		(struct fetch_query){ .pool = agent_pool_for_read(watch->agent) });
}

static void on_doubted(struct tenant *tenant)
{
	struct watch *watch = watch_of(tenant);

	watch->index = 0;
	ask(watch);
}

static void on_released(struct tenant *tenant)
{
	block(watch_of(tenant));
}

static void on_failed(struct tenant *tenant, const struct consul_error *error, uint64_t retry_at)
{
	tree_fail(tenant->tree, error->kind, retry_at, "%s", error->message);
}

const struct doorbells_fns watch_tenant_functions = {
	.moved = on_moved,
	.doubted = on_doubted,
	.released = on_released,
	.failed = on_failed,
};

int watch_new(struct agent *agent, struct doorbells *doorbells, struct tree *tree,
	struct watch **ret_watch)
{
	struct watch *watch = calloc(1, sizeof(*watch));
	int r;

	if (!watch)
		return -ENOMEM;
	watch->agent = agent;
	watch->doorbells = doorbells;
	watch->tree = tree;
	r = loop_timer_new(agent->loop, on_timer, watch, &watch->timer);
	if (r < 0) {
		free(watch);
		return r;
	}
	watch_restart(watch);
	*ret_watch = watch;
	return 0;
}

struct watch *watch_free(struct watch *watch)
{
	if (!watch)
		return NULL;
	watch_stop(watch);
	loop_timer_free(watch->timer);
	free(watch);
	return NULL;
}

void watch_stop(struct watch *watch)
{
	if (watch->state == WATCH_LISTENING)
		doorbells_move_out(watch->doorbells, &watch->tenant);
	if (watch->state == WATCH_BLOCKING)
		watch->fetch = fetch_abandon(watch->fetch);
	else
		watch->fetch = fetch_cancel(watch->fetch);
	loop_timer_disarm(watch->timer);
	watch->inquiry = inquiry_free(watch->inquiry);
	drop_candidate(watch);
	watch->state = WATCH_STOPPED;
}

void watch_restart(struct watch *watch)
{
	watch_stop(watch);
	watch->index = 0;
	watch->wait_usec = watch->agent->config->wait_usec;
	ask(watch);
}

void watch_doubt(struct watch *watch)
{
	switch (watch->state) {
	case WATCH_BLOCKING:
	case WATCH_EXAMINING:
	case WATCH_LISTENING:
	case WATCH_READING:
	case WATCH_PAUSING:
		watch_restart(watch);
		break;
	case WATCH_STOPPED:
	case WATCH_ASKING:
	case WATCH_CONFIRMING:
	case WATCH_BACKING_OFF:
		break;
	}
}

void watch_hurry(struct watch *watch)
{
	if (watch->state == WATCH_EXAMINING || watch->state == WATCH_PAUSING ||
		watch->state == WATCH_BACKING_OFF)
		watch_restart(watch);
}

bool watch_is_on_time(const struct watch *watch, uint64_t now)
{
	uint64_t due;

	if (watch->state == WATCH_STOPPED || watch->state == WATCH_LISTENING)
		return true;
	if (watch->fetch)
		due = fetch_due_at(watch->fetch);
	else if (watch->state == WATCH_EXAMINING)
		due = inquiry_due_at(watch->inquiry);
	else if (loop_timer_is_armed(watch->timer))
		due = watch->timer_at;
	else
		return false;
	return due >= now || now - due < LIMIT_OVERDUE_USEC;
}
