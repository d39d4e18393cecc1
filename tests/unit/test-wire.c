#include "test.h"

#include <dirent.h>

#include "proto/record.h"
#include "proto/wire.h"

#define TAG 0x01020304u

/* A request through wire_encode() and wire_parse(). */
static struct wire_request round_trip(unsigned op, const struct wire_request *request, uint8_t *buf)
{
	struct wire_header header;
	struct wire_request parsed;
	ssize_t n = wire_encode(op, TAG, request, buf, sizeof(header) + LIMIT_FRAME);

	assert_true(n >= (ssize_t)sizeof(header));
	memcpy(&header, buf, sizeof(header));
	assert_int_equal(wire_request_size(&header), n);
	assert_int_equal(le16_get(header.op), op);
	assert_int_equal(le16_get(header.status), 0);
	assert_int_equal(le32_get(header.tag), TAG);
	assert_int_equal(wire_parse(op, buf + sizeof(header), le32_get(header.length), &parsed), 0);
	return parsed;
}

static uint8_t *frame_buffer(void)
{
	uint8_t *buf = malloc(2 * (sizeof(struct wire_header) + LIMIT_FRAME));

	assert_non_null(buf);
	return buf;
}

static void assert_text(const char *text, size_t len, const char *expected)
{
	assert_int_equal(len, strlen(expected));
	assert_memory_equal(text, expected, len);
}

static void a_header_is_twelve_bytes_in_little_endian(void **state)
{
	static const uint8_t expected[] = { 0x04, 0x03, 0x02, 0x01, 0x06, 0x05, 0x08, 0x07, 0x0c,
		0x0b, 0x0a, 0x09 };
	struct wire_header header = wire_header_of(0x01020304, 0x0506, 0x0708, 0x090a0b0c);

	(void)state;
	assert_memory_equal(&header, expected, sizeof(expected));
}

static void requests_survive_the_round_trip(void **state)
{
	uint8_t *buf = frame_buffer();
	struct wire_request request = {
		.generation = UINT64_C(0x1122334455667788),
		.cursor = UINT64_C(0x99aabbccddeeff00),
		.service = "billing",
		.service_len = 7,
		.key = "db/url",
		.key_len = 6,
		.timeout_ms = WIRE_FOREVER,
		.min_major = 1,
		.max_major = 3,
		.image_major = 2,
		.what = WIRE_STATUS_SERVICE,
		.has_digest = true,
		.digest = UINT64_C(0x0123456789abcdef),
	};
	struct wire_request parsed;

	(void)state;
	parsed = round_trip(WIRE_RECALL, &request, buf);
	assert_int_equal(parsed.generation, request.generation);
	assert_text(parsed.service, parsed.service_len, "billing");
	parsed = round_trip(WIRE_HISTORY, &request, buf);
	assert_text(parsed.service, parsed.service_len, "billing");
	parsed = round_trip(WIRE_PREVIEW, &request, buf);
	assert_text(parsed.service, parsed.service_len, "billing");
	request.reason = "why";
	request.reason_len = 3;
	request.value = "x y";
	request.value_len = 3;
	request.duration_usec = 77;
	parsed = round_trip(WIRE_PIN, &request, buf);
	assert_int_equal(parsed.what, WIRE_STATUS_SERVICE);
	assert_int_equal(parsed.duration_usec, 77);
	assert_text(parsed.service, parsed.service_len, "billing");
	assert_text(parsed.reason, parsed.reason_len, "why");
	assert_text(parsed.key, parsed.key_len, "db/url");
	assert_text(parsed.value, parsed.value_len, "x y");
	parsed = round_trip(WIRE_HELLO, &request, buf);
	assert_int_equal(parsed.min_major, 1);
	assert_int_equal(parsed.max_major, 3);
	assert_int_equal(parsed.image_major, 2);
	parsed = round_trip(WIRE_OPEN, &request, buf);
	assert_int_equal(parsed.timeout_ms, WIRE_FOREVER);
	assert_text(parsed.service, parsed.service_len, "billing");
	parsed = round_trip(WIRE_CLOSE, &request, buf);
	assert_text(parsed.service, parsed.service_len, "billing");
	parsed = round_trip(WIRE_GET, &request, buf);
	assert_text(parsed.service, parsed.service_len, "billing");
	assert_text(parsed.key, parsed.key_len, "db/url");
	parsed = round_trip(WIRE_LIST, &request, buf);
	assert_true(parsed.generation == request.generation);
	assert_true(parsed.cursor == request.cursor);
	assert_text(parsed.service, parsed.service_len, "billing");
	assert_text(parsed.key, parsed.key_len, "db/url");
	parsed = round_trip(WIRE_WATCH, &request, buf);
	assert_true(parsed.generation == request.generation);
	assert_text(parsed.service, parsed.service_len, "billing");
	parsed = round_trip(WIRE_ACCEPT, &request, buf);
	assert_true(parsed.has_digest && parsed.digest == request.digest);
	assert_text(parsed.service, parsed.service_len, "billing");
	parsed = round_trip(WIRE_RESYNC, &request, buf);
	assert_text(parsed.service, parsed.service_len, "billing");
	parsed = round_trip(WIRE_STATUS, &request, buf);
	assert_int_equal(parsed.what, WIRE_STATUS_SERVICE);
	assert_text(parsed.key, parsed.key_len, "db/url");
	free(buf);
}

