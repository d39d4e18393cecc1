#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "client/lib/link.h"

/* A peer that plays a script on the first connection it gets. */
struct peer {
	char directory[32];
	char path[64];
	int listener;
	pthread_t thread;
	void (*script)(struct peer *peer, int fd);
	bool was_one_piece; /* what the script found out */
};

static void *play(void *userdata)
{
	struct peer *peer = userdata;
	AUTO_CLOSE int fd = accept4(peer->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0)
		peer->script(peer, fd);
	return NULL;
}

static void start(struct peer *peer, void (*script)(struct peer *peer, int fd))
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	*peer = (struct peer){ .directory = "/tmp/test-link-XXXXXX", .script = script };
	assert_non_null(mkdtemp(peer->directory));
	snprintf(peer->path, sizeof(peer->path), "%s/s", peer->directory);
	strcpy(address.sun_path, peer->path);
	peer->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(peer->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(peer->listener, 1), 0);
	assert_int_equal(pthread_create(&peer->thread, NULL, play, peer), 0);
}

static void finish(struct peer *peer)
{
	shutdown(peer->listener, SHUT_RDWR);
	pthread_join(peer->thread, NULL);
	close(peer->listener);
	unlink(peer->path);
	rmdir(peer->directory);
}

static void put(int fd, const void *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		data = (const char *)data + n;
		len -= (size_t)n;
	}
}

static void put_frame(
	int fd, unsigned op, unsigned status, uint32_t tag, const void *payload, size_t len)
{
	struct wire_header header = wire_header_of(len, op, status, tag);

	put(fd, &header, sizeof(header));
	put(fd, payload, len);
}

static void put_hello(int fd, unsigned major)
{
	struct wire_hello_reply hello = { .major = le16_of((uint16_t)major) };

	put_frame(fd, WIRE_HELLO, WIRE_OK, 1, &hello, sizeof(hello));
}

static void wait_for_end(int fd)
{
	char buf[4096];

	while (recv(fd, buf, sizeof(buf), 0) > 0)
		continue;
}

static void connect_to(struct link *link, const struct peer *peer)
{
	assert_int_equal(link_init(link, peer->path), 0);
	assert_int_equal(link_connect(link), 0);
}

static uint32_t send_open(struct link *link, const char *service)
{
	const struct wire_request request = { .service = service, .service_len = strlen(service) };
	uint32_t tag = 0;

	assert_int_equal(link_send(link, WIRE_OPEN, &request, &tag), 0);
	assert_int_not_equal(tag, 0);
	return tag;
}

static int receive(struct link *link, unsigned timeout_ms, struct link_reply *ret_reply)
{
	return link_receive(link, clock_after_usec(timeout_ms * USEC_PER_MSEC), ret_reply);
}

/* --- frames ------------------------------------------------------------------------------ */

static void look_for_one_piece(struct peer *peer, int fd)
{
	char buf[4096];
	ssize_t n = recv(fd, buf, sizeof(buf), 0);
	const size_t hello = sizeof(struct wire_header) + sizeof(struct wire_hello);

	peer->was_one_piece = n == (ssize_t)(hello + 2 * (sizeof(struct wire_header) + 4 + 1));
	put_hello(fd, WIRE_MAJOR);
	/* In the other order, and one that nobody asked for. */
	put_frame(fd, WIRE_OPEN, WIRE_OK, 3, "three", 5);
	put_frame(fd, 99, WIRE_OK, 99, NULL, 0);
	put_frame(fd, WIRE_OPEN, WIRE_DENIED, 2, "two", 3);
	wait_for_end(fd);
}

static void requests_go_out_with_hello_and_replies_are_known_by_their_tags(void **state)
{
	struct peer peer;
	struct link link;
	struct link_reply reply;

	(void)state;
	start(&peer, look_for_one_piece);
	connect_to(&link, &peer);
	assert_int_equal(send_open(&link, "a"), 2);
	assert_int_equal(send_open(&link, "b"), 3);
	assert_false(link_is_greeted(&link));
	assert_int_equal(receive(&link, 5000, &reply), 0);
	assert_true(link_is_greeted(&link));
	assert_int_equal(reply.tag, 3);
	assert_int_equal(reply.status, WIRE_OK);
	assert_int_equal(reply.len, 5);
	assert_memory_equal(reply.payload, "three", 5);
	assert_int_equal(receive(&link, 5000, &reply), 0);
	assert_int_equal(reply.tag, 99);
	assert_int_equal(receive(&link, 5000, &reply), 0);
	assert_int_equal(reply.tag, 2);
	assert_int_equal(link_status_error(reply.status), -EACCES);
	assert_int_equal(link_receive(&link, CLOCK_NO_WAIT, &reply), -ETIMEDOUT);
	link_done(&link);
	finish(&peer);
	assert_true(peer.was_one_piece);
}

