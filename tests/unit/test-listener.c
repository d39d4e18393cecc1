#include "session-fixture.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "daemon/listener.h"

struct place {
	struct fixture *f;
	char directory[64];
	char path[96];
	struct sockaddr_un address;
};

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	void *fixture;

	assert_non_null(place);
	assert_int_equal(fixture_set_up(&fixture), 0);
	place->f = fixture;
	strcpy(place->directory, "/tmp/test-listener-XXXXXX");
	assert_non_null(mkdtemp(place->directory));
	snprintf(place->path, sizeof(place->path), "%s/socket", place->directory);
	place->address.sun_family = AF_UNIX;
	memcpy(place->address.sun_path, place->path, sizeof(place->path));
	place->f->config.socket_path = place->path;
	place->f->config.runtime_directory = place->directory;
	place->f->config.socket_mode = 0640;
	*state = place;
	return 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;
	char lock[96];

	snprintf(lock, sizeof(lock), "%s/lock", place->directory);
	unlink(lock);
	unlink(place->path);
	assert_int_equal(rmdir(place->directory), 0);
	fixture_tear_down((void **)&place->f);
	free(place);
	return 0;
}

static struct listener *bind_listener(struct place *place)
{
	struct listener *listener;
	char *message;
	int r = listener_bind(place->f->server, &place->f->config, &listener, &message);

	if (r < 0)
		fail_msg("%d: %s", r, message);
	return listener;
}

static void expect_refusal(struct place *place, int error, const char *part)
{
	struct listener *listener;
	char *message;

	assert_int_equal(
		listener_bind(place->f->server, &place->f->config, &listener, &message), error);
	assert_non_null(message);
	if (!strstr(message, part))
		fail_msg("\"%s\" does not contain \"%s\"", message, part);
	free(message);
}

/* A socket of the test's own at the path; listens when asked to. */
static int occupy(struct place *place, bool listens)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&place->address, sizeof(place->address)), 0);
	if (listens)
		assert_int_equal(listen(fd, 5), 0);
	return fd;
}

static struct client *connect_client(struct place *place)
{
	struct client *client = calloc(1, sizeof(*client));

	assert_non_null(client);
	client->f = place->f;
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(client->fd >= 0);
	assert_int_equal(
		connect(client->fd, (struct sockaddr *)&place->address, sizeof(place->address)), 0);
	return client;
}

static uint32_t say_hello(struct client *client)
{
	struct wire_request hello = { .min_major = 1, .max_major = 1 };

	return client_request(client, WIRE_HELLO, &hello);
}