static void keys_of_an_mget_come_one_by_one(void **state)
{
	uint8_t *buf = frame_buffer();
	struct wire_request request = {
		.service = "s", .service_len = 1, .key = "\3\0abc\0\0\1\0d", .key_len = 10
	};
	struct wire_request parsed = round_trip(WIRE_MGET, &request, buf);
	size_t cursor = 0, len;
	const char *key;

	(void)state;
	assert_int_equal(wire_next_key(&parsed, &cursor, &key, &len), 1);
	assert_text(key, len, "abc");
	assert_int_equal(wire_next_key(&parsed, &cursor, &key, &len), 1);
	assert_text(key, len, "");
	assert_int_equal(wire_next_key(&parsed, &cursor, &key, &len), 1);
	assert_text(key, len, "d");
	assert_int_equal(wire_next_key(&parsed, &cursor, &key, &len), 0);
	free(buf);
}

static void what_does_not_fit_is_not_encoded(void **state)
{
	uint8_t *buf = frame_buffer();
	static char text[LIMIT_FRAME + 1];
	struct wire_request request = {
		.service = text, .service_len = 255, .key = text, .key_len = LIMIT_FRAME - 256
	};
	size_t size = sizeof(struct wire_header) + LIMIT_FRAME;

	(void)state;
	assert_int_equal(wire_encode(WIRE_GET, TAG, &request, buf, size), size);
	assert_int_equal(wire_encode(WIRE_GET, TAG, &request, buf, size - 1), -EMSGSIZE);
	assert_int_equal(wire_encode(WIRE_GET, TAG, &request, buf, 5), -EMSGSIZE);
	request.key_len++;
	assert_int_equal(wire_encode(WIRE_GET, TAG, &request, buf, 2 * size), -EMSGSIZE);
	request.key_len = 1;
	request.service_len = 256;
	assert_int_equal(wire_encode(WIRE_GET, TAG, &request, buf, size), -EMSGSIZE);
	request.service_len = 1;
	assert_int_equal(wire_encode(0, TAG, &request, buf, size), -EOPNOTSUPP);
	assert_int_equal(wire_encode(WIRE_EXPLAIN + 1, TAG, &request, buf, size), -EOPNOTSUPP);
	free(buf);
}

/* Entries as a LIST reply holds them, cut at every length. */
static void entries_are_taken_apart_and_cut_ones_are_found(void **state)
{
	static const uint8_t head[sizeof(struct wire_list)];
	struct wire_entry entry = {
		.modify_index = le64_of(42),
		.flags = le64_of(7),
		.value_len = le32_of(5),
		.key_len = le16_of(3),
		.layer = 2,
	};
	uint8_t payload[sizeof(head) + sizeof(entry) + 8];
	struct record record;
	size_t cursor;

	(void)state;
	memcpy(payload, head, sizeof(head));
	memcpy(payload + sizeof(head), &entry, sizeof(entry));
	memcpy(payload + sizeof(head) + sizeof(entry), "keyvalue", 8);
	cursor = sizeof(head);
	assert_int_equal(wire_next_entry(payload, sizeof(payload), &cursor, &record), 1);
	assert_text(record.key, record.key_len, "key");
	assert_text(record.value, record.value_len, "value");
	assert_true(record.modify_index == 42 && record.flags == 7 && record.layer == 2);
	assert_int_equal(wire_next_entry(payload, sizeof(payload), &cursor, &record), 0);
	for (size_t len = sizeof(head) + 1; len < sizeof(payload); len++) {
		uint8_t *copy = test_copy(payload, len);

		cursor = sizeof(head);
		assert_int_equal(wire_next_entry(copy, len, &cursor, &record), -EBADMSG);
		free(copy);
	}
	cursor = sizeof(head);
	assert_int_equal(wire_next_entry(payload, sizeof(head) - 1, &cursor, &record), -EBADMSG);
}

static void an_entry_without_a_key_is_none(void **state)
{
	uint8_t payload[sizeof(struct wire_list) + sizeof(struct wire_entry)] = { 0 };
	size_t cursor = sizeof(struct wire_list);
	struct record record;

	(void)state;
	assert_int_equal(wire_next_entry(payload, sizeof(payload), &cursor, &record), -EBADMSG);
}

