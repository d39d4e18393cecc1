/*
 * The one value grammar of C, Python, schema and exec; also used for the configuration file.
 *
 *   integer   -?[0-9]+
 *   boolean   true false yes no on off 1 0, in any case
 *   duration  number + unit (us ms s min h d w), "1.5h" too; a bare number is seconds
 *   double    as in the C locale whatever the process's locale is; no nan, no inf, no hex
 *   size      number + optional K M G (1024), used by the configuration file only
 *
 * One trailing newline is ignored. Nothing else is: no spaces, no sign but the leading minus of an
 * integer or double. A duration is rounded down to a microsecond, a double that is too small to 0.
 * All return 0, -EINVAL (does not parse) or -ERANGE (parses, does not fit); *ret is written on
 * success only. value_double also -ENOMEM, on systems whose C locale needs memory. `text` need not
 * be NUL-terminated.
 */
#pragma once

#include "proto/std.h"

int value_int64(const char *text, size_t len, int64_t *ret);
int value_bool(const char *text, size_t len, bool *ret);
int value_double(const char *text, size_t len, double *ret);
int value_duration_us(const char *text, size_t len, uint64_t *ret);
int value_size(const char *text, size_t len, uint64_t *ret);