static void drip(struct peer *peer, int fd)
{
	static const uint8_t frame[] = { 3, 0, 0, 0, WIRE_OPEN, 0, 0, 0, 2, 0, 0, 0, 'a', 'b',
		'c' };

	(void)peer;
	put_hello(fd, WIRE_MAJOR);
	for (size_t i = 0; i < sizeof(frame); i++) {
		const struct timespec pause = { .tv_nsec = 1000000 };

		put(fd, &frame[i], 1);
		nanosleep(&pause, NULL);
	}
	wait_for_end(fd);
}

static void a_frame_may_come_byte_by_byte(void **state)
{
	struct peer peer;
	struct link link;
	struct link_reply reply;

	(void)state;
	start(&peer, drip);
	connect_to(&link, &peer);
	assert_int_equal(receive(&link, 5000, &reply), 0);
	assert_int_equal(reply.len, 3);
	assert_memory_equal(reply.payload, "abc", 3);
	link_done(&link);
	finish(&peer);
}

#define BIG (3u << 20)

static void send_big(struct peer *peer, int fd)
{
	uint8_t *payload = malloc(BIG);

	(void)peer;
	for (size_t i = 0; i < BIG; i++)
		payload[i] = (uint8_t)(i * 7 >> 3);
	put_hello(fd, WIRE_MAJOR);
	for (uint32_t tag = 1; tag <= 3; tag++)
		put_frame(fd, WIRE_GET, WIRE_OK, tag, payload, BIG - tag);
	free(payload);
	wait_for_end(fd);
}

static void replies_may_be_large_and_the_buffer_goes_when_idle(void **state)
{
	struct peer peer;
	struct link link;
	struct link_reply reply;

	(void)state;
	start(&peer, send_big);
	connect_to(&link, &peer);
	/* The tag of HELLO is 1: the first of the three follows when it is no longer awaited. */
	for (uint32_t tag = 1; tag <= 3; tag++) {
		assert_int_equal(receive(&link, 10000, &reply), 0);
		assert_int_equal(reply.tag, tag);
		assert_int_equal(reply.len, BIG - tag);
		for (size_t i = 0; i < reply.len; i++)
			if (reply.payload[i] != (uint8_t)(i * 7 >> 3))
				fail_msg("byte %zu of reply %u is wrong", i, tag);
	}
	link_trim(&link);
	assert_null(link.in);
	assert_int_equal(link_receive(&link, CLOCK_NO_WAIT, &reply), -ETIMEDOUT);
	link_done(&link);
	finish(&peer);
}

static void lie(struct peer *peer, int fd)
{
	static const uint8_t above_the_limit[] = { 1, 0, 0, 0x40, WIRE_GET, 0, 0, 0, 2, 0, 0, 0 };

	(void)peer;
	put_hello(fd, WIRE_MAJOR);
	put(fd, above_the_limit, sizeof(above_the_limit));
	wait_for_end(fd);
}

static void exaggerate(struct peer *peer, int fd)
{
	static const uint8_t at_the_limit[] = { 0, 0, 0, 0x40, WIRE_GET, 0, 0, 0, 2, 0, 0, 0, 'x' };

	(void)peer;
	put_hello(fd, WIRE_MAJOR);
	put(fd, at_the_limit, sizeof(at_the_limit));
	wait_for_end(fd);
}

static void a_length_that_lies_costs_nothing(void **state)
{
	struct peer peer;
	struct link link;
	struct link_reply reply;

	(void)state;
	start(&peer, lie);
	connect_to(&link, &peer);
	assert_int_equal(receive(&link, 5000, &reply), -EBADMSG);
	link_done(&link);
	finish(&peer);

	start(&peer, exaggerate);
	connect_to(&link, &peer);
	assert_int_equal(receive(&link, 100, &reply), -ETIMEDOUT);
	assert_in_range(link.in_allocated, 1, 1u << 20);
	link_done(&link);
	finish(&peer);
}

/* --- ends -------------------------------------------------------------------------------- */

static void say_nothing(struct peer *peer, int fd)
{
	(void)peer;
	wait_for_end(fd);
}

static void a_deadline_is_kept(void **state)
{
	struct peer peer;
	struct link link;
	struct link_reply reply;
	uint64_t begin, took;

	(void)state;
	start(&peer, say_nothing);
	connect_to(&link, &peer);
	send_open(&link, "a");
	begin = clock_now_usec();
	assert_int_equal(receive(&link, 50, &reply), -ETIMEDOUT);
	took = clock_now_usec() - begin;
	assert_in_range(took, 49000, 2000000);
	begin = clock_now_usec();
	assert_int_equal(link_receive(&link, CLOCK_NO_WAIT, &reply), -ETIMEDOUT);
	assert_in_range(clock_now_usec() - begin, 0, 40000);
	assert_false(link_has_input(&link));
	link_done(&link);
	finish(&peer);
}

