#include "test.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/guard.h"
#include "daemon/loop.h"
#include "proto/limits.h"

#define DEADLINE_USEC (20 * USEC_PER_SEC)

struct fixture {
	struct loop *loop;
	struct loop_timer *tick;
	struct guard *guard;
};

/*
 * A TCP connection whose last close takes seconds: unsent data, a peer that does not read, and
 * SO_LINGER. The peer's ends are kept in fds.
 */
static int lingering(int fds[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct linger linger = { .l_onoff = 1, .l_linger = 20 };
	socklen_t len = sizeof(address);
	char data[65536] = { 0 };
	int fd;

	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_true(fds[0] >= 0 && fd >= 0);
	assert_int_equal(bind(fds[0], (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fds[0], 1), 0);
	assert_int_equal(getsockname(fds[0], (struct sockaddr *)&address, &len), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	fds[1] = accept(fds[0], NULL, NULL);
	assert_true(fds[1] >= 0);
	while (send(fd, data, sizeof(data), MSG_DONTWAIT) > 0)
		continue;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	return fd;
}

static int send_descriptor(int through, int fd, int flags)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (char[]){ 'x' }, 1 };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(through, &message, MSG_NOSIGNAL | flags) < 0 ? -errno : 0;
}

static void connected(int ends[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	/* As an accepted one whose peer came before the kernel could be told to refuse. */
	assert_false(guard_is_safe(ends[0]));
}

static void on_tick(void *userdata)
{
	struct fixture *f = userdata;

	loop_stop(f->loop);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(loop_timer_new(f->loop, on_tick, f, &f->tick), 0);
	assert_int_equal(guard_new(f->loop, &f->guard), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	guard_free(f->guard);
	loop_timer_free(f->tick);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void until_all_is_closed(struct fixture *f)
{
	uint64_t until = loop_now() + DEADLINE_USEC;

	while (guard_count_unclosed(f->guard) > 0) {
		assert_true(loop_now() < until);
		loop_timer_arm(f->tick, USEC_PER_MSEC);
		assert_int_equal(loop_run(f->loop), 0);
	}
}

static unsigned count_open(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(directory);
	while (readdir(directory))
		n++;
	closedir(directory);
	return n;
}

static void plain_bytes_pass(void **state)
{
	char data[8];
	int ends[2];

	(void)state;
	connected(ends);
	assert_int_equal(guard_receive(ends[0], data, sizeof(data)), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(send(ends[1], "hello", 5, 0), 5);
	assert_int_equal(guard_receive(ends[0], data, sizeof(data)), 5);
	assert_memory_equal(data, "hello", 5);
	close(ends[1]);
	assert_int_equal(guard_receive(ends[0], data, sizeof(data)), 0);
	close(ends[0]);
}

/* On kernels that cannot refuse them there is nothing to show. */
static void a_guarded_listener_takes_no_descriptors_from_who_comes_later(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "" };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), clients[2];
	socklen_t len = sizeof(sa_family_t);

	(void)state;
	/* An address of no file that the kernel chooses. */
	assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
	len = sizeof(address);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(listen(listener, 2), 0);
	for (unsigned i = 0; i < 2; i++) {
		bool refuses = i == 1 && guard_socket(listener);
		int fd;

		clients[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_int_equal(connect(clients[i], (struct sockaddr *)&address, len), 0);
		if (i == 0)
			(void)guard_socket(listener);
		fd = accept(listener, NULL, NULL);
		assert_int_equal(guard_is_safe(fd), refuses);
		assert_int_equal(send_descriptor(clients[i], 0, 0), refuses ? -EPERM : 0);
		close(fd);
		close(clients[i]);
	}
	close(listener);
}

static void descriptors_are_seen_and_never_received(void **state)
{
	unsigned n_open;
	char data[8];
	int ends[2];

	(void)state;
	connected(ends);
	assert_int_equal(send(ends[1], "hello", 5, 0), 5);
	assert_int_equal(send_descriptor(ends[1], 0, 0), 0);
	n_open = count_open();
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(guard_receive(ends[0], data, sizeof(data)), -1);
		assert_int_equal(errno, EPROTO);
	}
	assert_int_equal(count_open(), n_open);
	close(ends[0]);
	close(ends[1]);
}

/* A look leaves such a byte out unless told otherwise, and what is taken next throws it away. */
static void a_descriptor_out_of_band_is_seen(void **state)
{
	char data[8];
	int ends[2];

	(void)state;
	connected(ends);
	assert_int_equal(send_descriptor(ends[1], 0, MSG_OOB), 0);
	assert_int_equal(send(ends[1], "hello", 5, 0), 5);
	assert_int_equal(guard_receive(ends[0], data, sizeof(data)), -1);
	assert_int_equal(errno, EPROTO);
	close(ends[0]);
	close(ends[1]);
}

/* A socket unit with PassCredentials=yes. */
static void credentials_are_no_descriptors(void **state)
{
	static const int on = 1;
	char data[8];
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
	assert_false(guard_is_safe(ends[0]));
	assert_int_equal(send(ends[1], "hello", 5, 0), 5);
	assert_int_equal(guard_receive(ends[0], data, sizeof(data)), 5);
	close(ends[0]);
	close(ends[1]);
}

/* Without a thread: who is refused or too slow waits for nobody. */
static void a_socket_with_unread_bytes_is_closed_at_once(void **state)
{
	struct fixture *f = *state;
	char data[8];
	int ends[2];

	connected(ends);
	assert_int_equal(send(ends[1], "hello", 5, 0), 5);
	assert_int_equal(send(ends[1], "!", 1, MSG_OOB), 1);
	assert_int_equal(send(ends[1], "hello", 5, 0), 5);
	guard_close(f->guard, ends[0]);
	assert_int_equal(guard_count_unclosed(f->guard), 0);
	assert_int_equal(recv(ends[1], data, sizeof(data), 0), 0);
	close(ends[1]);
}

/* Each would take 20 seconds, one after the other. */
static void descriptors_that_linger_stall_nobody(void **state)
{
	struct fixture *f = *state;
	int ends[3][2], fds[9][2];
	uint64_t begin;
	char data[8];

	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		int fd = lingering(fds[i]);

		if (i % 3 == 0)
			connected(ends[i / 3]);
		assert_int_equal(send_descriptor(ends[i / 3][1], fd, 0), 0);
		/* Not the last one: that is in the queue. */
		close(fd);
	}
	begin = loop_now();
	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
		assert_int_equal(guard_receive(ends[i][0], data, sizeof(data)), -1);
		assert_int_equal(errno, EPROTO);
		guard_close(f->guard, ends[i][0]);
		assert_int_equal(guard_count_unclosed_of(f->guard, getuid()), i + 1);
		/* The other end hears of it now; what it sent is unread when the thread was quick.
		 */
		if (recv(ends[i][1], data, sizeof(data), MSG_DONTWAIT) != 0)
			assert_int_equal(errno, ECONNRESET);
	}
	assert_true(loop_now() - begin < USEC_PER_SEC);
	until_all_is_closed(f);
	assert_int_equal(guard_count_unclosed_of(f->guard, getuid()), 0);
	assert_true(loop_now() - begin < 5 * USEC_PER_SEC);
	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++)
		close(ends[i][1]);
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
}

static void a_guard_is_freed_while_its_thread_works(void **state)
{
	struct fixture *f = *state;
	int ends[2], fds[2], fd = lingering(fds);
	uint64_t begin = loop_now();

	connected(ends);
	assert_int_equal(send_descriptor(ends[1], fd, 0), 0);
	close(fd);
	guard_close(f->guard, ends[0]);
	f->guard = guard_free(f->guard);
	assert_true(loop_now() - begin < USEC_PER_SEC);
	close(ends[1]);
	close(fds[0]);
	close(fds[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(plain_bytes_pass),
		TEST(a_guarded_listener_takes_no_descriptors_from_who_comes_later),
		TEST(descriptors_are_seen_and_never_received),
		TEST(a_descriptor_out_of_band_is_seen),
		TEST(credentials_are_no_descriptors),
		TEST(a_socket_with_unread_bytes_is_closed_at_once),
		TEST(descriptors_that_linger_stall_nobody),
		TEST(a_guard_is_freed_while_its_thread_works),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
