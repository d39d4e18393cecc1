#include "test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "daemon/guard.h"
#include "daemon/loop.h"

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

static int send_descriptor(int through, int fd)
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
	return sendmsg(through, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void connected(int ends[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
}

static void plain_bytes_pass(void **state)
{
	struct guard *guard;
	char data[8];
	int ends[2];

	(void)state;
	assert_int_equal(guard_new(&guard), 0);
	connected(ends);
	assert_int_equal(guard_receive(guard, ends[0], data, sizeof(data)), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(send(ends[1], "hello", 5, 0), 5);
	assert_int_equal(guard_receive(guard, ends[0], data, sizeof(data)), 5);
	assert_memory_equal(data, "hello", 5);
	close(ends[1]);
	assert_int_equal(guard_receive(guard, ends[0], data, sizeof(data)), 0);
	close(ends[0]);
	guard_free(guard);
}

static void a_guarded_socket_takes_no_descriptors(void **state)
{
	int ends[2];

	(void)state;
	connected(ends);
	if (guard_socket(ends[0]))
		assert_int_equal(send_descriptor(ends[1], 0), -EPERM);
	close(ends[0]);
	close(ends[1]);
}

/* Whether reading one, throwing away a queue of them, or freeing the guard: nothing waits. */
static void descriptors_that_linger_stall_nobody(void **state)
{
	struct guard *guard;
	int ends[2], fds[3][2];
	uint64_t begin;
	char data[8];

	(void)state;
	assert_int_equal(guard_new(&guard), 0);
	connected(ends);
	for (unsigned i = 0; i < 3; i++) {
		int fd = lingering(fds[i]);

		assert_int_equal(send_descriptor(ends[1], fd), 0);
		/* Not the last one: that is in the queue. */
		close(fd);
	}
	begin = loop_now();
	assert_int_equal(guard_receive(guard, ends[0], data, sizeof(data)), -1);
	assert_int_equal(errno, EPROTO);
	guard_close(guard, ends[0]);
	guard_free(guard);
	assert_true(loop_now() - begin < USEC_PER_SEC);
	/* The thread has closed everything when the other end sees it, and was not held up either.
	 */
	assert_int_equal(recv(ends[1], data, sizeof(data), 0), 0);
	assert_true(loop_now() - begin < 5 * USEC_PER_SEC);
	close(ends[1]);
	for (unsigned i = 0; i < 3; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_bytes_pass),
		cmocka_unit_test(a_guarded_socket_takes_no_descriptors),
		cmocka_unit_test(descriptors_that_linger_stall_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
