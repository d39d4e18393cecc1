/*
 * Frames to and from bytes. Knows lengths, not meaning: names and keys are judged by whoever acts
 * on them. Every length is checked against the end of what was received; nothing is allocated.
 */
#include "proto/wire.h"

#include "proto/record.h"

/* What is left of a payload while it is taken apart. */
struct input {
	const uint8_t *data;
	size_t len;
};

static bool input_take(struct input *input, void *ret, size_t len)
{
	if (input->len < len)
		return false;
	memcpy(ret, input->data, len);
	input->data += len;
	input->len -= len;
	return true;
}

static bool input_take_le64(struct input *input, uint64_t *ret)
{
	le64 raw;

	if (!input_take(input, &raw, sizeof(raw)))
		return false;
	*ret = le64_get(raw);
	return true;
}

/* A byte of length and that many bytes. */
static bool input_take_short(struct input *input, const char **ret_text, size_t *ret_len)
{
	uint8_t len;

	if (!input_take(input, &len, 1) || input->len < len)
		return false;
	*ret_text = (const char *)input->data;
	*ret_len = len;
	input->data += len;
	input->len -= len;
	return true;
}

static bool input_take_name(struct input *input, struct wire_request *request)
{
	return input_take_short(input, &request->service, &request->service_len);
}

static void input_take_rest(struct input *input, const char **ret_text, size_t *ret_len)
{
	*ret_text = (const char *)input->data;
	*ret_len = input->len;
}

static bool parse_hello(struct input *input, struct wire_request *request)
{
	struct wire_hello hello;

	if (!input_take(input, &hello, sizeof(hello)))
		return false;
	request->min_major = le16_get(hello.min_major);
	request->max_major = le16_get(hello.max_major);
	request->image_major = le16_get(hello.image_major);
	return true;
}

static bool parse_open(struct input *input, struct wire_request *request)
{
	le32 timeout;

	if (!input_take(input, &timeout, sizeof(timeout)))
		return false;
	request->timeout_ms = le32_get(timeout);
	input_take_rest(input, &request->service, &request->service_len);
	return true;
}

static bool parse_mget(struct input *input, struct wire_request *request)
{
	const char *key;
	size_t cursor = 0, len;
	int r;

	if (!input_take_name(input, request))
		return false;
	input_take_rest(input, &request->key, &request->key_len);
	do
		r = wire_next_key(request, &cursor, &key, &len);
	while (r > 0);
	return r == 0;
}

static bool parse_list(struct input *input, struct wire_request *request)
{
	if (!input_take_le64(input, &request->generation) ||
		!input_take_le64(input, &request->cursor) || !input_take_name(input, request))
		return false;
	input_take_rest(input, &request->key, &request->key_len);
	return true;
}

static bool parse_accept(struct input *input, struct wire_request *request)
{
	uint8_t has_digest;

	if (!input_take(input, &has_digest, 1) || !input_take_le64(input, &request->digest))
		return false;
	request->has_digest = has_digest != 0;
	input_take_rest(input, &request->service, &request->service_len);
	return true;
}

static bool parse_pin(struct input *input, struct wire_request *request)
{
	le16 key_len;

	if (!input_take(input, &request->what, 1) ||
		!input_take_le64(input, &request->duration_usec) ||
		!input_take_short(input, &request->service, &request->service_len) ||
		!input_take_short(input, &request->reason, &request->reason_len) ||
		!input_take(input, &key_len, sizeof(key_len)) || input->len < le16_get(key_len))
		return false;
	request->key = (const char *)input->data;
	request->key_len = le16_get(key_len);
	input->data += request->key_len;
	input->len -= request->key_len;
	input_take_rest(input, &request->value, &request->value_len);
	return true;
}

static bool parse(unsigned op, struct input *input, struct wire_request *request)
{
	switch ((enum wire_op)op) {
	case WIRE_HELLO:
		return parse_hello(input, request);
	case WIRE_OPEN:
		return parse_open(input, request);
	case WIRE_CLOSE:
	case WIRE_RESYNC:
		input_take_rest(input, &request->service, &request->service_len);
		return true;
	case WIRE_GET:
	case WIRE_EXPLAIN:
		if (!input_take_name(input, request))
			return false;
		input_take_rest(input, &request->key, &request->key_len);
		return true;
	case WIRE_MGET:
		return parse_mget(input, request);
	case WIRE_LIST:
		return parse_list(input, request);
	case WIRE_WATCH:
		if (!input_take_le64(input, &request->generation))
			return false;
		input_take_rest(input, &request->service, &request->service_len);
		return true;
	case WIRE_STATUS:
		if (!input_take(input, &request->what, 1))
			return false;
		input_take_rest(input, &request->key, &request->key_len);
		return true;
	case WIRE_FETCH:
		return input_take_le64(input, &request->generation) && parse_open(input, request);
	case WIRE_GENFILE:
		return true;
	case WIRE_ACCEPT:
		return parse_accept(input, request);
	case WIRE_HISTORY:
	case WIRE_PREVIEW:
		input_take_rest(input, &request->service, &request->service_len);
		return true;
	case WIRE_RECALL:
		if (!input_take_le64(input, &request->generation))
			return false;
		input_take_rest(input, &request->service, &request->service_len);
		return true;
	case WIRE_PIN:
		return parse_pin(input, request);
	}
	return false;
}

