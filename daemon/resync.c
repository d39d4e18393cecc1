#include "daemon/resync.h"

#include "daemon/fetch.h"
#include "daemon/inquiry.h"
#include "daemon/log.h"

enum resync_state {
	RESYNC_IDLE,
	RESYNC_SKIMMING,
	RESYNC_READING,
	RESYNC_CONFIRMING,
	RESYNC_WAITING,
	RESYNC_EXAMINING,
};

struct resync {
	struct agent *agent;
	struct tree *tree;
	struct watch *watch;
	enum resync_state state;
	struct fetch *fetch;
	struct loop_timer *timer;
	uint64_t timer_at, started_at;
	struct kvset *plain, *fresh; /* what the two reads said */
	struct kvset *seen; /* the contents they were compared with */
	struct inquiry *inquiry; /* after what they lack; NULL: none is under way */
	struct consul_backoff backoff;
};

static void arm(struct resync *resync, enum resync_state state, uint64_t delay_usec)
{
	resync->state = state;
	resync->timer_at = loop_now() + delay_usec;
	loop_timer_arm(resync->timer, delay_usec);
}

static void drop(struct resync *resync)
{
	resync->plain = kvset_unref(resync->plain);
	resync->fresh = kvset_unref(resync->fresh);
	resync->seen = kvset_unref(resync->seen);
}

/* The watch tells the tree of trouble with Consul; here it is only tried again. */
static void retry(struct resync *resync)
{
	drop(resync);
	arm(resync, RESYNC_IDLE, consul_backoff_next(&resync->backoff, loop_now(), agent_random()));
}

static void on_answer(struct fetch_answer *answer, void *userdata);

static void read_tree(struct resync *resync, enum resync_state state)
{
	const struct fetch_query query = {
		.pool = AGENT_RESYNCS,
		.prefix = resync->tree->prefix,
		.consistent = state == RESYNC_CONFIRMING,
		.skims = state == RESYNC_SKIMMING,
		.model = resync->tree->content,
		.fn = on_answer,
		.userdata = resync,
	};

	resync->state = state;
	if (fetch_start(resync->agent, &query, &resync->fetch) < 0)
		retry(resync);
}

static void on_same(struct resync *resync)
{
	log_debug("%s: resync of %zu keys, all the same, in %.1f ms", resync->tree->prefix,
		resync->tree->content->records.n, (double)(loop_now() - resync->started_at) / 1000);
	tree_confirm(resync->tree);
	resync_schedule(resync);
}

static void repair(struct resync *resync)
{
	resync->agent->n_repairs++;
	log_event(LOG_LEVEL_WARNING, ABOUT(LOG_RESYNC_REPAIRED, .prefix = resync->tree->prefix),
		"%s: the resync found what the watch had missed; repaired, watching afresh",
		resync->tree->prefix);
	tree_apply(resync->tree, TAKE_PTR(resync->fresh));
	watch_restart(resync->watch);
	resync_schedule(resync);
}

/*
 * The watch will find the same, unless it is broken: then what comes next is seen here alone. A
 * poll that is under way may still answer with what the token could read when it began.
 */
static void hold(struct resync *resync, enum tree_doubt doubt, const char *reason)
{
	bool is_news = !resync->tree->held.set;

	tree_hold(resync->tree, kvset_ref(resync->fresh), doubt, reason);
	if (tree_hold_left_usec(resync->tree) == 0) {
		repair(resync);
		return;
	}
	if (is_news)
		watch_restart(resync->watch);
	if (doubt == TREE_UNCLEAR)
		retry(resync);
	else
		resync_schedule(resync);
}

static bool is_outdated(const struct resync *resync)
{
	return !kvset_same(resync->seen, resync->tree->content);
}

static void on_finding(enum inquiry_finding finding, uint64_t index, void *userdata)
{
	struct resync *resync = userdata;

	resync->inquiry = inquiry_free(resync->inquiry);
	if (is_outdated(resync))
		resync_schedule(resync);
	else if (finding == INQUIRY_HIDDEN)
		hold(resync, TREE_ACCESS_LOST, consul_words_access_lost);
	else if (finding == INQUIRY_UNCLEAR)
		hold(resync, TREE_UNCLEAR, consul_words_unclear);
	else if (finding == INQUIRY_DELETED &&
		 consul_is_lost_store(resync->tree, resync->fresh, index))
		hold(resync, TREE_DATA_LOST, consul_words_data_lost);
	else
		repair(resync);
}

