/*
 * What operators have said about a service: that it is frozen, and values of single keys. Each with
 * who, when, why and until when. Data alone; kept as an image, one record each.
 */
#pragma once

#include "daemon/kvset.h"
#include "daemon/list.h"
#include "proto/image.h"

struct pin_note {
	char by[LIMIT_PIN_BY];
	char reason[LIMIT_PIN_REASON + 1];
	uint64_t since, until; /* usec since 1970; until 0: until it is undone */
};

struct pin { /* an override */
	struct list link; /* pins::overrides, in key order */
	struct pin_note note;
	char *key, *value;
	size_t key_len, value_len;
};

/* Of a key or a value, with a NUL behind. NULL: no memory. */
char *pin_copy(const char *data, size_t len);

struct pins {
	bool is_frozen;
	struct pin_note frozen;
	uint64_t frozen_digest; /* of the contents that it is frozen at */
	struct list overrides; /* pin::link */
	unsigned n_overrides;
	unsigned version; /* another one after each change */
	bool has_said;
	uint64_t said_digest; /* of what the source said last; not on the disk */
};

void pins_init(struct pins *pins);
void pins_done(struct pins *pins);

static inline bool pins_are_empty(const struct pins *pins)
{
	return !pins->is_frozen && pins->n_overrides == 0;
}

/* In place of the one before. 0, -ENOBUFS: LIMIT_PINS, -ENOMEM. */
int pins_override(struct pins *pins, const char *key, size_t key_len, const char *value,
	size_t value_len, const struct pin_note *note);
/* NULL: there is none. */
const struct pin *pins_find(const struct pins *pins, const char *key, size_t key_len);
/* How many went; key_len 0: all. */
unsigned pins_clear(struct pins *pins, const char *key, size_t key_len);

/* When the next one ends, usec since 1970; 0: none does. */
uint64_t pins_next_end(const struct pins *pins);
/* Ends what is over. True: something was. */
bool pins_expire(struct pins *pins, uint64_t now);

/* The overrides as a layer. 0, -ENOMEM. */
int pins_layer(const struct pins *pins, struct kvset **ret_set);

/* All of them as an image, and back. -EBADMSG, -ENOMEM. */
int pins_encode(const struct pins *pins, void **ret_data, size_t *ret_size);
int pins_decode(const struct image *image, struct pins *pins);
