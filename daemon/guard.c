#include "daemon/guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>

#include "proto/limits.h"

#include "daemon/list.h"
#include "daemon/loop.h"

#if !defined(__sparc__) && !defined(__hppa__)
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#endif
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define GUARD_SIGNAL SIGURG /* is ignored unless asked for: who sends us one does no harm */
#define GUARD_STACK (64u << 10)

struct unclosed {
	struct unclosed *next;
	int fd;
};

/* Sockets of one user. */
struct lane {
	struct list link; /* guard::lanes */
	uid_t uid;
	struct unclosed *waiting;
	unsigned n; /* with those that the thread has */
	unsigned n_running; /* the thread has */
};

struct guard {
	struct list lanes;
	unsigned n, n_threads;
	int closed[2]; /* a pipe: a user's number per closed socket */
	struct loop_io *io;
};

/* What a thread owns. */
struct job {
	struct unclosed *sockets;
	uid_t uid;
	int closed;
};

/* --- a thread ---------------------------------------------------------------------------- */

static void on_signal(int signo)
{
	(void)signo;
}

/* What waits for a socket to linger gives up when its thread has a signal. */
static bool start_signals(timer_t *ret_timer)
{
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = GUARD_SIGNAL,
		.sigev_notify_thread_id = gettid(),
	};
	const struct timespec often = { .tv_nsec = LIMIT_LINGER_USEC * NSEC_PER_USEC };
	const struct itimerspec time = { often, often };

	if (timer_create(CLOCK_MONOTONIC, &event, ret_timer) < 0)
		return false;
	(void)timer_settime(*ret_timer, 0, &time, NULL);
	return true;
}

static void *run(void *userdata)
{
	struct job job = *(struct job *)userdata;
	bool has_timer;
	timer_t timer;

	free(userdata);
	pthread_setname_np(pthread_self(), "guard");
	has_timer = start_signals(&timer);
	while (job.sockets) {
		struct unclosed *unclosed = job.sockets;

		job.sockets = unclosed->next;
		close(unclosed->fd);
		free(unclosed);
		while (write(job.closed, &job.uid, sizeof(job.uid)) < 0 && errno == EINTR)
			continue;
	}
	close(job.closed);
	if (has_timer)
		timer_delete(timer);
	return NULL;
}

static int start_thread(struct job *job)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t mask, old;
	int r;

	r = pthread_attr_init(&attr);
	if (r != 0)
		return -r;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, MAX((size_t)GUARD_STACK, (size_t)PTHREAD_STACK_MIN));
	/* All others are the loop's. */
	sigfillset(&mask);
	sigdelset(&mask, GUARD_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &mask, &old);
	r = pthread_create(&thread, &attr, run, job);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

/* --- the loop ---------------------------------------------------------------------------- */

static struct lane *find_lane(const struct guard *guard, uid_t uid)
{
	LIST_FOREACH (node, &guard->lanes) {
		struct lane *lane = LIST_ENTRY(node, struct lane, link);

		if (lane->uid == uid)
			return lane;
	}
	return NULL;
}

static struct lane *add_lane(struct guard *guard, uid_t uid)
{
	struct lane *lane = calloc(1, sizeof(*lane));

	if (!lane)
		return NULL;
	lane->uid = uid;
	list_append(&guard->lanes, &lane->link);
	return lane;
}

static struct lane *free_lane(struct lane *lane)
{
	while (lane->waiting) {
		struct unclosed *unclosed = lane->waiting;

		lane->waiting = unclosed->next;
		free(unclosed);
	}
	list_unlink(&lane->link);
	free(lane);
	return NULL;
}

/* Hands what waits to a thread. What cannot be handed on now stays for the next attempt. */
static void start(struct guard *guard, struct lane *lane)
{
	struct job *job;

	if (lane->n_running > 0 || !lane->waiting || guard->n_threads >= LIMIT_GUARD_THREADS)
		return;
	job = calloc(1, sizeof(*job));
	if (!job)
		return;
	*job = (struct job){
		.sockets = lane->waiting,
		.uid = lane->uid,
		.closed = fcntl(guard->closed[1], F_DUPFD_CLOEXEC, 0),
	};
	if (job->closed < 0 || start_thread(job) < 0) {
		std_closep(&job->closed);
		free(job);
		return;
	}
	guard->n_threads++;
	lane->waiting = NULL;
	lane->n_running = lane->n;
}

static void start_all(struct guard *guard)
{
	LIST_FOREACH (node, &guard->lanes)
		start(guard, LIST_ENTRY(node, struct lane, link));
}