static void states_have_the_names_that_status_shows(void **state)
{
	(void)state;
	assert_string_equal(wire_state_name(WIRE_LOADING), "loading");
	assert_string_equal(wire_state_name(WIRE_FROZEN), "frozen");
	assert_string_equal(wire_state_name(WIRE_FROZEN + 1), "unknown");
	assert_string_equal(wire_state_name(UINT32_MAX), "unknown");
}

/* As the daemon judges a frame: header, completeness, payload. */
static bool is_good(const uint8_t *data, size_t size)
{
	struct wire_header header;
	struct wire_request request;
	uint8_t *payload;
	bool good;

	if (size < sizeof(header))
		return false;
	memcpy(&header, data, sizeof(header));
	if (wire_request_size(&header) != (ssize_t)size)
		return false;
	payload = test_copy(data + sizeof(header), size - sizeof(header));
	good = wire_parse(le16_get(header.op), payload, size - sizeof(header), &request) == 0;
	free(payload);
	return good;
}

static void judge_file(const char *folder, const char *name)
{
	uint8_t data[sizeof(struct wire_header) + LIMIT_FRAME + 1];
	char path[1024];
	FILE *file;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "re");
	assert_non_null(file);
	n = fread(data, 1, sizeof(data), file);
	fclose(file);
	if (is_good(data, n) != (strncmp(name, "ok-", 3) == 0))
		fail_msg("%s was judged wrongly", name);
}

static void the_corpus_is_judged_by_its_names(void **state)
{
	char folder[512];
	struct dirent *entry;
	unsigned n = 0;
	DIR *dir;

	(void)state;
	snprintf(folder, sizeof(folder), "%s/wire", getenv("CORPUS") ?: "tests/corpus");
	dir = opendir(folder);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (!strstr(entry->d_name, ".bin"))
			continue;
		judge_file(folder, entry->d_name);
		n++;
	}
	closedir(dir);
	assert_true(n >= 40);
}

static int next_layer(const struct wire_layer *layer, size_t n_behind)
{
	size_t cursor = sizeof(struct wire_explain), len = cursor + sizeof(*layer) + n_behind;
	struct wire_layer_entry entry;
	uint8_t *payload = calloc(1, len);
	int r;

	assert_non_null(payload);
	memcpy(payload + cursor, layer, sizeof(*layer));
	r = wire_next_layer(payload, len, &cursor, &entry);
	if (r > 0)
		assert_true(cursor <= len && (entry.value || entry.sent_len == 0));
	free(payload);
	return r;
}

static void layers_of_an_explanation_say_no_more_than_there_is(void **state)
{
	struct wire_layer layer = { .prefix_len = le16_of(3), .value_len = le32_of(9) };

	(void)state;
	layer.sent_len = le32_of(4);
	assert_int_equal(next_layer(&layer, 7), 1);
	assert_int_equal(next_layer(&layer, 6), -EBADMSG);
	layer.value_len = le32_of(3);
	assert_int_equal(next_layer(&layer, 7), -EBADMSG);
	/* A key that is not there has no bytes. */
	layer.value_len = le32_of(WIRE_ABSENT);
	assert_int_equal(next_layer(&layer, 7), -EBADMSG);
	layer.sent_len = le32_of(0);
	assert_int_equal(next_layer(&layer, 3), 1);
}

/* Every prefix of every good payload: refused or taken, never read beyond its end. */
static void cut_payloads_are_never_read_beyond_their_end(void **state)
{
	static const uint8_t payload[] = "\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x01s\x02\0k";

	(void)state;
	for (unsigned op = WIRE_HELLO; op <= WIRE_STATUS; op++) {
		for (size_t len = 0; len <= sizeof(payload); len++) {
			uint8_t *copy = test_copy(payload, len);
			struct wire_request request;
			int r = wire_parse(op, copy, len, &request);

			assert_true(r == 0 || r == -EBADMSG);
			free(copy);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_is_twelve_bytes_in_little_endian),
		cmocka_unit_test(requests_survive_the_round_trip),
		cmocka_unit_test(keys_of_an_mget_come_one_by_one),
		cmocka_unit_test(what_does_not_fit_is_not_encoded),
		cmocka_unit_test(entries_are_taken_apart_and_cut_ones_are_found),
		cmocka_unit_test(an_entry_without_a_key_is_none),
		cmocka_unit_test(states_have_the_names_that_status_shows),
		cmocka_unit_test(layers_of_an_explanation_say_no_more_than_there_is),
		cmocka_unit_test(the_corpus_is_judged_by_its_names),
		cmocka_unit_test(cut_payloads_are_never_read_beyond_their_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
