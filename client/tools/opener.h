/*
 * Opens a service for a verb that stays with it, and says what went wrong.
 */
#pragma once

#include "client/lib/consulcfg.h"
#include "client/tools/verb.h"

/* ccfg_open(), then data or an error, also with a time-out of 0. Flags: CCFG_…. 0 or -errno. */
int opener_open(const struct context *context, const char *service, uint64_t timeout_usec,
	unsigned flags, ccfg **ret_cfg);

/* Says what opener_open() met and returns the exit code. */
int opener_complain(
	const struct context *context, const char *service, uint64_t timeout_usec, int error);

/* Whether a view of this handle has data; else why not, as -errno. */
int opener_check_data(ccfg *cfg);
