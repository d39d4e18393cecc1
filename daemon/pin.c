#include "daemon/pin.h"

#include <stdio.h>

#include "proto/image-builder.h"
#include "proto/key.h"

#define FROZEN_KEY "f" /* the value: the digest */
#define OVERRIDE 'o' /* in front of the key */

/* In front of a record's value: two times, two texts with their NULs. */
struct times {
	le64 since, until;
};

void pins_init(struct pins *pins)
{
	*pins = (struct pins){ 0 };
	list_init(&pins->overrides);
}

static void free_pin(struct pins *pins, struct pin *pin)
{
	list_unlink(&pin->link);
	pins->n_overrides--;
	free(pin->key);
	free(pin->value);
	free(pin);
}

void pins_done(struct pins *pins)
{
	while (pins->n_overrides > 0)
		free_pin(pins, LIST_ENTRY(pins->overrides.next, struct pin, link));
	pins->is_frozen = false;
}

static int compare(const struct pin *pin, const char *key, size_t key_len)
{
	return key_compare(pin->key, pin->key_len, key, key_len);
}

char *pin_copy(const char *data, size_t len)
{
	char *bytes = malloc(len + 1);

	if (!bytes)
		return NULL;
	if (len > 0)
		memcpy(bytes, data, len);
	bytes[len] = '\0';
	return bytes;
}

int pins_override(struct pins *pins, const char *key, size_t key_len, const char *value,
	size_t value_len, const struct pin_note *note)
{
	struct list *at = pins->overrides.next;
	struct pin *pin;

	if (pins->n_overrides >= LIMIT_PINS && !pins_find(pins, key, key_len))
		return -ENOBUFS;
	pin = calloc(1, sizeof(*pin));
	if (!pin)
		return -ENOMEM;
	pin->key = pin_copy(key, key_len);
	pin->value = pin_copy(value, value_len);
	if (!pin->key || !pin->value) {
		free(pin->key);
		free(pin->value);
		free(pin);
		return -ENOMEM;
	}
	pin->key_len = key_len;
	pin->value_len = value_len;
	pin->note = *note;
	while (at != &pins->overrides &&
		compare(LIST_ENTRY(at, struct pin, link), key, key_len) < 0)
		at = at->next;
	if (at != &pins->overrides &&
		compare(LIST_ENTRY(at, struct pin, link), key, key_len) == 0) {
		at = at->next;
		free_pin(pins, LIST_ENTRY(at->prev, struct pin, link));
	}
	list_append(at, &pin->link);
	pins->n_overrides++;
	return 0;
}

const struct pin *pins_find(const struct pins *pins, const char *key, size_t key_len)
{
	LIST_FOREACH (node, &pins->overrides) {
		const struct pin *pin = LIST_ENTRY(node, struct pin, link);

		if (compare(pin, key, key_len) == 0)
			return pin;
	}
	return NULL;
}

