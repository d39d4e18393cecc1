/*
 * A regular expression whose cost is bounded before it is used: whoever may write a configuration
 * may write its schema, and regcomp(3) takes any amount of time, memory and stack. Extended POSIX
 * syntax of bytes, searched for anywhere in a text, and of GNU's additions \w \W \s \S; no back
 * references, no repeated repetitions without a group.
 *
 * Compiled to an automaton of at most LIMIT_SCHEMA_STATES; a search takes at most that many steps,
 * of some nanoseconds, for each byte of the text.
 */
#pragma once

#include "proto/limits.h"
#include "proto/std.h"

struct pattern;

/* 0; -EINVAL: does not read, *ret_why says why; -ENOMEM. */
int pattern_new(const char *text, struct pattern **ret_pattern, const char **ret_why);
struct pattern *pattern_free(struct pattern *pattern); /* NULL is fine; returns NULL */

bool pattern_is_in(const struct pattern *pattern, const char *text, size_t len);

/* At most so many steps for each byte. */
size_t pattern_n_states(const struct pattern *pattern);
