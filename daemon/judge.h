/*
 * The judge of a service: holds what is to be published against the service's schema, which is a
 * file on this host or a key of the service itself. A schema that does not read judges nothing, and
 * says so.
 */
#pragma once

#include "proto/schema.h"

struct judge {
	char *source; /* as schema= gave it: a path, or a key; NULL: nothing is judged */
	char *text; /* of the file, until the first look at a configuration has parsed it */
	size_t text_len;
	struct schema *schema; /* of the file */
	char *trouble; /* why there is no schema; NULL: there is, or none is wanted */
};

/* Reads the file, also when it is the same as before. 0, -ENOMEM. */
int judge_configure(struct judge *judge, const char *source);
/* Reads the schema of a file to its end at once, for those who have the time: says in `trouble`
 * what is wrong with it. 0, -ENOMEM. */
int judge_read(struct judge *judge);

void judge_done(struct judge *judge);

/* One look at what is to be published. */
struct judge_run {
	struct judge *judge;
	const struct records *records;
	size_t off;
	enum { JUDGE_FIND, JUDGE_PARSE, JUDGE_CHECK } phase;
	struct schema_parser *parser;
	struct schema *own; /* of a key */
	struct schema_check check;
	bool has_entry; /* that is not judged to the end */
	struct record entry;
};

/* Borrows both. */
void judge_run_init(struct judge_run *j, struct judge *judge, const struct records *records);
void judge_run_done(struct judge_run *j);

/* About a millisecond of work. 1: more to do; 0: good, or there is no schema; -EKEYREJECTED: not
 * good, check.message says why; -ENOMEM. */
int judge_run_step(struct judge_run *j);