/* Where a frame grows; keeps counting past the end, so that one check at the end is enough. */
struct output {
	uint8_t *data;
	size_t size;
	size_t len;
};

static void output_put(struct output *output, const void *data, size_t len)
{
	if (len > 0 && output->len <= output->size && len <= output->size - output->len)
		memcpy(output->data + output->len, data, len);
	output->len += len;
}

static void output_put_le64(struct output *output, uint64_t value)
{
	le64 raw = le64_of(value);

	output_put(output, &raw, sizeof(raw));
}

static void output_put_name(struct output *output, const struct wire_request *request)
{
	uint8_t len = (uint8_t)request->service_len;

	output_put(output, &len, 1);
	output_put(output, request->service, request->service_len);
}

static void encode_hello(struct output *output, const struct wire_request *request)
{
	struct wire_hello hello = {
		.min_major = le16_of(request->min_major),
		.max_major = le16_of(request->max_major),
		.image_major = le16_of(request->image_major),
	};

	output_put(output, &hello, sizeof(hello));
}

static void encode_accept(struct output *output, const struct wire_request *request)
{
	uint8_t has_digest = request->has_digest;

	output_put(output, &has_digest, 1);
	output_put_le64(output, request->digest);
	output_put(output, request->service, request->service_len);
}

static void encode_pin(struct output *output, const struct wire_request *request)
{
	uint8_t reason_len = (uint8_t)request->reason_len;
	le16 key_len = le16_of((uint16_t)request->key_len);

	output_put(output, &request->what, 1);
	output_put_le64(output, request->duration_usec);
	output_put_name(output, request);
	output_put(output, &reason_len, 1);
	output_put(output, request->reason, request->reason_len);
	output_put(output, &key_len, sizeof(key_len));
	output_put(output, request->key, request->key_len);
	output_put(output, request->value, request->value_len);
}

static void encode(unsigned op, struct output *output, const struct wire_request *request)
{
	le32 timeout = le32_of(request->timeout_ms);

	switch ((enum wire_op)op) {
	case WIRE_HELLO:
		encode_hello(output, request);
		return;
	case WIRE_OPEN:
		output_put(output, &timeout, sizeof(timeout));
		output_put(output, request->service, request->service_len);
		return;
	case WIRE_CLOSE:
	case WIRE_RESYNC:
		output_put(output, request->service, request->service_len);
		return;
	case WIRE_LIST:
		output_put_le64(output, request->generation);
		output_put_le64(output, request->cursor);
		output_put_name(output, request);
		output_put(output, request->key, request->key_len);
		return;
	case WIRE_GET:
	case WIRE_EXPLAIN:
	case WIRE_MGET:
		output_put_name(output, request);
		output_put(output, request->key, request->key_len);
		return;
	case WIRE_WATCH:
		output_put_le64(output, request->generation);
		output_put(output, request->service, request->service_len);
		return;
	case WIRE_STATUS:
		output_put(output, &request->what, 1);
		output_put(output, request->key, request->key_len);
		return;
	case WIRE_FETCH:
		output_put_le64(output, request->generation);
		output_put(output, &timeout, sizeof(timeout));
		output_put(output, request->service, request->service_len);
		return;
	case WIRE_HISTORY:
	case WIRE_PREVIEW:
		output_put(output, request->service, request->service_len);
		return;
	case WIRE_RECALL:
		output_put_le64(output, request->generation);
		output_put(output, request->service, request->service_len);
		return;
	case WIRE_PIN:
		encode_pin(output, request);
		return;
	case WIRE_GENFILE:
		return;
	case WIRE_ACCEPT:
		encode_accept(output, request);
		return;
	}
}

static bool is_op(unsigned op)
{
	return (op >= WIRE_HELLO && op <= WIRE_EXPLAIN) ||
	       (op >= WIRE_HISTORY && op <= WIRE_PREVIEW);
}

struct wire_header wire_header_of(size_t length, unsigned op, unsigned status, uint32_t tag)
{
	return (struct wire_header){
		.length = le32_of((uint32_t)length),
		.op = le16_of((uint16_t)op),
		.status = le16_of((uint16_t)status),
		.tag = le32_of(tag),
	};
}

ssize_t wire_request_size(const struct wire_header *header)
{
	if (le32_get(header->length) > LIMIT_FRAME || le16_get(header->status) != 0)
		return -EBADMSG;
	return (ssize_t)(sizeof(*header) + le32_get(header->length));
}

