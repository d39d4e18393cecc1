/*
 * What a program's event loop polls: an epoll descriptor that stays the same while connections come
 * and go. It is readable when the daemon has said something, when it is time to try again, or when
 * another thread took a generation that was not dispatched yet.
 *
 * Zeros are not valid: begin with EVENTS_NONE.
 */
#pragma once

#include "proto/std.h"

struct events {
	int epoll_fd; /* -1: nobody asked for it */
	int timer_fd;
	int news_fd; /* an eventfd */
};

#define EVENTS_NONE                                                                                \
	(struct events)                                                                            \
	{                                                                                          \
		-1, -1, -1                                                                         \
	}

/* 0 or -errno; then nothing is kept. */
int events_open(struct events *events);
void events_close(struct events *events);

/* All of these do nothing while nobody has opened it. at: clock_now_usec(), UINT64_MAX: never. */
void events_wake_at(struct events *events, uint64_t at);
void events_set_news(struct events *events, bool has_news);
