#include "daemon/guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <sys/socket.h>

#if !defined(SO_PASSRIGHTS) && !defined(__sparc__) && !defined(__hppa__)
#define SO_PASSRIGHTS 83
#endif

#define GUARD_MAX_FDS 253 /* SCM_MAX_FD: what one message can carry */
#define GUARD_MAX_DRAIN 4096 /* messages; a socket's buffer holds fewer */
#define GUARD_STACK (64u << 10)

struct guard {
	int queue; /* descriptors as ints, to the thread; -1: there is none yet */
};

struct control {
	alignas(struct cmsghdr) char bytes[CMSG_SPACE(GUARD_MAX_FDS * sizeof(int))];
};

typedef void (*guard_fd_fn)(struct guard *guard, int fd);

/* Calls fn for each descriptor of a message. Whether there were any. */
static bool take_fds(struct msghdr *message, guard_fd_fn fn, struct guard *guard)
{
	bool had_fds = message->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			fn(guard, fd);
			had_fds = true;
		}
	}
	return had_fds;
}

static ssize_t receive(
	int fd, void *data, size_t size, struct control *control, struct msghdr *ret_message)
{
	struct iovec iov = { data, size };
	ssize_t n;

	*ret_message = (struct msghdr){
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control->bytes,
		.msg_controllen = sizeof(control->bytes),
	};
	n = recvmsg(fd, ret_message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	ret_message->msg_iov = NULL;
	return n;
}

/* On the thread. What cannot be told not to linger is waited for here. */
static void close_received(struct guard *guard, int fd)
{
	static const struct linger none;

	(void)guard;
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close(fd);
}

/* On the thread. */
static void drain_and_close(int fd)
{
	struct control control;
	struct msghdr message;
	char data[4096];

	for (unsigned i = 0; i < GUARD_MAX_DRAIN; i++) {
		if (receive(fd, data, sizeof(data), &control, &message) <= 0)
			break;
		take_fds(&message, close_received, NULL);
	}
	close_received(NULL, fd);
}

static void *run(void *queue)
{
	int in = (int)(intptr_t)queue, fd;

	while (read(in, &fd, sizeof(fd)) == (ssize_t)sizeof(fd))
		drain_and_close(fd);
	close(in);
	return NULL;
}

static int start_thread(int queue)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	int r;

	r = pthread_attr_init(&attr);
	if (r != 0)
		return -r;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, MAX((size_t)GUARD_STACK, (size_t)PTHREAD_STACK_MIN));
	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = pthread_create(&thread, &attr, run, (void *)(intptr_t)queue);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

static int guard_start(struct guard *guard)
{
	int ends[2], r;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	if (fcntl(ends[1], F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	else
		r = start_thread(ends[0]);
	if (r < 0) {
		close(ends[0]);
		close(ends[1]);
		return r;
	}
	guard->queue = ends[1];
	return 0;
}

int guard_new(struct guard **ret_guard)
{
	struct guard *guard = calloc(1, sizeof(*guard));

	if (!guard)
		return -ENOMEM;
	guard->queue = -1;
	*ret_guard = guard;
	return 0;
}

struct guard *guard_free(struct guard *guard)
{
	if (!guard)
		return NULL;
	std_closep(&guard->queue);
	free(guard);
	return NULL;
}

bool guard_socket(int fd)
{
#ifdef SO_PASSRIGHTS
	static const int off;

	return setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off)) == 0;
#else
	(void)fd;
	return false;
#endif
}

ssize_t guard_receive(struct guard *guard, int fd, void *data, size_t size)
{
	struct control control;
	struct msghdr message;
	ssize_t n = receive(fd, data, size, &control, &message);

	if (n >= 0 && take_fds(&message, guard_close, guard)) {
		errno = EPROTO;
		return -1;
	}
	return n;
}

void guard_close(struct guard *guard, int fd)
{
	if (guard->queue < 0 && guard_start(guard) < 0) {
		close(fd);
		return;
	}
	/* Thousands wait already: a stall now and then is better than to run out of descriptors. */
	if (write(guard->queue, &fd, sizeof(fd)) != (ssize_t)sizeof(fd))
		close(fd);
}