static void go_on_for_ever(struct peer *peer, int fd)
{
	static const uint8_t at_the_limit[] = { 0, 0, 0, 0x40, WIRE_GET, 0, 0, 0, 2, 0, 0, 0 };
	static const char more[4096];

	(void)peer;
	put_hello(fd, WIRE_MAJOR);
	put(fd, at_the_limit, sizeof(at_the_limit));
	while (send(fd, more, sizeof(more), MSG_NOSIGNAL) > 0)
		continue;
}

static void a_frame_that_does_not_end_moves_no_deadline(void **state)
{
	const uint64_t past = 1;
	struct peer peer;
	struct link link;
	struct link_reply reply;
	int n_waiting = 0;

	(void)state;
	start(&peer, go_on_for_ever);
	connect_to(&link, &peer);
	for (int i = 0; i < 5000 && n_waiting < 65536; i++) {
		poll(NULL, 0, 1);
		assert_int_equal(ioctl(link.fd, FIONREAD, &n_waiting), 0);
	}
	assert_true(n_waiting >= 65536);
	assert_int_equal(link_receive(&link, past, &reply), -ETIMEDOUT);
	assert_in_range(link.in_end, 1, 16384);
	link_done(&link);
	finish(&peer);
}

static void break_off(struct peer *peer, int fd)
{
	(void)peer;
	put_hello(fd, WIRE_MAJOR);
	put(fd, "half a fr", 9);
}

static void a_daemon_that_goes_is_noticed(void **state)
{
	struct peer peer;
	struct link link;
	struct link_reply reply;

	(void)state;
	start(&peer, break_off);
	connect_to(&link, &peer);
	assert_int_equal(receive(&link, 5000, &reply), -ECONNRESET);
	assert_true(link_has_input(&link));
	link_done(&link);
	finish(&peer);
}

static void without_a_daemon_there_is_no_link(void **state)
{
	struct peer peer;
	struct link link;

	(void)state;
	start(&peer, say_nothing);
	finish(&peer);
	assert_int_equal(link_init(&link, peer.path), 0);
	assert_int_equal(link_connect(&link), -ENOENT);
	assert_false(link_is_up(&link));
	link_done(&link);
	link_done(&link);
}

static void greet_as_another(struct peer *peer, int fd)
{
	(void)peer;
	put_hello(fd, WIRE_MAJOR + 1);
	wait_for_end(fd);
}

static void refuse(struct peer *peer, int fd)
{
	(void)peer;
	put_frame(fd, WIRE_HELLO, WIRE_LIMIT, 1, "enough", 6);
	wait_for_end(fd);
}

/* As a daemon does that has too many clients: before it has read anything, so without our tag. */
static void refuse_and_close(struct peer *peer, int fd)
{
	(void)peer;
	put_frame(fd, WIRE_HELLO, WIRE_LIMIT, 0, "too many", 8);
}

static void a_refusal_is_read_even_when_the_connection_is_closed(void **state)
{
	struct peer peer;
	struct link link;
	struct link_reply reply;

	(void)state;
	start(&peer, refuse_and_close);
	connect_to(&link, &peer);
	pthread_join(peer.thread, NULL);
	send_open(&link, "a");
	assert_int_equal(receive(&link, 5000, &reply), -ENOBUFS);
	assert_string_equal(link.refusal, "too many");
	link_done(&link);
	close(peer.listener);
	unlink(peer.path);
	rmdir(peer.directory);
}

static void greet_briefly(struct peer *peer, int fd)
{
	(void)peer;
	put_frame(fd, WIRE_HELLO, WIRE_OK, 1, "", 1);
	wait_for_end(fd);
}

static void a_greeting_is_judged(void **state)
{
	static const struct {
		void (*script)(struct peer *peer, int fd);
		int error;
	} cases[] = {
		{ greet_as_another, -EPROTONOSUPPORT },
		{ refuse, -ENOBUFS },
		{ greet_briefly, -EBADMSG },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct peer peer;
		struct link link;
		struct link_reply reply;

		start(&peer, cases[i].script);
		connect_to(&link, &peer);
		assert_int_equal(receive(&link, 5000, &reply), cases[i].error);
		assert_false(link_is_greeted(&link));
		link_done(&link);
		finish(&peer);
	}
}

/* --- somebody else's process ------------------------------------------------------------- */

static void greet(struct peer *peer, int fd)
{
	(void)peer;
	put_hello(fd, WIRE_MAJOR);
	wait_for_end(fd);
}

