/*
 * Asks the daemon what each layer of a handle's service says of a key.
 */
#pragma once

#include "client/lib/consulcfg.h"
#include "client/lib/handle.h"

/* As ccfg_explain(). */
int handle_explain(
	struct ccfg *handle, const char *key, size_t key_len, ccfg_explain_fn *fn, void *userdata);
