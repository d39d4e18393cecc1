#include "client/lib/handle-explain.h"

#include "client/lib/handle-work.h"
#include "proto/limits.h"

/* Calls fn with strings that end: on the wire they do not. */
static int tell(ccfg *cfg, unsigned number, const struct wire_layer_entry *from,
	ccfg_explain_fn *fn, void *userdata)
{
	AUTO_FREE char *text = malloc(from->prefix_len + 1 + from->sent_len + 1);
	struct ccfg_layer layer = {
		.size = sizeof(layer),
		.number = number,
		.state = from->state <= WIRE_FROZEN ? (enum ccfg_state)from->state : CCFG_STALE,
		.prefix = text,
		.value_len = from->value_len,
		.sent_len = from->sent_len,
		.index = from->index,
		.modify_index = from->modify_index,
		.age_us = from->age_usec,
		.wins = from->flags & WIRE_LAYER_WINS,
		.is_locked = from->flags & WIRE_LAYER_LOCKED,
	};

	if (!text)
		return -ENOMEM;
	memcpy(text, from->prefix, from->prefix_len);
	text[from->prefix_len] = '\0';
	if (from->value) {
		memcpy(text + from->prefix_len + 1, from->value, from->sent_len);
		text[from->prefix_len + 1 + from->sent_len] = '\0';
		layer.value = text + from->prefix_len + 1;
	}
	fn(cfg, &layer, userdata);
	return 0;
}

static int tell_all(ccfg *cfg, const struct link_reply *reply, ccfg_explain_fn *fn, void *userdata)
{
	struct wire_layer_entry layer;
	struct wire_explain head;
	size_t cursor = sizeof(head);
	unsigned n = 0;
	int r;

	r = link_reply_head(reply, &head, sizeof(head));
	while (r == 0 && (r = wire_next_layer(reply->payload, reply->len, &cursor, &layer)) > 0)
		r = tell(cfg, n++, &layer, fn, userdata);
	return r < 0 ? r : (int)n;
}

int handle_explain(
	struct ccfg *h, const char *key, size_t key_len, ccfg_explain_fn *fn, void *userdata)
{
	const struct wire_request request = {
		.service = h->service,
		.service_len = strlen(h->service),
		.key = key,
		.key_len = key_len,
	};
	struct link_reply reply;
	struct link link;
	int r;

	if (h->is_fixed)
		return -EOPNOTSUPP;
	/* On a connection of its own: another thread may wait on the handle's for hours. */
	r = link_init(&link, link_path(&h->follow.link));
	if (r == 0)
		r = handle_ask_on(
			&link, WIRE_EXPLAIN, &request, clock_after_usec(LIMIT_READ_USEC), &reply);
	if (r == 0)
		r = tell_all(h, &reply, fn, userdata);
	link_done(&link);
	return r;
}
