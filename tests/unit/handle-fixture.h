/*
 * A handle and the fake daemon it is opened at.
 */
#pragma once

#include "client/lib/handle.h"
#include "fake-daemon.h"

#define SOON_MS 5000 /* for what must happen: a deadline, not a delay */

/* For cmocka: *state is a struct fake_daemon that runs and holds three keys. */
int handle_set_up(void **state);
int handle_tear_down(void **state);

int open_at(struct fake_daemon *daemon, int timeout_ms, unsigned flags, ccfg **ret_cfg);
ccfg *open_now(struct fake_daemon *daemon); /* asserts that it opens */

/* Reads until a key has a value (NULL: is absent); false when that does not happen soon. */
bool comes_to(ccfg *cfg, const char *key, const char *value);

/* Of the view that the handle holds; takes nothing newer. */
uint64_t handle_newest_generation(ccfg *cfg);

void pause_ms(unsigned ms);

/* For pthread_create, with a struct fake_daemon: puts key "late" after a while. */
void *put_later(void *userdata);
