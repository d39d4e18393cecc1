/*
 * The door to libevent. Knows descriptors, delays and signals; must not know whose they are.
 *
 * libevent's own timers follow CLOCK_MONOTONIC, which stands still while the host sleeps. Timers
 * here are a heap over CLOCK_BOOTTIME with one timerfd behind it, set only when an earlier time
 * comes up: arming and disarming the deadlines of every request costs no system call.
 *
 * One turn: sockets that are ready, then timers that are due, in the order they became due. Timers
 * of one turn get a budget, what is left of them runs after the sockets of the next: many small
 * slices of work cannot starve I/O, and busy sockets cannot starve work.
 */
#include "daemon/loop.h"

#include <signal.h>
#include <sys/timerfd.h>
#include <time.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "daemon/list.h"
#include "proto/limits.h"

#define NEVER UINT64_MAX

struct loop {
	struct event_base *base;
	struct event tick; /* the timerfd */
	int timer_fd;
	uint64_t armed_at; /* what the timerfd is set to, NEVER when it is not */
	struct loop_timer **heap; /* earliest first; room for every timer there is */
	size_t n_heap, n_timers, n_allocated;
	struct list due; /* loop_timer::link */
	bool is_stopping;
	bool is_measured;
	uint64_t worst_nsec, worst_lately_nsec;
};

struct loop_io {
	struct loop *loop;
	loop_io_fn fn;
	void *userdata;
	unsigned wanted;
	struct event read, write;
};

struct loop_timer {
	struct loop *loop;
	loop_fn fn;
	void *userdata;
	uint64_t at;
	size_t pos; /* in loop::heap, from 1; 0: not there */
	struct list link; /* loop::due */
};

struct loop_signal {
	struct loop *loop;
	loop_fn fn;
	void *userdata;
	struct event event;
};

static uint64_t clock_nsec(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static uint64_t measure_begin(const struct loop *loop)
{
	return loop->is_measured ? clock_nsec(CLOCK_THREAD_CPUTIME_ID) : 0;
}

static void measure_end(struct loop *loop, uint64_t begin)
{
	uint64_t nsec;

	if (!loop->is_measured)
		return;
	nsec = clock_nsec(CLOCK_THREAD_CPUTIME_ID) - begin;
	loop->worst_nsec = MAX(loop->worst_nsec, nsec);
	loop->worst_lately_nsec = MAX(loop->worst_lately_nsec, nsec);
}

/* The callback may free what it belongs to: only the loop is touched after it. */
static void call(struct loop *loop, loop_fn fn, void *userdata)
{
	uint64_t begin = measure_begin(loop);

	fn(userdata);
	measure_end(loop, begin);
}

static void heap_put(struct loop *loop, struct loop_timer *timer, size_t pos)
{
	loop->heap[pos - 1] = timer;
	timer->pos = pos;
}

static void heap_rise(struct loop *loop, struct loop_timer *timer, size_t pos)
{
	for (; pos > 1 && loop->heap[pos / 2 - 1]->at > timer->at; pos /= 2)
		heap_put(loop, loop->heap[pos / 2 - 1], pos);
	heap_put(loop, timer, pos);
}

static void heap_sink(struct loop *loop, struct loop_timer *timer, size_t pos)
{
	for (size_t child = 2 * pos; child <= loop->n_heap; child = 2 * pos) {
		if (child < loop->n_heap && loop->heap[child]->at < loop->heap[child - 1]->at)
			child++;
		if (loop->heap[child - 1]->at >= timer->at)
			break;
		heap_put(loop, loop->heap[child - 1], pos);
		pos = child;
	}
	heap_put(loop, timer, pos);
}

static void heap_remove(struct loop *loop, struct loop_timer *timer)
{
	struct loop_timer *last = loop->heap[--loop->n_heap];
	size_t pos = timer->pos;

	timer->pos = 0;
	if (last == timer)
		return;
	if (pos > 1 && loop->heap[pos / 2 - 1]->at > last->at)
		heap_rise(loop, last, pos);
	else
		heap_sink(loop, last, pos);
}

/* Disarming leaves the timerfd as it is: a tick for nothing is cheaper than a call each time. */
static void set_tick(struct loop *loop, uint64_t at)
{
	const struct itimerspec spec = {
		.it_value = { .tv_sec = (time_t)(at / USEC_PER_SEC),
			.tv_nsec = (long)(at % USEC_PER_SEC * NSEC_PER_USEC) },
	};

	if (timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0)
		loop->armed_at = at;
}

static void on_tick(evutil_socket_t fd, short events, void *userdata)
{
	struct loop *loop = userdata;
	uint64_t now = loop_now(), n_expired;

	(void)events;
	/* Read to clear it; that it was not due after all is no harm. */
	if (read(fd, &n_expired, sizeof(n_expired)) < 0 && errno == EAGAIN)
		return;
	loop->armed_at = NEVER;
	while (loop->n_heap > 0 && loop->heap[0]->at <= now) {
		struct loop_timer *timer = loop->heap[0];

		heap_remove(loop, timer);
		list_append(&loop->due, &timer->link);
	}
	if (loop->n_heap > 0)
		set_tick(loop, loop->heap[0]->at);
}

static void run_due(struct loop *loop)
{
	struct list batch = LIST_INIT(batch);
	uint64_t until = loop_now() + LIMIT_TURN_USEC;

	/* What the callbacks arm with no delay waits for the next turn. */
	list_splice(&batch, &loop->due);
	while (!list_is_empty(&batch) && !loop->is_stopping) {
		struct loop_timer *timer = LIST_ENTRY(batch.next, struct loop_timer, link);

		list_unlink(&timer->link);
		call(loop, timer->fn, timer->userdata);
		if (loop_now() >= until)
			break;
	}
	list_splice(&batch, &loop->due);
	list_splice(&loop->due, &batch);
}

static struct event_base *new_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (!config)
		return NULL;
	if (event_config_avoid_method(config, "select") == 0 &&
		event_config_avoid_method(config, "poll") == 0 &&
		event_config_set_flag(
			config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV) == 0)
		base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

int loop_new(struct loop **ret_loop)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return -ENOMEM;
	/* libcurl's TLS writes to connections that the other side may have closed. */
	signal(SIGPIPE, SIG_IGN);
	list_init(&loop->due);
	loop->armed_at = NEVER;
	loop->is_measured = getenv("CONSULCFGD_MEASURE") != NULL;
	loop->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (loop->timer_fd < 0) {
		r = -errno;
		goto fail;
	}
	r = -ENOMEM;
	loop->base = new_base();
	if (!loop->base)
		goto fail;
	if (event_assign(&loop->tick, loop->base, loop->timer_fd, EV_READ | EV_PERSIST, on_tick,
		    loop) < 0 ||
		event_add(&loop->tick, NULL) < 0)
		goto fail;
	*ret_loop = loop;
	return 0;

fail:
	if (loop->base)
		event_base_free(loop->base);
	std_closep(&loop->timer_fd);
	free(loop);
	return r;
}