int wire_parse(unsigned op, const void *payload, size_t len, struct wire_request *ret_request)
{
	struct input input = { payload, len };
	struct wire_request request = { 0 };

	if (!is_op(op))
		return -EOPNOTSUPP;
	if (!parse(op, &input, &request))
		return -EBADMSG;
	*ret_request = request;
	return 0;
}

int wire_next_key(
	const struct wire_request *request, size_t *cursor, const char **ret_key, size_t *ret_len)
{
	size_t left = request->key_len - *cursor;
	const char *at = request->key + *cursor;
	le16 raw;

	if (left == 0)
		return 0;
	if (left < sizeof(raw))
		return -EBADMSG;
	memcpy(&raw, at, sizeof(raw));
	if (left - sizeof(raw) < le16_get(raw))
		return -EBADMSG;
	*ret_key = at + sizeof(raw);
	*ret_len = le16_get(raw);
	*cursor += sizeof(raw) + *ret_len;
	return 1;
}

int wire_next_entry(const void *payload, size_t len, size_t *cursor, struct record *ret_entry)
{
	struct input input = { (const uint8_t *)payload + *cursor, len - *cursor };
	struct wire_entry entry;
	size_t key_len, value_len;

	if (*cursor > len)
		return -EBADMSG;
	if (input.len == 0)
		return 0;
	if (!input_take(&input, &entry, sizeof(entry)))
		return -EBADMSG;
	key_len = le16_get(entry.key_len);
	value_len = le32_get(entry.value_len);
	if (key_len == 0 || key_len > input.len || value_len > input.len - key_len)
		return -EBADMSG;
	*ret_entry = (struct record){
		.key = (const char *)input.data,
		.value = (const char *)input.data + key_len,
		.key_len = (uint32_t)key_len,
		.value_len = (uint32_t)value_len,
		.flags = le64_get(entry.flags),
		.modify_index = le64_get(entry.modify_index),
		.layer = entry.layer,
	};
	*cursor += sizeof(entry) + key_len + value_len;
	return 1;
}

int wire_next_layer(
	const void *payload, size_t len, size_t *cursor, struct wire_layer_entry *ret_layer)
{
	struct input input = { (const uint8_t *)payload + *cursor, len - *cursor };
	struct wire_layer layer;
	size_t prefix_len, sent_len;
	bool is_absent;

	if (*cursor > len)
		return -EBADMSG;
	if (input.len == 0)
		return 0;
	if (!input_take(&input, &layer, sizeof(layer)))
		return -EBADMSG;
	prefix_len = le16_get(layer.prefix_len);
	sent_len = le32_get(layer.sent_len);
	is_absent = le32_get(layer.value_len) == WIRE_ABSENT;
	if (prefix_len > input.len || sent_len > input.len - prefix_len ||
		sent_len > (is_absent ? 0 : le32_get(layer.value_len)))
		return -EBADMSG;
	*ret_layer = (struct wire_layer_entry){
		.prefix = (const char *)input.data,
		.prefix_len = prefix_len,
		.sent_len = sent_len,
		.index = le64_get(layer.index),
		.modify_index = le64_get(layer.modify_index),
		.age_usec = le64_get(layer.age_usec),
		.state = layer.state,
		.flags = layer.flags,
	};
	if (!is_absent) {
		ret_layer->value = ret_layer->prefix + prefix_len;
		ret_layer->value_len = le32_get(layer.value_len);
	}
	*cursor += sizeof(layer) + prefix_len + sent_len;
	return 1;
}

ssize_t wire_encode(
	unsigned op, uint32_t tag, const struct wire_request *request, void *buf, size_t size)
{
	struct output output = { buf, size, sizeof(struct wire_header) };
	struct wire_header header;

	if (!is_op(op))
		return -EOPNOTSUPP;
	if (request->service_len > UINT8_MAX || request->key_len > LIMIT_FRAME ||
		request->reason_len > UINT8_MAX || request->value_len > LIMIT_FRAME)
		return -EMSGSIZE;
	encode(op, &output, request);
	if (output.len > size || output.len - sizeof(header) > LIMIT_FRAME)
		return -EMSGSIZE;
	header = wire_header_of(output.len - sizeof(header), op, WIRE_OK, tag);
	memcpy(buf, &header, sizeof(header));
	return (ssize_t)output.len;
}

const char *wire_state_name(unsigned state)
{
	static const char *const names[] = {
		[WIRE_LOADING] = "loading",
		[WIRE_LIVE] = "live",
		[WIRE_STALE] = "stale",
		[WIRE_BACKUP] = "backup",
		[WIRE_HELD] = "held",
		[WIRE_FROZEN] = "frozen",
	};

	return state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

bool wire_state_is_worse(enum wire_state a, enum wire_state b)
{
	static const uint8_t badness[] = {
		[WIRE_LIVE] = 0,
		[WIRE_STALE] = 1,
		[WIRE_BACKUP] = 2,
		[WIRE_LOADING] = 3,
		[WIRE_HELD] = 4,
		[WIRE_FROZEN] = 5,
	};

	return badness[a] > badness[b];
}
