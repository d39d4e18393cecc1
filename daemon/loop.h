/*
 * The event loop: the door to libevent. One thread, one loop; every callback runs from here.
 *
 * With the environment variable CONSULCFGD_MEASURE set, the thread CPU time of every callback is
 * taken (one system call each) and the worst one kept, for benchmarks and `consulcfg-status
 * --json`.
 */
#pragma once

#include "proto/std.h"

struct loop;
struct loop_io;
struct loop_timer;
struct loop_signal;
struct event_base;

#define LOOP_READ 0x1u
#define LOOP_WRITE 0x2u

typedef void (*loop_io_fn)(unsigned events, void *userdata);
typedef void (*loop_fn)(void *userdata);

/* From here on the process ignores SIGPIPE. Free what hangs in a loop before the loop. */
int loop_new(struct loop **ret_loop);
struct loop *loop_free(struct loop *loop);

/* For web.c alone, whose library hangs itself in. */
struct event_base *loop_event_base(struct loop *loop);

/* Runs until loop_stop(). 0 or -errno. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* CLOCK_BOOTTIME in microseconds: ages and timers go on while the host sleeps. */
uint64_t loop_now(void);

/* Since 1970, by a clock that people set. */
uint64_t loop_realtime_usec(void);

/* CPU time that this thread has taken. */
uint64_t loop_cpu_usec(void);

/* Worst thread CPU time of one callback so far in microseconds; 0 when not measured. */
uint64_t loop_worst_callback_usec(const struct loop *loop);
/* The same since this was last asked. */
uint64_t loop_take_worst_callback_usec(struct loop *loop);

/* The descriptor is borrowed: free the io before closing it. Wants no events at first. */
int loop_io_new(struct loop *loop, int fd, loop_io_fn fn, void *userdata, struct loop_io **ret_io);
int loop_io_want(struct loop_io *io, unsigned events);
struct loop_io *loop_io_free(struct loop_io *io);

/* One-shot; arming again replaces the time. A delay of 0 runs in the next turn of the loop, after
 * the sockets that are ready now: this is how long work yields between slices. Arming always
 * returns 0; any delay is fine, also UINT64_MAX. */
int loop_timer_new(struct loop *loop, loop_fn fn, void *userdata, struct loop_timer **ret_timer);
int loop_timer_arm(struct loop_timer *timer, uint64_t delay_usec);
void loop_timer_disarm(struct loop_timer *timer);
bool loop_timer_is_armed(const struct loop_timer *timer);
struct loop_timer *loop_timer_free(struct loop_timer *timer);

/* Signals arrive as events, never in a handler. */
int loop_signal_new(
	struct loop *loop, int signo, loop_fn fn, void *userdata, struct loop_signal **ret_signal);
struct loop_signal *loop_signal_free(struct loop_signal *signal);
