/*
 * The journal's native protocol: a message is a datagram of fields. Knows nothing of who logs.
 *
 * Every value goes with its length, so that nothing in one can end it and begin another field.
 */
#pragma once

#include "proto/std.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define JOURNAL_MESSAGE_MAX (16u << 10) /* a key of 4 kB, a line of 4 kB, and the rest */

/* A message that is being put together; plain data. */
struct journal_message {
	size_t len;
	bool is_cut; /* a field did not fit */
	uint8_t bytes[JOURNAL_MESSAGE_MAX];
};

/* name: of capital letters and underscores. A field that does not fit is left out. */
void journal_put(struct journal_message *message, const char *name, const char *value, size_t len);

/* Before the first message; at the path listens the journal, or will. 0, -errno. */
int journal_open(const char *path);
bool journal_is_open(void);
void journal_close(void);

/* -ENOTCONN: it is not open; -EAGAIN: the journal does not keep up; other -errno. Then nobody
 * has the message. */
int journal_send(const struct journal_message *message);
