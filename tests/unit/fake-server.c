#include "fake-server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "test.h"

static void peer_close(struct fake_peer *peer)
{
	peer->io = loop_io_free(peer->io);
	if (peer->fd >= 0)
		close(peer->fd);
	peer->fd = -1;
}

static void peer_write(struct fake_peer *peer)
{
	ssize_t n = 0;

	while (peer->n_output > 0 &&
		(n = send(peer->fd, peer->output, peer->n_output, MSG_NOSIGNAL)) > 0) {
		peer->output += n;
		peer->n_output -= (size_t)n;
	}
	if (peer->n_output == 0 && peer->is_closing) {
		peer_close(peer);
		return;
	}
	loop_io_want(peer->io, LOOP_READ | (peer->n_output > 0 ? LOOP_WRITE : 0));
}

static void peer_answer(struct fake_peer *peer)
{
	struct fake_server *server = peer->server;
	char path[64] = "";

	server->n_requests++;
	memcpy(server->last_request, peer->request, sizeof(peer->request));
	sscanf(peer->request, "GET %63s", path);
	strcat(server->paths, path);
	peer->n_request = 0;
	for (const struct fake_script *script = server->scripts; script->path; script++) {
		if (!std_streq(script->path, path) || !script->answer)
			continue;
		peer->output = script->answer;
		peer->n_output = script->len > 0 ? script->len : strlen(script->answer);
		peer->is_closing = script->is_closed;
		peer_write(peer);
		return;
	}
}

static void on_peer(unsigned events, void *userdata)
{
	struct fake_peer *peer = userdata;
	ssize_t n;

	if (events & LOOP_WRITE) {
		peer_write(peer);
		return;
	}
	n = read(peer->fd, peer->request + peer->n_request,
		sizeof(peer->request) - 1 - peer->n_request);
	if (n <= 0) {
		peer_close(peer);
		return;
	}
	peer->n_request += (size_t)n;
	peer->request[peer->n_request] = '\0';
	if (strstr(peer->request, "\r\n\r\n"))
		peer_answer(peer);
}

static void on_accept(unsigned events, void *userdata)
{
	struct fake_server *server = userdata;
	int fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	assert_true(fd >= 0);
	server->n_accepted++;
	for (unsigned i = 0; i < FAKE_SERVER_PEERS; i++) {
		struct fake_peer *peer = &server->peers[i];

		if (peer->fd >= 0)
			continue;
		*peer = (struct fake_peer){ .server = server, .fd = fd };
		assert_int_equal(loop_io_new(server->loop, fd, on_peer, peer, &peer->io), 0);
		assert_int_equal(loop_io_want(peer->io, LOOP_READ), 0);
		return;
	}
	fail_msg("too many connections");
}

void fake_server_listen(struct fake_server *server, int fd)
{
	server->fd = fd;
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(loop_io_new(server->loop, fd, on_accept, server, &server->io), 0);
	assert_int_equal(loop_io_want(server->io, LOOP_READ), 0);
}

void fake_server_start(
	struct fake_server *server, struct loop *loop, const struct fake_script *scripts)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	server->loop = loop;
	server->scripts = scripts;
	for (unsigned i = 0; i < FAKE_SERVER_PEERS; i++)
		server->peers[i].fd = -1;
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%u", ntohs(address.sin_port));
	fake_server_listen(server, fd);
}

void fake_server_stop(struct fake_server *server)
{
	server->io = loop_io_free(server->io);
	close(server->fd);
	for (unsigned i = 0; i < FAKE_SERVER_PEERS; i++)
		peer_close(&server->peers[i]);
}
