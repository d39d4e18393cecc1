/*
 * A small HTTP server in the loop of the test. A path of it is a script: what it sends, and whether
 * it closes or stays silent then.
 */
#pragma once

#include "daemon/loop.h"

#define FAKE_SERVER_PEERS 16

struct fake_script {
	const char *path; /* NULL: the end of the scripts */
	const void *answer; /* NULL: silence */
	size_t len; /* 0: a string */
	bool is_closed;
};

struct fake_peer {
	struct fake_server *server;
	int fd;
	struct loop_io *io;
	char request[8192];
	size_t n_request;
	const char *output;
	size_t n_output;
	bool is_closing;
};

struct fake_server {
	struct loop *loop;
	int fd;
	struct loop_io *io;
	struct fake_peer peers[FAKE_SERVER_PEERS];
	unsigned n_accepted, n_requests;
	char last_request[8192];
	char paths[256]; /* as they came */
	const struct fake_script *scripts;
	char url[64];
};

/* On a port of the loopback; the scripts are kept. */
void fake_server_start(
	struct fake_server *server, struct loop *loop, const struct fake_script *scripts);
void fake_server_listen(struct fake_server *server, int fd); /* elsewhere: takes a bound socket */
void fake_server_stop(struct fake_server *server);
