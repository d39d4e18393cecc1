/*
 * Knows which sockets there shall be and whose they are. Invariant: there is exactly one way in for
 * each [socket NAME], and a descriptor of a name that the configuration does not know lets nobody
 * in: it may have been meant for few services, and the main socket shows all.
 */
#include "daemon/listeners.h"

#include <stdarg.h>
#include <stdio.h>

#include "daemon/log.h"
#include "daemon/manager.h"

#define FIRST_PASSED_FD 3

struct listeners {
	struct server *server;
	const struct config *config; /* while they are being made */
	struct listener **all;
	unsigned n;
	bool has_own; /* one at least was made here */
	bool has_own_main;
};

static int PRINTF_FORMAT(3, 4) explain(char **ret_message, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (vasprintf(ret_message, format, args) < 0)
		*ret_message = NULL;
	va_end(args);
	return error;
}

static bool has_suffix(const char *text, const char *suffix)
{
	size_t len = strlen(text), suffix_len = strlen(suffix);

	return len >= suffix_len && std_streq(text + len - suffix_len, suffix);
}

/* A unit without FileDescriptorName= gives its own name, other managers give "unknown" or none. */
static bool is_main_name(const char *name)
{
	return *name == '\0' || std_streq(name, "unknown") || has_suffix(name, ".socket");
}

static const struct listener *find(const struct listeners *listeners, const char *name)
{
	for (unsigned i = 0; i < listeners->n; i++)
		if (std_streq(listener_name(listeners->all[i]), name))
			return listeners->all[i];
	return NULL;
}

/* What a socket unit names may be anything; what is no stream of Unix clients has no peer to judge.
 */
static int take_passed(struct listeners *listeners, int fd, const char *name, char **ret_message)
{
	bool is_main = is_main_name(name);
	int r;

	if (!manager_is_listening_unix(fd))
		return explain(ret_message, -ENOTSOCK,
			"descriptor %d of the service manager is not a listening Unix stream "
			"socket; see ListenStream= of consulcfgd.socket",
			fd);
	if (!is_main && !config_socket_find(listeners->config, name))
		return explain(ret_message, -ENOENT,
			"the service manager passes a socket called %s, and there is no [socket "
			"%s] in the configuration; see FileDescriptorName= of its unit",
			name, name);
	r = listener_new(listeners->server, fd, is_main ? "" : name, &listeners->all[listeners->n]);
	if (r == 0)
		listeners->n++;
	return r;
}

static int take_all_passed(struct listeners *listeners, char **ret_message)
{
	char **names = NULL;
	int n = manager_listen_fds(&names), r = 0;

	if (n < 0)
		return n;
	if (n > LIMIT_PASSED_SOCKETS)
		r = explain(ret_message, -E2BIG,
			"the service manager passes %d sockets and the daemon takes %d; see "
			"ListenStream= of consulcfgd.socket",
			n, LIMIT_PASSED_SOCKETS);
	for (int i = 0; i < n && r == 0; i++)
		r = take_passed(listeners, FIRST_PASSED_FD + i, names ? names[i] : "", ret_message);
	for (int i = 0; names && i < n; i++)
		free(names[i]);
	free(names);
	return r;
}

static int make(struct listeners *listeners, const struct config_socket *socket, char **ret_message)
{
	struct listener **at = &listeners->all[listeners->n];
	int r;

	if (socket && !socket->path)
		return explain(ret_message, -ENOENT,
			"[socket %s] has no path=, and the service manager passes no socket of "
			"this name",
			socket->name);
	r = socket ? listener_bind_further(listeners->server, socket, at, ret_message)
		   : listener_bind(listeners->server, listeners->config, at, ret_message);
	if (r < 0)
		return r;
	listeners->n++;
	listeners->has_own = true;
	listeners->has_own_main |= !socket;
	return 0;
}

static int make_missing(struct listeners *listeners, char **ret_message)
{
	const struct config *config = listeners->config;
	int r = 0;

	if (!find(listeners, ""))
		r = make(listeners, NULL, ret_message);
	for (unsigned i = 0; i < config->n_sockets && r == 0; i++)
		if (!find(listeners, config->sockets[i].name))
			r = make(listeners, &config->sockets[i], ret_message);
	return r;
}

int listeners_new(struct server *server, const struct config *config,
	struct listeners **ret_listeners, char **ret_message)
{
	struct listeners *listeners = calloc(1, sizeof(*listeners));
	int r = -ENOMEM;

	*ret_message = NULL;
	if (!listeners)
		return -ENOMEM;
	listeners->server = server;
	listeners->config = config;
	listeners->all =
		calloc(LIMIT_PASSED_SOCKETS + config->n_sockets + 1, sizeof(*listeners->all));
	if (listeners->all)
		r = take_all_passed(listeners, ret_message);
	if (r == 0)
		r = make_missing(listeners, ret_message);
	listeners->config = NULL;
	if (r < 0) {
		listeners_free(listeners);
		return r;
	}
	*ret_listeners = listeners;
	return 0;
}

struct listeners *listeners_free(struct listeners *listeners)
{
	if (!listeners)
		return NULL;
	for (unsigned i = 0; i < listeners->n; i++)
		listener_free(listeners->all[i]);
	free(listeners->all);
	free(listeners);
	return NULL;
}

bool listeners_are_passed(const struct listeners *listeners)
{
	return !listeners->has_own;
}

const char *listeners_describe(const struct listeners *listeners, const struct config *config)
{
	return listeners->has_own_main ? config->socket_path : "the service manager's socket";
}

static void swap(char **one, char **other)
{
	char *text = *one;

	*one = *other;
	*other = text;
}

static bool is_same(const char *a, const char *b)
{
	return std_streq(a ? a : "", b ? b : "");
}

/* What a reload takes of further sockets is who sees what. */
static bool are_further_same(const struct config *old, const struct config *fresh)
{
	if (old->n_sockets != fresh->n_sockets)
		return false;
	for (unsigned i = 0; i < old->n_sockets; i++) {
		const struct config_socket *a = &old->sockets[i];
		const struct config_socket *b = config_socket_find(fresh, a->name);

		if (!b || !is_same(a->path, b->path) || !is_same(a->group, b->group) ||
			a->mode != b->mode)
			return false;
	}
	return true;
}

void listeners_keep(const struct listeners *listeners, struct config *old, struct config *fresh)
{
	if (!are_further_same(old, fresh))
		log_warning("reload: a new [socket NAME], and path, group and mode of one, take a "
			    "restart; one that is gone shows no service from now on");
	if (is_same(old->socket_path, fresh->socket_path) &&
		is_same(old->socket_group, fresh->socket_group) &&
		old->socket_mode == fresh->socket_mode)
		return;
	if (listeners->has_own_main)
		log_warning("reload: path, group and mode of [socket] take a restart; until then "
			    "clients connect at %s as before",
			old->socket_path);
	swap(&old->socket_path, &fresh->socket_path);
	swap(&old->socket_group, &fresh->socket_group);
	fresh->socket_mode = old->socket_mode;
}
