/*
 * Waits for the end of a burst of changes, so that a command is run once for all of them.
 */
#pragma once

#include "client/lib/consulcfg.h"

/* Until nothing newer has come for a tenth of a second, but no longer than two seconds. */
void settle_wait(ccfg *cfg);

/* A moment by chance, at most so long: the hosts of a fleet do not act at once. */
void settle_splay(uint64_t splay_usec);
