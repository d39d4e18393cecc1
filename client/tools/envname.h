/*
 * Names of environment variables from keys: "db/url" is DB_URL. Letters are raised, everything but
 * letters and digits becomes "_", a leading digit gets one in front.
 */
#pragma once

#include "proto/limits.h"
#include "proto/std.h"

#define ENVNAME_SIZE (LIMIT_KEY + 2)

/* len is 1 to LIMIT_KEY. Returns buf. */
char *envname_of(const char *key, size_t len, char buf[ENVNAME_SIZE]);