unsigned pins_clear(struct pins *pins, const char *key, size_t key_len)
{
	struct list *at = pins->overrides.next;
	unsigned n = 0;

	while (at != &pins->overrides) {
		struct pin *pin = LIST_ENTRY(at, struct pin, link);

		at = at->next;
		if (key_len > 0 && compare(pin, key, key_len) != 0)
			continue;
		free_pin(pins, pin);
		n++;
	}
	return n;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

uint64_t pins_next_end(const struct pins *pins)
{
	uint64_t end = pins->is_frozen ? pins->frozen.until : 0;

	LIST_FOREACH (node, &pins->overrides)
		end = earlier(end, LIST_ENTRY(node, struct pin, link)->note.until);
	return end;
}

static bool is_over(const struct pin_note *note, uint64_t now)
{
	return note->until != 0 && note->until <= now;
}

bool pins_expire(struct pins *pins, uint64_t now)
{
	struct list *at = pins->overrides.next;
	bool has_changed = pins->is_frozen && is_over(&pins->frozen, now);

	if (has_changed)
		pins->is_frozen = false;
	while (at != &pins->overrides) {
		struct pin *pin = LIST_ENTRY(at, struct pin, link);

		at = at->next;
		if (!is_over(&pin->note, now))
			continue;
		free_pin(pins, pin);
		has_changed = true;
	}
	return has_changed;
}

int pins_layer(const struct pins *pins, struct kvset **ret_set)
{
	struct kvset *set;
	int r = kvset_new(SIZE_MAX, NULL, &set);

	if (r < 0)
		return r;
	LIST_FOREACH (node, &pins->overrides) {
		const struct pin *pin = LIST_ENTRY(node, struct pin, link);

		if (r >= 0)
			r = kvset_add(
				set, pin->key, pin->key_len, pin->value, pin->value_len, 0, 0);
	}
	if (r >= 0)
		r = kvset_finish(set);
	if (r < 0) {
		kvset_unref(set);
		return r;
	}
	*ret_set = set;
	return 0;
}

/* --- as an image ------------------------------------------------------------------------- */

static int append(struct records *records, const char *key, size_t key_len,
	const struct pin_note *note, const char *value, size_t value_len)
{
	size_t by_len = strlen(note->by) + 1, reason_len = strlen(note->reason) + 1;
	size_t len = sizeof(struct times) + by_len + reason_len + value_len;
	const struct times times = { le64_of(note->since), le64_of(note->until) };
	AUTO_FREE char *data = malloc(len);
	char *at = data;
	struct record record = { .key = key, .key_len = (uint32_t)key_len };

	if (!data)
		return -ENOMEM;
	memcpy(at, &times, sizeof(times));
	at += sizeof(times);
	memcpy(at, note->by, by_len);
	at += by_len;
	memcpy(at, note->reason, reason_len);
	at += reason_len;
	if (value_len > 0)
		memcpy(at, value, value_len);
	record.value = data;
	record.value_len = (uint32_t)len;
	return records_append(records, &record);
}

static int append_override(struct records *records, const struct pin *pin)
{
	char key[LIMIT_KEY + 1];

	key[0] = OVERRIDE;
	memcpy(key + 1, pin->key, pin->key_len);
	return append(records, key, pin->key_len + 1, &pin->note, pin->value, pin->value_len);
}

int pins_encode(const struct pins *pins, void **ret_data, size_t *ret_size)
{
	struct records records = { 0 };
	le64 digest = le64_of(pins->frozen_digest);
	int r = 0;

	if (pins->is_frozen)
		r = append(&records, FROZEN_KEY, 1, &pins->frozen, (const char *)&digest,
			sizeof(digest));
	LIST_FOREACH (node, &pins->overrides)
		if (r == 0)
			r = append_override(&records, LIST_ENTRY(node, struct pin, link));
	if (r == 0)
		r = image_build(&records, 0, ret_data, ret_size);
	records_done(&records);
	return r;
}

static bool take_text(const char **at, const char *end, char *ret_text, size_t size)
{
	size_t len = strnlen(*at, (size_t)(end - *at));

	if (*at + len == end || len >= size)
		return false;
	memcpy(ret_text, *at, len + 1);
	*at += len + 1;
	return true;
}

/* *ret_value is what follows. */
static bool take_note(
	const struct record *record, struct pin_note *ret_note, const char **ret_value)
{
	const char *at = record->value, *end = at + record->value_len;
	struct times times;

	if (record->value_len < sizeof(times))
		return false;
	memcpy(&times, at, sizeof(times));
	at += sizeof(times);
	ret_note->since = le64_get(times.since);
	ret_note->until = le64_get(times.until);
	if (!take_text(&at, end, ret_note->by, sizeof(ret_note->by)) ||
		!take_text(&at, end, ret_note->reason, sizeof(ret_note->reason)))
		return false;
	*ret_value = at;
	return true;
}

static int take_freeze(
	struct pins *pins, const struct pin_note *note, const char *value, size_t len)
{
	le64 digest;

	if (len != sizeof(digest))
		return -EBADMSG;
	memcpy(&digest, value, len);
	pins->is_frozen = true;
	pins->frozen = *note;
	pins->frozen_digest = le64_get(digest);
	return 0;
}

int pins_decode(const struct image *image, struct pins *pins)
{
	struct record record;
	size_t cursor = 0;

	pins_init(pins);
	while (image_next(image, "", 0, &cursor, &record)) {
		struct pin_note note;
		const char *value;
		size_t len;
		int r = -EBADMSG;

		if (take_note(&record, &note, &value)) {
			len = (size_t)(record.value + record.value_len - value);
			r = record.key[0] == OVERRIDE
				    ? pins_override(pins, record.key + 1, record.key_len - 1, value,
					      len, &note)
				    : take_freeze(pins, &note, value, len);
		}
		if (r < 0) {
			pins_done(pins);
			return r;
		}
	}
	return 0;
}
