#include "daemon/fetch.h"

#include <stdio.h>

#include "daemon/kvjson.h"
#include "proto/hash.h"

struct fetch {
	struct agent *agent;
	const struct consul_address *address;
	enum agent_pool pool;
	const char *prefix;
	struct kvset *model;
	bool skims;
	int entry; /* of the ledger; -1: none */
	fetch_fn fn;
	void *userdata;
	struct http_request *request; /* NULL: refused */
	struct loop_timer *refusal; /* tells of it */
	struct consul_error refused;
	/* From the first byte of a body on: a poll sleeps without them. */
	struct kvset *set;
	struct kvjson *kvjson;
	hash_stream *hash;
	uint64_t heard_at; /* loop_now() */
};

static struct fetch *fetch_free(struct fetch *fetch)
{
	if (fetch->entry >= 0)
		ledger_leave(fetch->agent->ledger, fetch->entry);
	kvjson_free(fetch->kvjson);
	kvset_unref(fetch->set);
	kvset_unref(fetch->model);
	loop_timer_free(fetch->refusal);
	if (fetch->hash)
		hash_stream_free(fetch->hash);
	free(fetch);
	return NULL;
}

static int open_body(struct fetch *fetch)
{
	const struct config *config = fetch->agent->config;
	int r;

	if (!fetch->set) {
		r = kvset_new(config->max_service, fetch->model, &fetch->set);
		if (r < 0)
			return r;
	}
	return kvjson_new(fetch->prefix, config->max_value, fetch->set, &fetch->kvjson);
}

static int on_body(const void *data, size_t len, void *userdata)
{
	struct fetch *fetch = userdata;
	int r;

	if (fetch->heard_at == 0)
		fetch->heard_at = loop_now();
	if (!fetch->hash)
		fetch->hash = hash_stream_new();
	if (!fetch->hash)
		return -ENOMEM;
	hash_stream_add(fetch->hash, data, len);
	if (fetch->skims)
		return 0;
	r = fetch->kvjson ? 0 : open_body(fetch);
	return r < 0 ? r : kvjson_feed(fetch->kvjson, data, len);
}

/* The contents that an answer without error means. */
static int close_body(struct fetch *fetch, enum consul_verdict verdict)
{
	int r = 0;

	if (verdict == CONSUL_CONTENT) {
		r = fetch->kvjson ? 0 : open_body(fetch);
		if (r == 0)
			r = kvjson_finish(fetch->kvjson);
	} else if (!fetch->set) {
		r = kvset_new(fetch->agent->config->max_service, NULL, &fetch->set);
	}
	return r < 0 ? r : kvset_finish(fetch->set);
}

static const char *details_of(const struct fetch *fetch, int error)
{
	if (error == -ENOMEM)
		return "out of memory";
	return fetch->kvjson ? kvjson_error(fetch->kvjson) : NULL;
}

static uint64_t body_hash(const struct fetch *fetch, enum consul_verdict verdict)
{
	return verdict == CONSUL_CONTENT && fetch->hash ? hash_stream_digest(fetch->hash) : 0;
}

static enum consul_verdict settle(
	struct fetch *fetch, const struct http_result *result, struct consul_error *ret_error)
{
	const char *name = fetch->address->name;
	struct http_result failed = *result;
	uint64_t cpu_usec;
	enum consul_verdict verdict =
		consul_judge(result, name, details_of(fetch, result->error), ret_error);

	if (verdict == CONSUL_ERROR || fetch->skims)
		return verdict;
	cpu_usec = loop_cpu_usec();
	failed.error = close_body(fetch, verdict);
	if (failed.error < 0)
		return consul_judge(&failed, name, details_of(fetch, failed.error), ret_error);
	fetch->set->index = result->index;
	fetch->set->heard_at = fetch->heard_at != 0 ? fetch->heard_at : loop_now();
	fetch->set->answered_cpu_usec = cpu_usec;
	fetch->set->body_hash = body_hash(fetch, verdict);
	return verdict;
}

/* Not of one that did not come in time: the agent still has it. */
static void close_entry(struct fetch *fetch)
{
	if (fetch->entry >= 0)
		ledger_close(fetch->agent->ledger, fetch->entry);
	fetch->entry = -1;
}

static int open_entry(struct fetch *fetch, const struct fetch_query *query)
{
	struct agent *agent = fetch->agent;
	int r;

	if (query->index == 0)
		return 0;
	if (!agent_has_room_for_poll(agent))
		return -EBUSY;
	if (http_is_multiplexed(agent->pools[query->pool]))
		return 0;
	r = ledger_open(agent->ledger, agent_n_polls_at_once(agent), query->wait_usec);
	if (r < 0)
		return r;
	fetch->entry = r;
	return 0;
}

