/*
 * Messages to standard error, one line each, control bytes escaped; with priority prefixes when
 * the journal reads them (JOURNAL_STREAM). Values and tokens are never passed here.
 */
#pragma once

#include "proto/std.h"

enum log_level {
	LOG_LEVEL_ERROR = 0,
	LOG_LEVEL_WARNING = 1,
	LOG_LEVEL_INFO = 2,
	LOG_LEVEL_DEBUG = 3,
};

void log_set_level(enum log_level level);
int log_level_parse(const char *text, enum log_level *ret_level); /* 0, -EINVAL */

void log_message(enum log_level level, const char *format, ...) PRINTF_FORMAT(2, 3);

#define log_error(...) log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)
