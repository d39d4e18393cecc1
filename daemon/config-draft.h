/*
 * A configuration while it is being read: the struct that will come out, and where each setting
 * stood, for messages. Knows no key.
 */
#pragma once

#include "daemon/config.h"

#define CONFIG_DRAFT_KEYS 48 /* room for the table of config-table.c */

/* Where a setting stands. */
struct config_place {
	const char
		*file; /* a path, "--set" or a variable's name; NULL: nowhere, it is the default */
	unsigned line; /* 0: what has no lines */
};

struct config_rule_places {
	struct config_place layers, access, lock, schema, hold, backup;
};

struct config_socket_places {
	struct config_place section, path, group, mode, services;
};

struct config_draft {
	struct config *config;
	bool https; /* CONSUL_HTTP_SSL: addresses without a scheme are https:// */
	char **files; /* the paths that places point to */
	unsigned n_files;
	/* What is being read now; section and key are NULL where there are none. */
	struct config_place place;
	const char *section, *key;
	/* Where settings were made last: per entry of the table, per rule, per label. */
	struct config_place keys[CONFIG_DRAFT_KEYS];
	struct config_rule_places *rules;
	struct config_place *labels;
	struct config_socket_places *sockets;
	char quoted[80];
	char *message;
};

/* Everything but `config` and `message`, which are the caller's. */
void config_draft_done(struct config_draft *draft);

/* A file is read next: `path` is copied. 0, -ENOMEM. */
int config_draft_enter_file(struct config_draft *draft, const char *path);
/* Something else is read next; `name` outlives the draft. */
void config_draft_enter(struct config_draft *draft, const char *name);

/* Keeps "PLACE: [section] key: …" as the message. Returns -EINVAL. */
int config_draft_fail(struct config_draft *draft, const char *format, ...) PRINTF_FORMAT(2, 3);
/* Logs it: it may be meant. */
void config_draft_warn(const struct config_draft *draft, const char *format, ...)
	PRINTF_FORMAT(2, 3);
/* The same about a setting read before: what is read now becomes that. */
void config_draft_return_to(struct config_draft *draft, const struct config_place *place,
	const char *section, const char *key);

/* `text` in quotes, safe and short enough for a message; valid until the next call. */
const char *config_draft_quote(struct config_draft *draft, const char *text);

/* For a setting that one file makes once: notes where. 0, -EINVAL. */
int config_draft_once(struct config_draft *draft, struct config_place *place);

/* Replaces a string; "" leaves NULL. 0, -ENOMEM. */
int config_draft_set_string(char **target, const char *value);
/* The same of a path, which may begin in the working directory and becomes absolute. 0, -ENOMEM,
 * -EINVAL with a message. */
int config_draft_set_path(struct config_draft *draft, char **target, const char *path);

/*
 * Judges one word of a list and may replace it by what is kept. 0 or -errno after
 * config_draft_fail().
 */
typedef int (*config_draft_word_fn)(struct config_draft *draft, char **word);

/*
 * The words of a list: they replace what other places said and go on with what this file said.
 * The same word twice is an error. 0, -EINVAL, -ENOMEM.
 */
int config_draft_set_words(struct config_draft *draft, struct config_place *place,
	const char *value, config_draft_word_fn fn, char ***words, unsigned *n_words);
char **config_draft_free_words(char **words, unsigned n_words);
