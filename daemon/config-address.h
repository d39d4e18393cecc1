/*
 * An address of Consul as people write it, made into the one form that requests are built from.
 * Pure.
 */
#pragma once

#include "proto/std.h"

/* What to write instead of one that is wrong, for messages. */
#define CONFIG_ADDRESS_FORMS "write HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:///PATH"

/*
 *   host[:port][/path]              gets http://, or https:// when `https`
 *   http://…, https://…             as they are, without '/' at the end
 *   unix:///path
 *
 * 0; -ENOMEM; -EINVAL: *ret_why says what is wrong with it, without repeating it.
 */
int config_address_normalise(
	const char *text, bool https, char **ret_address, const char **ret_why);

/* "host" or "host:port", or nothing. NULL, or what is wrong with it. */
const char *config_address_check_server_name(const char *text);