static void examine(struct resync *resync)
{
	const struct inquiry_query query = {
		.pool = AGENT_RESYNCS,
		.prefix = resync->tree->prefix,
		.held = resync->tree->content,
		.fresh = resync->fresh,
		.is_confirmed = true,
		.fn = on_finding,
		.userdata = resync,
	};

	resync->state = RESYNC_EXAMINING;
	if (inquiry_begin(resync->agent, &query, &resync->inquiry) < 0)
		retry(resync);
}

/* The watch had its time. */
static void conclude(struct resync *resync)
{
	if (is_outdated(resync)) {
		resync_schedule(resync);
	} else if (!kvset_same(resync->plain, resync->fresh)) {
		retry(resync);
	} else {
		examine(resync);
	}
}

/* The very bytes that the contents came from say nothing new. Others may: a lock that was taken, or
 * a change. */
static void on_skimmed(struct resync *resync, uint64_t body_hash)
{
	if (body_hash != 0 && body_hash == resync->tree->content->body_hash)
		on_same(resync);
	else
		read_tree(resync, RESYNC_READING);
}

static void on_answer(struct fetch_answer *answer, void *userdata)
{
	struct resync *resync = userdata;
	struct tree *tree = resync->tree;

	resync->fetch = NULL;
	if (!answer->is_good) {
		retry(resync);
	} else if (resync->state == RESYNC_SKIMMING) {
		on_skimmed(resync, answer->body_hash);
	} else if (kvset_same(tree->content, answer->set)) {
		tree->content->body_hash = answer->body_hash;
		on_same(resync);
	} else if (consul_is_held(tree, answer->set)) {
		tree_hold_on(tree);
		resync_schedule(resync);
	} else if (resync->state == RESYNC_READING) {
		resync->plain = TAKE_PTR(answer->set);
		read_tree(resync, RESYNC_CONFIRMING);
	} else {
		resync->fresh = TAKE_PTR(answer->set);
		resync->seen = kvset_ref(tree->content);
		arm(resync, RESYNC_WAITING, LIMIT_RESYNC_GRACE_USEC);
	}
}

static void on_timer(void *userdata)
{
	struct resync *resync = userdata;

	resync->started_at = loop_now();
	if (resync->state == RESYNC_WAITING)
		conclude(resync);
	else if (resync->tree->content)
		read_tree(resync,
			resync->tree->content->body_hash != 0 ? RESYNC_SKIMMING : RESYNC_READING);
	else
		resync_schedule(resync); /* nothing to compare with: the watch is at it */
}

int resync_new(
	struct agent *agent, struct tree *tree, struct watch *watch, struct resync **ret_resync)
{
	struct resync *resync = calloc(1, sizeof(*resync));
	int r;

	if (!resync)
		return -ENOMEM;
	resync->agent = agent;
	resync->tree = tree;
	resync->watch = watch;
	r = loop_timer_new(agent->loop, on_timer, resync, &resync->timer);
	if (r < 0) {
		free(resync);
		return r;
	}
	resync_schedule(resync);
	*ret_resync = resync;
	return 0;
}

struct resync *resync_free(struct resync *resync)
{
	if (!resync)
		return NULL;
	resync_stop(resync);
	loop_timer_free(resync->timer);
	free(resync);
	return NULL;
}

void resync_stop(struct resync *resync)
{
	resync->fetch = fetch_cancel(resync->fetch);
	loop_timer_disarm(resync->timer);
	resync->inquiry = inquiry_free(resync->inquiry);
	drop(resync);
	resync->state = RESYNC_IDLE;
	resync->timer_at = UINT64_MAX;
}

void resync_schedule(struct resync *resync)
{
	uint64_t delay = consul_jitter(resync->agent->config->resync_usec, agent_random());

	resync_stop(resync);
	consul_backoff_reset(&resync->backoff);
	/* What is held for a time is looked at when that is over, should the watch be broken. */
	arm(resync, RESYNC_IDLE, MIN(delay, tree_hold_left_usec(resync->tree)));
}

void resync_now(struct resync *resync)
{
	if (resync->state == RESYNC_IDLE)
		arm(resync, RESYNC_IDLE, 0);
}

bool resync_is_on_time(const struct resync *resync, uint64_t now)
{
	uint64_t due = resync->timer_at;

	if (resync->fetch)
		due = fetch_due_at(resync->fetch);
	else if (resync->state == RESYNC_EXAMINING)
		due = inquiry_due_at(resync->inquiry);
	return due >= now || now - due < LIMIT_OVERDUE_USEC;
}
