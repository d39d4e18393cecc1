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

/* The same in slices. The text is copied. -ENOMEM. */
struct schema_parser;
int schema_parser_new(const char *text, size_t len, struct schema_parser **ret_parser);
struct schema_parser *schema_parser_free(struct schema_parser *parser);

/* A millisecond at most. 1: more to do; else as schema_parse(). */
int schema_parser_step(
	struct schema_parser *parser, struct schema **ret_schema, char message[SCHEMA_MESSAGE]);

/* One look at a configuration, entry by entry. */
struct schema_check {
	const struct schema *schema;
	bool *seen; /* of each line: a key had it */
	char message[SCHEMA_MESSAGE]; /* which key is not good and why, without its value */
	size_t cost; /* of what was done so far, at most; set it to 0 to go on */
	size_t line; /* that the entry is held against next */
	size_t text_at; /* of its value, up to which that is UTF-8 */
	bool is_judged; /* by a line before */
	int verdict;
};

#define SCHEMA_SLICE_COST ((size_t)64 << 10) /* a quarter of a millisecond */

int schema_check_init(struct schema_check *check, const struct schema *schema); /* -ENOMEM */
void schema_check_done(struct schema_check *check);

/* 0; -EINVAL: this entry breaks the schema; others may be looked at all the same. 1: the cost is
 * that of a slice; set it to 0 and call again with the same entry. */
int schema_check_entry(struct schema_check *check, const struct record *entry);

/* Behind the last entry: 0; -EINVAL: a required key is missing. *cursor from 0; call again with it
 * for the next one. */
int schema_check_end(struct schema_check *check, size_t *cursor);
