/*
 * A schema: what keys a configuration must have and what their values must look like. Used by the
 * daemon before it publishes and by consulcfg-check before a push. A text of lines:
 *
 *	# KEY-OR-GLOB TYPE [required] [min=N] [max=N] [pattern=REGEX to the end of the line]
 *	db/url    string   required pattern=^postgres://
 *	db/pool   integer  min=1 max=100
 *	ttl       duration max=1h
 *	debug/STAR none
 *
 * (STAR is an asterisk.) Of several lines that match a key the first counts; a key that none
 *matches may be anything. Types are those of proto/value.h and string (UTF-8), bytes (anything) and
 *none (the key must not be there); min and max of strings and bytes are lengths.
 *
 * Whoever may write the configuration may write its schema: what a pattern can cost is bounded.
 */
#pragma once

#include "proto/record.h"

#define SCHEMA_MESSAGE 256

struct schema;

/* 0; -EINVAL: does not parse, `message` says where and why; -ENOMEM. */
int schema_parse(
	const char *text, size_t len, struct schema **ret_schema, char message[SCHEMA_MESSAGE]);
struct schema *schema_free(struct schema *schema);

/* One look at a configuration, entry by entry. */
struct schema_check {
	const struct schema *schema;
	bool *seen; /* of each line: a key had it */
	char message[SCHEMA_MESSAGE]; /* which key is not good and why, without its value */
};

int schema_check_init(struct schema_check *check, const struct schema *schema); /* -ENOMEM */
void schema_check_done(struct schema_check *check);

/* 0; -EINVAL: this entry breaks the schema; others may be looked at all the same. */
int schema_check_entry(struct schema_check *check, const struct record *entry);

/* What that may take, in units of which a thousand are some microseconds. */
size_t schema_cost(const struct schema *schema, const struct record *entry);

/* Behind the last entry: 0; -EINVAL: a required key is missing. *cursor from 0; call again with it
 * for the next one. */
int schema_check_end(struct schema_check *check, size_t *cursor);