static void keep(struct guard *guard, int fd)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);
	struct unclosed *unclosed = malloc(sizeof(*unclosed));
	struct lane *lane;

	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	lane = find_lane(guard, peer.uid);
	if (!lane)
		lane = add_lane(guard, peer.uid);
	/* A descriptor that is lost costs less than a loop that stands still. */
	if (!unclosed || !lane) {
		free(unclosed);
		return;
	}
	*unclosed = (struct unclosed){ lane->waiting, fd };
	lane->waiting = unclosed;
	lane->n++;
	guard->n++;
	start_all(guard);
}

static void on_closed(unsigned events, void *userdata)
{
	struct guard *guard = userdata;
	uid_t uids[64];
	ssize_t n = read(guard->closed[0], uids, sizeof(uids));

	(void)events;
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(uids[0]); i++) {
		struct lane *lane = find_lane(guard, uids[i]);

		guard->n--;
		lane->n--;
		lane->n_running--;
		if (lane->n_running == 0)
			guard->n_threads--;
		if (lane->n == 0)
			free_lane(lane);
	}
	start_all(guard);
}

static int guard_init(struct guard *guard, struct loop *loop)
{
	const struct sigaction action = { .sa_handler = on_signal };
	int r;

	if (pipe2(guard->closed, O_CLOEXEC) < 0 || sigaction(GUARD_SIGNAL, &action, NULL) < 0)
		return -errno;
	r = loop_io_new(loop, guard->closed[0], on_closed, guard, &guard->io);
	return r < 0 ? r : loop_io_want(guard->io, LOOP_READ);
}

int guard_new(struct loop *loop, struct guard **ret_guard)
{
	struct guard *guard = calloc(1, sizeof(*guard));
	int r;

	if (!guard)
		return -ENOMEM;
	guard->closed[0] = guard->closed[1] = -1;
	list_init(&guard->lanes);
	r = guard_init(guard, loop);
	if (r < 0) {
		guard_free(guard);
		return r;
	}
	*ret_guard = guard;
	return 0;
}

struct guard *guard_free(struct guard *guard)
{
	if (!guard)
		return NULL;
	while (!list_is_empty(&guard->lanes))
		free_lane(LIST_ENTRY(guard->lanes.next, struct lane, link));
	loop_io_free(guard->io);
	std_closep(&guard->closed[0]);
	std_closep(&guard->closed[1]);
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

/* So that guard_receive() sees what there is, and nothing else. */
static void prepare(int fd)
{
	/* These would look like descriptors; a socket unit may have asked for them. */
	static const int others[] = {
		SO_PASSCRED,
		SO_PASSSEC,
#ifdef SO_PASSPIDFD
		SO_PASSPIDFD,
#endif
	};
	static const int on = 1, off;

	/* Bytes out of band would be left out of a look, and thrown away by what follows it. */
	(void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
		(void)setsockopt(fd, SOL_SOCKET, others[i], &off, sizeof(off));
}

bool guard_is_safe(int fd)
{
#ifdef SO_PASSRIGHTS
	socklen_t len = sizeof(int);
	int passes;

	/* A socket has this from its listener, as it was when the peer connected. */
	if (getsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &passes, &len) == 0 && !passes)
		return true;
#endif
	prepare(fd);
	return false;
}

ssize_t guard_receive(int fd, void *data, size_t size)
{
	struct iovec iov = { data, size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);

	if (n <= 0)
		return n;
	if (message.msg_flags & MSG_CTRUNC) {
		errno = EPROTO;
		return -1;
	}
	/* No more than was looked at: what comes behind it may have descriptors. */
	return recv(fd, data, (size_t)n, MSG_DONTWAIT);
}

/* Of a socket into which nothing more comes. */
static bool can_empty(int fd)
{
	char data[16384];
	ssize_t n;

	do
		n = guard_receive(fd, data, sizeof(data));
	while (n > 0 || (n < 0 && errno == EINTR));
	return n == 0 || errno == ECONNRESET;
}

void guard_close(struct guard *guard, int fd)
{
	prepare(fd);
	if (shutdown(fd, SHUT_RD) == 0 && can_empty(fd)) {
		close(fd);
		return;
	}
	(void)shutdown(fd, SHUT_RDWR);
	keep(guard, fd);
}

unsigned guard_count_unclosed_of(const struct guard *guard, uid_t uid)
{
	const struct lane *lane = guard->n > 0 ? find_lane(guard, uid) : NULL;

	return lane ? lane->n : 0;
}

unsigned guard_count_unclosed(const struct guard *guard)
{
	return guard->n;
}
