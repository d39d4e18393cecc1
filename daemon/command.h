/*
 * What each request does. A request is judged in this order: its shape, the name in it, the
 * client's rights; only then it acts.
 */
#pragma once

#include "daemon/session.h"
#include "proto/wire.h"

/* Handles one frame; its payload lies behind the header. Replies, or leaves a pending request. */
void command_handle(struct session *session, const struct wire_header *header, const void *payload);

/* The header is that of no request: says so and ends the session. */
void command_refuse(struct session *session, const struct wire_header *header);
