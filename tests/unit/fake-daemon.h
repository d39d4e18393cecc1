/*
 * A daemon in a thread of the test: one service in memory behind a real socket, and the ways to
 * misbehave that a test asks for. Speaks the protocol with its own few lines, not the daemon's.
 */
#pragma once

#include <pthread.h>

#include "fake-share.h"
#include "proto/wire.h"

#define FAKE_DAEMON_KEYS 64
#define FAKE_DAEMON_CONNECTIONS 8
#define FAKE_DAEMON_WAITING 8
#define FAKE_DAEMON_STRAYS 100

struct fake_entry {
	char key[64];
	char value[64];
	size_t value_len;
	uint64_t flags;
};

/* A request whose answer is owed. */
struct fake_waiting {
	int fd; /* -1: none */
	unsigned op;
	uint32_t tag;
	uint64_t generation;
};

struct fake_daemon {
	char directory[64];
	char path[96];
	pthread_t thread;
	bool is_running;
	int listener;
	int wake[2];
	int connections[FAKE_DAEMON_CONNECTIONS];

	pthread_mutex_t lock; /* of what follows */
	bool shall_stop;
	struct fake_entry entries[FAKE_DAEMON_KEYS]; /* in key order */
	size_t n_entries;
	uint64_t generation; /* 0: loading */
	uint64_t age_usec;
	unsigned state;
	struct fake_waiting waiting[FAKE_DAEMON_WAITING];
	unsigned n_accepted, n_lists, n_fetches; /* so far */
	int genfile; /* -1: none made yet */

	/* Misbehaviour; set with fake_daemon_set(). */
	size_t page_entries; /* entries of a page of LIST; 0: all */
	unsigned refusal; /* status of OPEN, LIST and WATCH; 0: none */
	unsigned hello_status;
	unsigned major; /* as greeted; 0: ours */
	unsigned minor; /* ... with words that only newer clients know */
	bool is_mute; /* reads, answers nothing */
	unsigned n_strays; /* replies that nobody asked for, in front of one and sent with it */
	enum fake_image image; /* what FETCH brings; none: it is not known here */
	enum fake_genfile genfile_kind; /* set before the start */
	bool keeps_no_genfile; /* another file for each start */
	unsigned change_on_page; /* the generation goes while this page is asked for, counted from 1
				  */
	unsigned cut_on_page; /* the connection ends instead of this page */
	unsigned n_cut_fetches; /* so many connections end instead of bringing a descriptor */
};

void fake_daemon_init(struct fake_daemon *daemon); /* a directory, no socket yet */
void fake_daemon_start(struct fake_daemon *daemon);
void fake_daemon_stop(struct fake_daemon *daemon); /* connections end, the socket goes */
void fake_daemon_done(struct fake_daemon *daemon);

/* Sets a member while the daemon runs. */
#define fake_daemon_set(daemon, member, to)                                                        \
	do {                                                                                       \
		pthread_mutex_lock(&(daemon)->lock);                                               \
		(daemon)->member = (to);                                                           \
		pthread_mutex_unlock(&(daemon)->lock);                                             \
	} while (0)

/* Put or, with value NULL, delete; then a new generation, and those who wait are told. */
void fake_daemon_put(struct fake_daemon *daemon, const char *key, const char *value);

/* Only a new generation. */
void fake_daemon_touch(struct fake_daemon *daemon);
