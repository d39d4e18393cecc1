#include "daemon/explain.h"

#include "daemon/pin.h"
#include "daemon/service-publish.h"
#include "daemon/service-state.h"

/* What one layer says. */
struct finding {
	const struct tree *tree;
	bool is_there;
	struct record record;
};

static int choose(const struct finding *findings, unsigned n, bool is_locked)
{
	int winner = -1;

	for (unsigned i = 0; i < n; i++)
		if (findings[i].is_there && (winner < 0 || !is_locked))
			winner = (int)i;
	return winner;
}

/* Whether clients read now what counts (NULL: no key): not while it is being published, or
 * withheld. */
static bool is_published(const struct service *service, const char *key, size_t key_len,
	const char *value, size_t value_len)
{
	struct record record;
	bool is_there;

	if (!service->snapshot)
		return false;
	is_there = image_find(&service->snapshot->image, key, key_len, &record);
	if (!value || !is_there)
		return !value && !is_there;
	return record.value_len == value_len && memcmp(record.value, value, value_len) == 0;
}

static unsigned flags_of(const struct service *service, const struct finding *winner,
	const char *key, size_t key_len)
{
	const struct pin *pin = service->pins ? pins_find(service->pins, key, key_len) : NULL;
	const char *value = pin ? pin->value : winner ? winner->record.value : NULL;
	size_t value_len = pin ? pin->value_len : winner ? winner->record.value_len : 0;

	return (pin ? WIRE_EXPLAIN_OVERRIDDEN : 0) |
	       (service_publish_is_under_way(service) ? WIRE_EXPLAIN_UNDER_WAY : 0) |
	       (service->withheld ? WIRE_EXPLAIN_WITHHELD : 0) |
	       (is_published(service, key, key_len, value, value_len) ? WIRE_EXPLAIN_PUBLISHED : 0);
}

static uint64_t age_of(const struct tree *tree)
{
	uint64_t now = loop_now();

	if (!tree->content)
		return UINT64_MAX;
	return now > tree->confirmed_at ? now - tree->confirmed_at : 0;
}

/* Returns the end. */
static uint8_t *put_layer(
	uint8_t *at, const struct service *service, const struct finding *finding, unsigned flags)
{
	const struct tree *tree = finding->tree;
	const struct record *record = &finding->record;
	char buf[LIMIT_KEY + 1];
	const char *prefix = service_state_prefix(service, tree, buf);
	size_t prefix_len = strlen(prefix);
	size_t sent_len = finding->is_there ? MIN(record->value_len, LIMIT_EXPLAIN_VALUE) : 0;
	const struct wire_layer layer = {
		.index = le64_of(tree->content ? tree->content->index : 0),
		.modify_index = le64_of(finding->is_there ? record->modify_index : 0),
		.age_usec = le64_of(age_of(tree)),
		.value_len = le32_of(finding->is_there ? record->value_len : WIRE_ABSENT),
		.sent_len = le32_of((uint32_t)sent_len),
		.prefix_len = le16_of((uint16_t)prefix_len),
		.state = (uint8_t)tree->state,
		.flags = (uint8_t)flags,
	};

	memcpy(at, &layer, sizeof(layer));
	at += sizeof(layer);
	memcpy(at, prefix, prefix_len);
	if (sent_len > 0)
		memcpy(at + prefix_len, record->value, sent_len);
	return at + prefix_len + sent_len;
}

void explain_reply(
	const struct reply *reply, const struct service *service, const char *key, size_t key_len)
{
	bool is_locked = glob_list_matches(&service->locks, key, key_len);
	struct finding findings[LIMIT_LAYERS] = { 0 };
	struct wire_explain head;
	uint8_t *start, *at;
	int winner;

	for (unsigned i = 0; i < service->n_layers; i++) {
		struct finding *finding = &findings[i];

		finding->tree = service->layers[i].tree;
		if (finding->tree->content)
			finding->is_there =
				kvset_find(finding->tree->content, key, key_len, &finding->record);
	}
	winner = choose(findings, service->n_layers, is_locked);
	head.generation = le64_of(service->generation);
	head.state = le32_of(service_state(service));
	head.flags =
		le32_of(flags_of(service, winner < 0 ? NULL : &findings[winner], key, key_len));
	start = reply_begin(reply->session,
		sizeof(head) + service->n_layers * (sizeof(struct wire_layer) + LIMIT_KEY +
							   LIMIT_EXPLAIN_VALUE));
	memcpy(start, &head, sizeof(head));
	at = start + sizeof(head);
	for (unsigned i = 0; i < service->n_layers; i++)
		at = put_layer(at, service, &findings[i],
			((int)i == winner ? WIRE_LAYER_WINS : 0) |
				(is_locked ? WIRE_LAYER_LOCKED : 0));
	reply_end(reply, WIRE_OK, (size_t)(at - start));
}
