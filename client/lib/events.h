/*
 * What a program's event loop polls: an epoll descriptor that stays the same while connections come
 * and go. It is readable when the daemon has said something, when it is time to try again, or when
 * another thread took a generation that was not dispatched yet.
 *
 * Zeros are not valid: begin with EVENTS_NONE.
 */
#pragma once

#include <sys/types.h>

#include "proto/std.h"

/*
 * The descriptors live in somebody else's process, which may close them and get the numbers back
 * for something of its own: they are looked at before each use, and forgotten when one is lost.
 */
struct events {
	int epoll_fd; /* -1: nobody asked for it */
	int timer_fd;
	int news_fd; /* an eventfd */
	dev_t dev; /* what each of them is, as far as the kernel tells */
	ino_t ino;
};

#define EVENTS_NONE                                                                                \
	(struct events)                                                                            \
	{                                                                                          \
		.epoll_fd = -1, .timer_fd = -1, .news_fd = -1                                      \
	}

/* 0 or -errno; then nothing is kept. */
int events_open(struct events *events);
void events_close(struct events *events); /* what is still ours */

/* False: nobody has opened it, or the program has closed it. */
bool events_are_open(struct events *events);

/* All of these do nothing while nobody has opened it. at: clock_now_usec(), UINT64_MAX: never. */
void events_wake_at(struct events *events, uint64_t at);
void events_set_news(struct events *events, bool has_news);
