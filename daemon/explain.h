/*
 * Answers EXPLAIN: what each layer of a service says of a key. Knows services, trees and the wire.
 */
#pragma once

#include "daemon/reply.h"

void explain_reply(
	const struct reply *reply, const struct service *service, const char *key, size_t key_len);
