#include "client/lib/events.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

static int add(int epoll_fd, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static bool is_own(const struct events *e, int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == e->dev && st.st_ino == e->ino;
}

int events_open(struct events *e)
{
	struct stat st;
	int r;

	e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	e->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	e->news_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	r = e->epoll_fd < 0 || e->timer_fd < 0 || e->news_fd < 0 ? -errno : 0;
	/* One inode stands for all descriptors of these kinds. */
	if (fstat(MAX(MAX(e->epoll_fd, e->timer_fd), e->news_fd), &st) == 0) {
		e->dev = st.st_dev;
		e->ino = st.st_ino;
	}
	if (r == 0)
		r = add(e->epoll_fd, e->timer_fd);
	if (r == 0)
		r = add(e->epoll_fd, e->news_fd);
	if (r < 0)
		events_close(e);
	return r;
}

void events_close(struct events *e)
{
	const int fds[] = { e->news_fd, e->timer_fd, e->epoll_fd };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (is_own(e, fds[i]))
			close(fds[i]);
	*e = EVENTS_NONE;
}

bool events_are_open(struct events *e)
{
	if (is_own(e, e->epoll_fd) && is_own(e, e->timer_fd) && is_own(e, e->news_fd))
		return true;
	events_close(e);
	return false;
}

void events_wake_at(struct events *e, uint64_t at)
{
	struct itimerspec when = { 0 };

	if (e->epoll_fd < 0)
		return;
	/* Zeros would disarm it: the past is one nanosecond past the beginning. */
	if (at != UINT64_MAX) {
		when.it_value.tv_sec = (time_t)(at / USEC_PER_SEC);
		when.it_value.tv_nsec = (long)(at % USEC_PER_SEC * NSEC_PER_USEC) + 1;
	}
	(void)timerfd_settime(e->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void events_set_news(struct events *e, bool has_news)
{
	uint64_t one = 1;
	ssize_t n;

	if (!events_are_open(e))
		return;
	if (has_news)
		n = write(e->news_fd, &one, sizeof(one));
	else
		n = read(e->news_fd, &one, sizeof(one));
	(void)n; /* full or empty already */
}