struct loop *loop_free(struct loop *loop)
{
	if (!loop)
		return NULL;
	event_del(&loop->tick);
	event_base_free(loop->base);
	close(loop->timer_fd);
	free(loop->heap);
	free(loop);
	return NULL;
}

struct event_base *loop_event_base(struct loop *loop)
{
	return loop->base;
}

int loop_run(struct loop *loop)
{
	int r = 0;

	while (!loop->is_stopping && r >= 0) {
		r = event_base_loop(loop->base,
			EVLOOP_ONCE | (list_is_empty(&loop->due) ? 0 : EVLOOP_NONBLOCK));
		if (r >= 0)
			run_due(loop);
	}
	loop->is_stopping = false;
	return r < 0 ? -EIO : 0;
}

void loop_stop(struct loop *loop)
{
	loop->is_stopping = true;
	event_base_loopbreak(loop->base);
}

uint64_t loop_now(void)
{
	return clock_nsec(CLOCK_BOOTTIME) / NSEC_PER_USEC;
}

uint64_t loop_realtime_usec(void)
{
	return clock_nsec(CLOCK_REALTIME) / NSEC_PER_USEC;
}

uint64_t loop_cpu_usec(void)
{
	return clock_nsec(CLOCK_THREAD_CPUTIME_ID) / NSEC_PER_USEC;
}

uint64_t loop_worst_callback_usec(const struct loop *loop)
{
	return loop->worst_nsec / NSEC_PER_USEC;
}

uint64_t loop_take_worst_callback_usec(struct loop *loop)
{
	uint64_t nsec = loop->worst_lately_nsec;

	loop->worst_lately_nsec = 0;
	return nsec / NSEC_PER_USEC;
}

static void on_io(struct loop_io *io, unsigned event)
{
	struct loop *loop = io->loop;
	uint64_t begin = measure_begin(loop);

	io->fn(event, io->userdata);
	measure_end(loop, begin);
}

static void on_read(evutil_socket_t fd, short events, void *userdata)
{
	(void)fd, (void)events;
	on_io(userdata, LOOP_READ);
}

static void on_write(evutil_socket_t fd, short events, void *userdata)
{
	(void)fd, (void)events;
	on_io(userdata, LOOP_WRITE);
}