static void a_descriptor_taken_by_others_is_left_alone(void **state)
{
	struct peer peer;
	struct link link;
	struct link_reply reply;
	int pair[2];
	char c;

	(void)state;
	start(&peer, greet);
	connect_to(&link, &peer);
	assert_int_equal(receive(&link, 50, &reply), -ETIMEDOUT);
	assert_true(link_is_greeted(&link));

	/* The program closes it and gets the number for a socket of its own, quiet as ours. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(dup3(pair[0], link.fd, O_CLOEXEC), link.fd);
	close(pair[0]);
	pair[0] = link.fd;
	link.checked_at = 0;
	assert_true(link_has_input(&link));
	send_open(&link, "secret");
	assert_int_equal(link_flush(&link), -ENOTCONN);
	assert_int_equal(receive(&link, 50, &reply), -ENOTCONN);
	link_close(&link);
	assert_int_equal(recv(pair[1], &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(send(pair[0], "x", 1, 0), 1);

	/* Only closed. */
	link_done(&link);
	close(pair[0]);
	close(pair[1]);
	finish(&peer);
	start(&peer, greet);
	connect_to(&link, &peer);
	close(link.fd);
	assert_true(link_has_input(&link));
	assert_int_equal(receive(&link, 50, &reply), -ENOTCONN);
	link_done(&link);
	finish(&peer);
}

static void a_descriptor_is_above_the_standard_streams(void **state)
{
	int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
	struct peer peer;
	struct link link;

	(void)state;
	start(&peer, greet);
	close(STDIN_FILENO);
	connect_to(&link, &peer);
	assert_in_range(link.fd, 3, 1000);
	assert_int_equal(fcntl(link.fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1);
	link_done(&link);
	if (saved >= 0)
		assert_int_equal(dup2(saved, STDIN_FILENO), STDIN_FILENO);
	close(saved);
	finish(&peer);
}

static void on_alarm(int signo)
{
	(void)signo;
}

static void a_signal_ends_a_wait(void **state)
{
	const struct itimerval soon = { .it_value.tv_usec = 20000 };
	const struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	sigset_t alarm_only, old;
	struct peer peer;
	struct link link;
	struct link_reply reply;

	(void)state;
	/* Only for this thread. */
	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm_only, &old);
	start(&peer, greet);
	connect_to(&link, &peer);
	sigaction(SIGALRM, &action, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
	assert_int_equal(link_receive(&link, CLOCK_FOREVER, &reply), -EINTR);
	assert_int_equal(receive(&link, 20, &reply), -ETIMEDOUT);
	assert_true(link_is_greeted(&link));
	link_done(&link);
	finish(&peer);
}

static void the_path_comes_from_caller_environment_or_default(void **state)
{
	char path[200];
	struct link link;

	(void)state;
	unsetenv(LINK_ENVIRONMENT);
	assert_int_equal(link_init(&link, NULL), 0);
	assert_string_equal(link_path(&link), LINK_DEFAULT_PATH);
	setenv(LINK_ENVIRONMENT, "/tmp/env", 1);
	assert_int_equal(link_init(&link, NULL), 0);
	assert_string_equal(link_path(&link), "/tmp/env");
	assert_int_equal(link_init(&link, "/tmp/given"), 0);
	assert_string_equal(link_path(&link), "/tmp/given");
	setenv(LINK_ENVIRONMENT, "", 1);
	assert_int_equal(link_init(&link, NULL), 0);
	assert_string_equal(link_path(&link), LINK_DEFAULT_PATH);
	unsetenv(LINK_ENVIRONMENT);

	memset(path, 'x', sizeof(path));
	path[108] = '\0';
	assert_int_equal(link_init(&link, path), -ENAMETOOLONG);
	path[107] = '\0';
	assert_int_equal(link_init(&link, path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_go_out_with_hello_and_replies_are_known_by_their_tags),
		cmocka_unit_test(a_frame_may_come_byte_by_byte),
		cmocka_unit_test(replies_may_be_large_and_the_buffer_goes_when_idle),
		cmocka_unit_test(a_length_that_lies_costs_nothing),
		cmocka_unit_test(a_deadline_is_kept),
		cmocka_unit_test(a_frame_that_does_not_end_moves_no_deadline),
		cmocka_unit_test(a_daemon_that_goes_is_noticed),
		cmocka_unit_test(without_a_daemon_there_is_no_link),
		cmocka_unit_test(a_greeting_is_judged),
		cmocka_unit_test(a_refusal_is_read_even_when_the_connection_is_closed),
		cmocka_unit_test(a_descriptor_taken_by_others_is_left_alone),
		cmocka_unit_test(a_descriptor_is_above_the_standard_streams),
		cmocka_unit_test(a_signal_ends_a_wait),
		cmocka_unit_test(the_path_comes_from_caller_environment_or_default),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
