/*
 * Invariant: an inquiry that has not called back has either an armed timer or a fetch.
 */
#include "daemon/inquiry.h"

#include "daemon/fetch.h"
#include "daemon/loss.h"

#define STATUS_DENIED 403

struct inquiry {
	struct agent *agent;
	struct inquiry_query query;
	struct loop_timer *timer; /* between slices */
	uint64_t timer_at;
	struct fetch *fetch;
	struct loss loss;
	unsigned n_asked;
	bool is_hidden, is_unclear; /* of a key that was asked for */
	uint64_t index; /* the lowest of their answers */
};

static void conclude(struct inquiry *inquiry, enum inquiry_finding finding)
{
	inquiry->query.fn(finding, inquiry->index, inquiry->query.userdata);
}

static void on_answer(struct fetch_answer *answer, void *userdata);

static void ask(struct inquiry *inquiry)
{
	const struct inquiry_query *asked = &inquiry->query;
	const struct records *records = &asked->held->records;
	struct fetch_query query = {
		.pool = asked->pool == AGENT_READS ? agent_pool_for_read(inquiry->agent)
						   : asked->pool,
		.prefix = asked->prefix,
		.fn = on_answer,
		.userdata = inquiry,
	};
	struct record record;
	size_t off;

	if (inquiry->n_asked == inquiry->loss.n_samples) {
		if (inquiry->is_hidden)
			conclude(inquiry, INQUIRY_HIDDEN);
		else if (inquiry->is_unclear || inquiry->n_asked == 0)
			conclude(inquiry, INQUIRY_UNCLEAR);
		else
			conclude(inquiry, INQUIRY_DELETED);
		return;
	}
	off = inquiry->loss.sample_offs[inquiry->n_asked++];
	if (record_decode(records->data, records->size, off, &record) != 0) {
		query.key = record.key;
		if (fetch_start(inquiry->agent, &query, &inquiry->fetch) == 0)
			return;
	}
	conclude(inquiry, INQUIRY_UNCLEAR);
}

static void on_answer(struct fetch_answer *answer, void *userdata)
{
	struct inquiry *inquiry = userdata;

	bool is_hidden = answer->status == STATUS_DENIED;

	inquiry->fetch = NULL;
	if (!answer->is_good && !is_hidden) {
		/* Seven more would take as long each. */
		conclude(inquiry, INQUIRY_UNCLEAR);
		return;
	}
	inquiry->is_hidden |= is_hidden;
	inquiry->is_unclear |= answer->is_good && !answer->is_absent;
	inquiry->index = MIN(inquiry->index, answer->index);
	ask(inquiry);
}

static void count(void *userdata)
{
	struct inquiry *inquiry = userdata;

	if (loss_step(&inquiry->loss, LIMIT_SLICE_ENTRIES) > 0) {
		inquiry->timer_at = loop_now();
		loop_timer_arm(inquiry->timer, 0);
	} else if (!loss_is_suspicious(&inquiry->loss)) {
		conclude(inquiry, INQUIRY_HARMLESS);
	} else if (!inquiry->query.is_confirmed) {
		conclude(inquiry, INQUIRY_SUSPICIOUS);
	} else {
		ask(inquiry);
	}
}

int inquiry_begin(
	struct agent *agent, const struct inquiry_query *query, struct inquiry **ret_inquiry)
{
	struct inquiry *inquiry = calloc(1, sizeof(*inquiry));
	int r;

	if (!inquiry)
		return -ENOMEM;
	r = loop_timer_new(agent->loop, count, inquiry, &inquiry->timer);
	if (r < 0) {
		free(inquiry);
		return r;
	}
	inquiry->agent = agent;
	inquiry->query = *query;
	kvset_ref(query->held);
	kvset_ref(query->fresh);
	inquiry->index = UINT64_MAX;
	loss_init(&inquiry->loss, query->held, query->fresh, consul_is_askable);
	*ret_inquiry = inquiry;
	count(inquiry);
	return 0;
}

struct inquiry *inquiry_free(struct inquiry *inquiry)
{
	if (!inquiry)
		return NULL;
	fetch_cancel(inquiry->fetch);
	loop_timer_free(inquiry->timer);
	kvset_unref(inquiry->query.held);
	kvset_unref(inquiry->query.fresh);
	free(inquiry);
	return NULL;
}

uint64_t inquiry_due_at(const struct inquiry *inquiry)
{
	return inquiry->fetch ? fetch_due_at(inquiry->fetch) : inquiry->timer_at;
}