static void clients_connect_and_the_socket_goes_at_the_end(void **state)
{
	struct place *place = *state;
	struct listener *listener = bind_listener(place);
	struct client *client = connect_client(place);
	struct stat st;

	assert_int_equal(lstat(place->path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0640);
	client_expect(client, say_hello(client), WIRE_OK);
	listener_free(listener);
	assert_int_equal(lstat(place->path, &st), -1);
	/* Who is connected stays. */
	client_expect(client, client_status(client, WIRE_STATUS_DAEMON, ""), WIRE_OK);
	client_free(client);
}

static void many_clients_are_taken_in_several_turns(void **state)
{
	struct place *place = *state;
	struct listener *listener = bind_listener(place);
	enum { N = 3 * LIMIT_ACCEPT_BATCH };
	static struct client *clients[N];

	for (unsigned i = 0; i < N; i++)
		clients[i] = connect_client(place);
	fixture_turn(place->f, 2);
	assert_true(place->f->server->n_sessions <= 2 * LIMIT_ACCEPT_BATCH);
	for (unsigned i = 0; i < N; i++)
		client_expect(clients[i], say_hello(clients[i]), WIRE_OK);
	for (unsigned i = 0; i < N; i++)
		client_free(clients[i]);
	listener_free(listener);
}

static void a_dead_socket_is_replaced(void **state)
{
	struct place *place = *state;
	struct listener *listener;
	struct client *client;

	close(occupy(place, true));
	listener = bind_listener(place);
	client = connect_client(place);
	client_expect(client, say_hello(client), WIRE_OK);
	client_free(client);
	listener_free(listener);
}

static void a_live_socket_is_left_alone(void **state)
{
	struct place *place = *state;
	int fd = occupy(place, true);
	struct stat before, after;

	assert_int_equal(lstat(place->path, &before), 0);
	expect_refusal(place, -EADDRINUSE, "in use by a running daemon");
	assert_int_equal(lstat(place->path, &after), 0);
	assert_true(before.st_ino == after.st_ino);
	close(fd);
}

static void a_file_is_never_deleted(void **state)
{
	struct place *place = *state;
	int fd = open(place->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	struct stat st;

	assert_true(fd >= 0);
	close(fd);
	expect_refusal(place, -ENOTSOCK, "is not a socket");
	assert_int_equal(lstat(place->path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	unlink(place->path);
	assert_int_equal(symlink("/nowhere", place->path), 0);
	expect_refusal(place, -ENOTSOCK, "is not a socket");
	assert_int_equal(lstat(place->path, &st), 0);
}

static void a_second_daemon_is_refused_by_the_lock(void **state)
{
	struct place *place = *state;
	struct listener *listener = bind_listener(place);
	char other[96];

	expect_refusal(place, -EADDRINUSE, "in use by a running daemon");
	snprintf(other, sizeof(other), "%s/other", place->directory);
	place->f->config.socket_path = other;
	expect_refusal(place, -EADDRINUSE, "--runtime-directory");
	listener_free(listener);
	listener_free(bind_listener(place));
}

static void a_socket_that_is_not_ours_any_more_stays(void **state)
{
	struct place *place = *state;
	struct listener *listener = bind_listener(place);
	struct stat st;
	int fd;

	assert_int_equal(unlink(place->path), 0);
	fd = occupy(place, true);
	listener_free(listener);
	assert_int_equal(lstat(place->path, &st), 0);
	close(fd);
}

static void what_cannot_be_is_explained(void **state)
{
	struct place *place = *state;
	struct config *config = &place->f->config;
	char path[256];

	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	config->socket_path = path;
	expect_refusal(place, -ENAMETOOLONG, "1 to 107 bytes");
	config->socket_path = place->path;
	config->socket_group = (char[]){ "no-group-of-this-name" };
	expect_refusal(place, -ENOENT, "no such group");
	config->socket_group = NULL;
	config->runtime_directory = (char[]){ "/nowhere/at/all" };
	expect_refusal(place, -ENOENT, "/nowhere/at/all");
	snprintf(path, sizeof(path), "%s/no/socket", place->directory);
	config->runtime_directory = place->directory;
	config->socket_path = path;
	expect_refusal(place, -ENOENT, "cannot listen on");
}

static void the_runtime_directory_is_made(void **state)
{
	struct place *place = *state;
	char directory[96], lock[112];
	struct listener *listener;

	snprintf(directory, sizeof(directory), "%s/run", place->directory);
	snprintf(lock, sizeof(lock), "%s/lock", directory);
	place->f->config.runtime_directory = directory;
	listener = bind_listener(place);
	listener_free(listener);
	assert_int_equal(unlink(lock), 0);
	assert_int_equal(rmdir(directory), 0);
}

static void a_socket_that_was_handed_over_is_not_removed(void **state)
{
	struct place *place = *state;
	struct listener *listener;
	struct client *client;
	struct stat st;
	int fd = occupy(place, true);

	assert_int_equal(listener_new(place->f->server, fd, "", &listener), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	client = connect_client(place);
	client_expect(client, say_hello(client), WIRE_OK);
	client_free(client);
	listener_free(listener);
	assert_int_equal(lstat(place->path, &st), 0);
	assert_true(fcntl(fd, F_GETFD) < 0);
}

/* As another user than root where that is possible: root is exempt. */
static void a_client_too_many_is_told_so(void **state)
{
	struct place *place = *state;
	bool is_root = geteuid() == 0;
	struct listener *listener;
	struct client *client;
	struct frame frame;
	uint32_t tag;

	place->f->config.socket_mode = 0666;
	place->f->config.max_clients_per_user = 0;
	assert_int_equal(chmod(place->directory, 0711), 0);
	listener = bind_listener(place);
	if (is_root)
		assert_int_equal(seteuid(65534), 0);
	client = connect_client(place);
	if (is_root) {
		assert_int_equal(seteuid(0), 0);
		assert_int_equal(prctl(PR_SET_DUMPABLE, 1), 0); /* the leak checker attaches */
	}
	client->last_tag = 41;
	tag = say_hello(client);
	frame = client_expect(client, tag, WIRE_LIMIT);
	assert_int_equal(frame.op, WIRE_HELLO);
	assert_non_null(memmem(frame.payload, frame.len, "max_clients_per_user", 20));
	client_expect_end(client);
	client_free(client);
	listener_free(listener);
}

static void set_descriptor_limit(rlim_t n)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = n;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static bool has_clients(void *userdata)
{
	struct place *place = userdata;

	return place->f->server->n_sessions == 1;
}

static void without_descriptors_clients_are_told_and_the_loop_does_not_spin(void **state)
{
	struct place *place = *state;
	struct listener *listener = bind_listener(place);
	struct client *refused = connect_client(place), *late;
	int probe = dup(0);
	struct rlimit old;
	uint64_t begin;
	uint32_t tag = say_hello(refused);
	struct frame frame;

	assert_true(probe >= 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	close(probe);
	late = connect_client(place); /* it has the number of the probe */
	set_descriptor_limit((rlim_t)late->fd + 1);
	begin = loop_now();
	frame = client_expect(refused, tag, WIRE_LIMIT);
	assert_int_equal(frame.op, WIRE_HELLO);
	client_expect_end(refused);
	client_free(late);
	client_free(refused);
	set_descriptor_limit(old.rlim_cur);
	/* Nobody is accepted before the pause is over. */
	late = connect_client(place);
	fixture_turn(place->f, 20);
	if (loop_now() - begin < LIMIT_ACCEPT_PAUSE_USEC)
		assert_int_equal(place->f->server->n_sessions, 0);
	fixture_until(place->f, has_clients, place);
	assert_true(loop_now() - begin >= LIMIT_ACCEPT_PAUSE_USEC);
	client_expect(late, say_hello(late), WIRE_OK);
	client_free(late);
	listener_free(listener);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(clients_connect_and_the_socket_goes_at_the_end),
		TEST(many_clients_are_taken_in_several_turns),
		TEST(a_dead_socket_is_replaced),
		TEST(a_live_socket_is_left_alone),
		TEST(a_file_is_never_deleted),
		TEST(a_second_daemon_is_refused_by_the_lock),
		TEST(a_socket_that_is_not_ours_any_more_stays),
		TEST(what_cannot_be_is_explained),
		TEST(the_runtime_directory_is_made),
		TEST(a_socket_that_was_handed_over_is_not_removed),
		TEST(a_client_too_many_is_told_so),
		TEST(without_descriptors_clients_are_told_and_the_loop_does_not_spin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
