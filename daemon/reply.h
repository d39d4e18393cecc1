/*
 * Replies as bytes, into the buffer of the turn. Knows the wire's structs and snapshots; must not
 * know sockets.
 */
#pragma once

#include "daemon/session.h"
#include "proto/wire.h"

/* What a reply says about its request. */
struct reply {
	struct session *session;
	uint16_t op;
	uint32_t tag;
};

/*
 * Room for the payload of one frame behind what is there, for those who write it in place;
 * reply_end() makes the first len bytes of it a reply, dropping it needs nothing.
 */
uint8_t *reply_begin(struct session *session, size_t size);
void reply_end(const struct reply *reply, enum wire_status status, size_t len);

void reply_bytes(
	const struct reply *reply, enum wire_status status, const void *payload, size_t len);
/* The frame was made over several turns, with room for the header in front; takes it. Nothing waits
 * to be sent. */
void reply_frame(const struct reply *reply, struct buffer *frame);
/* One line for people. */
void reply_text(const struct reply *reply, enum wire_status status, const char *format, ...)
	PRINTF_FORMAT(3, 4);
void reply_info(const struct reply *reply, const struct service *service);
/* With a descriptor of its own of the snapshot. */
void reply_snapshot(const struct reply *reply, struct service *service);
/* Nothing newer than what the client holds. */
void reply_keep(const struct reply *reply, struct service *service);
void reply_no_data(const struct reply *reply, const struct service *service);
void reply_denied(const struct reply *reply, const char *service, size_t service_len);
/* What opened_new() said. */
void reply_not_opened(
	const struct reply *reply, const char *service, size_t service_len, int error);

/* A head of bytes and a value of the snapshot, which is not copied when it is large. */
void reply_value(const struct reply *reply, const void *head, size_t head_len,
	struct snapshot *snapshot, const struct record *record);
