/*
 * Frames from clients, and the same bytes as LIST and EXPLAIN replies from a daemon; the corpus is
 * tests/corpus/wire. What parses must encode to bytes that parse to the same.
 */
#include <assert.h>

#include "proto/record.h"
#include "proto/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_same_text(const char *a, size_t a_len, const char *b, size_t b_len)
{
	return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

static void check_round_trip(unsigned op, const struct wire_request *request)
{
	static uint8_t buf[sizeof(struct wire_header) + LIMIT_FRAME];
	struct wire_request again;
	ssize_t n = wire_encode(op, 1, request, buf, sizeof(buf));

	assert(n >= (ssize_t)sizeof(struct wire_header));
	assert(wire_parse(op, buf + sizeof(struct wire_header),
		       (size_t)n - sizeof(struct wire_header), &again) == 0);
	assert(again.generation == request->generation && again.cursor == request->cursor);
	assert(again.timeout_ms == request->timeout_ms && again.what == request->what);
	assert(again.digest == request->digest && again.has_digest == request->has_digest);
	assert(again.min_major == request->min_major && again.max_major == request->max_major);
	assert(is_same_text(
		again.service, again.service_len, request->service, request->service_len));
	assert(is_same_text(again.key, again.key_len, request->key, request->key_len));
	assert(is_same_text(again.reason, again.reason_len, request->reason, request->reason_len));
	assert(is_same_text(again.value, again.value_len, request->value, request->value_len));
	assert(again.duration_usec == request->duration_usec);
}

static void walk_keys(const struct wire_request *request)
{
	size_t cursor = 0, len;
	const char *key;
	unsigned sum = 0;

	while (wire_next_key(request, &cursor, &key, &len) > 0)
		for (size_t i = 0; i < len; i++)
			sum += (unsigned char)key[i];
	assert(cursor == request->key_len && sum < UINT32_MAX);
}

static void walk_entries(const uint8_t *payload, size_t len)
{
	size_t cursor = sizeof(struct wire_list);
	struct record record;
	unsigned sum = 0;

	while (len >= cursor && wire_next_entry(payload, len, &cursor, &record) > 0)
		sum += (unsigned char)record.key[record.key_len - 1] +
		       (record.value_len > 0 ? (unsigned char)record.value[0] : 0);
	assert(cursor <= len || cursor == sizeof(struct wire_list));
	assert(sum < UINT32_MAX);
}

static void walk_layers(const uint8_t *payload, size_t len)
{
	size_t cursor = sizeof(struct wire_explain);
	struct wire_layer_entry layer;
	unsigned sum = 0;

	while (len >= cursor && wire_next_layer(payload, len, &cursor, &layer) > 0) {
		for (size_t i = 0; i < layer.prefix_len; i++)
			sum += (unsigned char)layer.prefix[i];
		for (size_t i = 0; i < layer.sent_len; i++)
			sum += (unsigned char)layer.value[i];
		(void)wire_state_name(layer.state);
	}
	assert(cursor <= len || cursor == sizeof(struct wire_explain));
	assert(sum < UINT32_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_header header;
	struct wire_request request;
	unsigned op;

	if (size < sizeof(header))
		return 0;
	memcpy(&header, data, sizeof(header));
	walk_entries(data + sizeof(header), size - sizeof(header));
	walk_layers(data + sizeof(header), size - sizeof(header));
	if (wire_request_size(&header) != (ssize_t)size)
		return 0;
	op = le16_get(header.op);
	if (wire_parse(op, data + sizeof(header), size - sizeof(header), &request) < 0)
		return 0;
	/* OPEN, CLOSE and WATCH parse longer names, which are refused later and never encoded. */
	if (request.service_len <= UINT8_MAX)
		check_round_trip(op, &request);
	if (op == WIRE_MGET)
		walk_keys(&request);
	return 0;
}