static void on_done(const struct http_result *result, void *userdata)
{
	struct fetch *fetch = userdata;
	struct fetch_answer answer = {
		.answered_usec = result->answered_usec,
		.n_bytes = result->n_bytes,
		.status = result->status,
	};
	fetch_fn fn = fetch->fn;
	void *fn_userdata = fetch->userdata;
	enum consul_verdict verdict;

	verdict = settle(fetch, result, &answer.error);
	answer.is_good = verdict != CONSUL_ERROR;
	answer.is_absent = verdict == CONSUL_ABSENT;
	answer.index = result->index;
	if (result->error != -ETIMEDOUT)
		close_entry(fetch);
	if (answer.is_good) {
		answer.set = TAKE_PTR(fetch->set);
		answer.body_hash = body_hash(fetch, verdict);
	} else if (consul_is_outage(&answer.error)) {
		agent_fail_over(fetch->agent, fetch->address);
	}
	agent_learn(fetch->agent, fetch->pool);
	fetch_free(fetch);
	fn(&answer, fn_userdata);
	kvset_unref(answer.set);
}

static void on_refused(void *userdata)
{
	struct fetch *fetch = userdata;
	struct fetch_answer answer = { .error = fetch->refused };
	fetch_fn fn = fetch->fn;
	void *fn_userdata = fetch->userdata;

	close_entry(fetch);
	fetch_free(fetch);
	fn(&answer, fn_userdata);
}

/* Nobody is asked: the caller hears why in the next turn of the loop. */
static int refuse(struct fetch *fetch, int error)
{
	int r = loop_timer_new(fetch->agent->loop, on_refused, fetch, &fetch->refusal);

	if (r < 0)
		return r;
	fetch->refused.kind = TREE_DENIED;
	snprintf(fetch->refused.message, sizeof(fetch->refused.message), "token_file %s: %s",
		fetch->agent->token.path, token_error(error));
	return loop_timer_arm(fetch->refusal, 0);
}

static int request(struct fetch *fetch, const struct fetch_query *query)
{
	struct agent *agent = fetch->agent;
	const struct config *config = agent->config;
	const struct consul_query consul_query = {
		.prefix = query->prefix,
		.key = query->key,
		.lists = query->lists,
		.index = query->index,
		.wait_usec = query->wait_usec,
		.consistent = query->consistent,
		.datacenter = config->datacenter,
		.namespace = config->namespace,
		.partition = config->partition,
	};
	AUTO_FREE char *url = NULL;
	struct http_get get = {
		.unix_path = fetch->address->unix_path,
		.connect_to = fetch->address->connect_to,
		/*
		 * A connection that is used every quarter of an hour takes one of the few that the
		 * agent grants, and starts slower than a new one: congestion control remembers how
		 * slowly it was read from (BBR: twice the time of a resync).
		 */
		.closes = query->pool == AGENT_RESYNCS,
		.auth = config->auth,
		.accept_gzip = !fetch->address->is_local,
		.answer_usec = consul_deadline(query->index > 0 ? query->wait_usec : 0),
		.body_usec = LIMIT_BODY_USEC,
		.max_bytes = config->max_service * LIMIT_BODY_FACTOR + LIMIT_BODY_SLACK,
		.body = on_body,
		.done = on_done,
		.userdata = fetch,
	};
	int r = token_get(&agent->token, &get.token);

	if (r < 0)
		return refuse(fetch, r);
	r = consul_url(fetch->address, &consul_query, &url);
	if (r < 0)
		return r;
	get.url = url;
	return http_get(agent->pools[query->pool], &get, &fetch->request);
}

int fetch_start(struct agent *agent, const struct fetch_query *query, struct fetch **ret_fetch)
{
	struct fetch *fetch = calloc(1, sizeof(*fetch));
	int r;

	if (!fetch)
		return -ENOMEM;
	fetch->agent = agent;
	fetch->address = agent_address(agent);
	fetch->pool = query->pool;
	fetch->prefix = query->prefix;
	fetch->skims = query->skims || query->lists;
	fetch->entry = -1;
	fetch->model = query->model ? kvset_ref(query->model) : NULL;
	fetch->fn = query->fn;
	fetch->userdata = query->userdata;
	r = open_entry(fetch, query);
	if (r == 0)
		r = request(fetch, query);
	if (r < 0) {
		close_entry(fetch);
		fetch_free(fetch);
		return r;
	}
	*ret_fetch = fetch;
	return 0;
}

struct fetch *fetch_cancel(struct fetch *fetch)
{
	if (!fetch)
		return NULL;
	http_cancel(fetch->request);
	return fetch_free(fetch);
}

struct fetch *fetch_abandon(struct fetch *fetch)
{
	if (!fetch)
		return NULL;
	http_abandon(fetch->request);
	return fetch_free(fetch);
}

uint64_t fetch_due_at(const struct fetch *fetch)
{
	return fetch->request ? http_due_at(fetch->request) : loop_now();
}
