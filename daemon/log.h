/*
 * Messages, one line each, control bytes escaped. They go to standard error; when the journal reads
 * that (JOURNAL_STREAM), to the journal itself, with fields to filter by. Values and tokens are
 * never passed here.
 */
#pragma once

#include "daemon/log-ids.h"
#include "proto/std.h"

enum log_level {
	LOG_LEVEL_ERROR = 0,
	LOG_LEVEL_WARNING = 1,
	LOG_LEVEL_INFO = 2,
	LOG_LEVEL_DEBUG = 3,
};

void log_set_level(enum log_level level);
int log_level_parse(const char *text, enum log_level *ret_level); /* 0, -EINVAL */

/* Where standard error is the journal's, messages go to its socket, and to standard error when it
 * does not take one. */
void log_open_journal(const char *socket_path);
void log_close_journal(void);

/* Whether messages of this level are wanted: some take work to put together. */
bool log_is_wanted(enum log_level level);

/* What a message is about: fields of the journal, CONSULCFG_SERVICE= and so on. What is NULL or 0
 * is left out. */
struct log_about {
	const char *id; /* of log-ids.h: MESSAGE_ID= */
	const char *service, *prefix; /* as they are shown to people */
	const char *state; /* of the service, by its name, and the one before */
	const char *state_before;
	const char *error; /* its kind, by its name */
	const char *by; /* an operator */
	const char *key; /* key_len bytes */
	size_t key_len;
	uint64_t generation, index;
};

/* log_event(LOG_LEVEL_ERROR, ABOUT(LOG_SERVICE_HELD, .service = name), "...", ...) */
#define ABOUT(id_, ...) (&(struct log_about){ .id = (id_), __VA_ARGS__ })

/* Lines that somebody can make come as often as he likes: a burst, then one now and then. */
struct log_pace {
	unsigned n_said;
	unsigned n_unsaid; /* since the last one */
	uint64_t at; /* loop_now() */
};

/* At a loop_now() time; false: this one is left out. */
bool log_pace_take(struct log_pace *pace, uint64_t now);

/* about NULL: nothing that a machine asks for. */
void log_event(enum log_level level, const struct log_about *about, const char *format, ...)
	PRINTF_FORMAT(3, 4);

#define log_error(...) log_event(LOG_LEVEL_ERROR, NULL, __VA_ARGS__)
#define log_warning(...) log_event(LOG_LEVEL_WARNING, NULL, __VA_ARGS__)
#define log_info(...) log_event(LOG_LEVEL_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_event(LOG_LEVEL_DEBUG, NULL, __VA_ARGS__)