int loop_io_new(struct loop *loop, int fd, loop_io_fn fn, void *userdata, struct loop_io **ret_io)
{
	struct loop_io *io = calloc(1, sizeof(*io));

	if (!io)
		return -ENOMEM;
	io->loop = loop;
	io->fn = fn;
	io->userdata = userdata;
	/* Two events, so that wanting to write as well is one epoll_ctl and not two. */
	if (event_assign(&io->read, loop->base, fd, EV_READ | EV_PERSIST, on_read, io) < 0 ||
		event_assign(&io->write, loop->base, fd, EV_WRITE | EV_PERSIST, on_write, io) < 0) {
		free(io);
		return -EINVAL;
	}
	*ret_io = io;
	return 0;
}

static int want_one(struct event *event, bool had, bool wanted)
{
	if (had == wanted)
		return 0;
	errno = 0;
	if ((wanted ? event_add(event, NULL) : event_del(event)) == 0)
		return 0;
	return errno > 0 ? -errno : -ENOMEM;
}

int loop_io_want(struct loop_io *io, unsigned events)
{
	int r = want_one(&io->read, io->wanted & LOOP_READ, events & LOOP_READ);

	if (r < 0)
		return r;
	io->wanted = (io->wanted & ~LOOP_READ) | (events & LOOP_READ);
	r = want_one(&io->write, io->wanted & LOOP_WRITE, events & LOOP_WRITE);
	if (r < 0)
		return r;
	io->wanted = events;
	return 0;
}

struct loop_io *loop_io_free(struct loop_io *io)
{
	if (!io)
		return NULL;
	event_del(&io->read);
	event_del(&io->write);
	free(io);
	return NULL;
}

int loop_timer_new(struct loop *loop, loop_fn fn, void *userdata, struct loop_timer **ret_timer)
{
	struct loop_timer *timer = calloc(1, sizeof(*timer));

	if (!timer)
		return -ENOMEM;
	if (loop->n_timers == loop->n_allocated) {
		size_t n = MAX((size_t)64, loop->n_allocated * 2);
		struct loop_timer **heap = reallocarray(loop->heap, n, sizeof(*heap));

		if (!heap) {
			free(timer);
			return -ENOMEM;
		}
		loop->heap = heap;
		loop->n_allocated = n;
	}
	loop->n_timers++;
	timer->loop = loop;
	timer->fn = fn;
	timer->userdata = userdata;
	list_init(&timer->link);
	*ret_timer = timer;
	return 0;
}

int loop_timer_arm(struct loop_timer *timer, uint64_t delay_usec)
{
	struct loop *loop = timer->loop;
	uint64_t now;

	loop_timer_disarm(timer);
	if (delay_usec == 0) {
		list_append(&loop->due, &timer->link);
		return 0;
	}
	now = loop_now();
	timer->at = delay_usec < (uint64_t)INT64_MAX - now ? now + delay_usec : INT64_MAX;
	heap_rise(loop, timer, ++loop->n_heap);
	if (timer->at < loop->armed_at)
		set_tick(loop, timer->at);
	return 0;
}

void loop_timer_disarm(struct loop_timer *timer)
{
	list_unlink(&timer->link);
	if (timer->pos > 0)
		heap_remove(timer->loop, timer);
}

bool loop_timer_is_armed(const struct loop_timer *timer)
{
	return timer->pos > 0 || !list_is_empty(&timer->link);
}

struct loop_timer *loop_timer_free(struct loop_timer *timer)
{
	if (!timer)
		return NULL;
	loop_timer_disarm(timer);
	timer->loop->n_timers--;
	free(timer);
	return NULL;
}

static void on_signal(evutil_socket_t signo, short events, void *userdata)
{
	struct loop_signal *sig = userdata;

	(void)signo, (void)events;
	call(sig->loop, sig->fn, sig->userdata);
}

int loop_signal_new(
	struct loop *loop, int signo, loop_fn fn, void *userdata, struct loop_signal **ret_signal)
{
	struct loop_signal *sig = calloc(1, sizeof(*sig));

	if (!sig)
		return -ENOMEM;
	sig->loop = loop;
	sig->fn = fn;
	sig->userdata = userdata;
	if (event_assign(&sig->event, loop->base, signo, EV_SIGNAL | EV_PERSIST, on_signal, sig) <
			0 ||
		event_add(&sig->event, NULL) < 0) {
		free(sig);
		return -EINVAL;
	}
	*ret_signal = sig;
	return 0;
}

struct loop_signal *loop_signal_free(struct loop_signal *sig)
{
	if (!sig)
		return NULL;
	event_del(&sig->event);
	free(sig);
	return NULL;
}
