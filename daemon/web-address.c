#include "daemon/web-address.h"

#include <stdio.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "daemon/socket-path.h"
#include "proto/limits.h"

#define BACKLOG 16 /* scrapers come one by one; more visitors than may come in wait here */
#define PATH_MODE 0600

static int parse_path(const char *path, struct web_address *address)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&address->at;

	if (path[0] != '/')
		return -EINVAL;
	if (strlen(path) >= sizeof(un->sun_path))
		return -ENAMETOOLONG;
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, path);
	address->len = sizeof(*un);
	return 0;
}

static int parse_port(const char *text, uint16_t *ret_port)
{
	size_t len = strlen(text);
	unsigned long port;

	if (len == 0 || len > 5 || strspn(text, "0123456789") != len)
		return -EINVAL;
	port = strtoul(text, NULL, 10);
	if (port > UINT16_MAX)
		return -EINVAL;
	*ret_port = htons((uint16_t)port);
	return 0;
}

static int parse_inet(const char *host, const char *port, struct web_address *address)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address->at;
	struct sockaddr_in *in = (struct sockaddr_in *)&address->at;

	if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		address->len = sizeof(*in);
		return parse_port(port, &in->sin_port);
	}
	if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		address->len = sizeof(*in6);
		return parse_port(port, &in6->sin6_port);
	}
	return -EINVAL;
}

int web_address_parse(const char *text, struct web_address *ret_address)
{
	struct web_address address = { .is_off = std_streq(text, "off") };
	const char *colon = strrchr(text, ':');
	bool has_brackets = text[0] == '[' && colon && colon[-1] == ']';
	char host[INET6_ADDRSTRLEN + 2];
	size_t len;
	int r = 0;

	if (strncmp(text, "unix:", 5) == 0) {
		r = parse_path(text + 5, &address);
	} else if (!address.is_off) {
		len = colon ? (size_t)(colon - text) : 0;
		if (len == 0 || len >= sizeof(host) || (!has_brackets && memchr(text, ':', len)))
			return -EINVAL;
		snprintf(host, sizeof(host), "%.*s", (int)(len - (has_brackets ? 2 : 0)),
			text + (has_brackets ? 1 : 0));
		r = parse_inet(host, colon + 1, &address);
	}
	if (r == 0)
		*ret_address = address;
	return r;
}

static int bind_path(const struct web_address *address, int fd)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&address->at;
	int r = socket_path_clear(un);

	if (r < 0)
		return r;
	/* What the descriptor has is what the path gets: never open to others, not for a moment. */
	if (fchmod(fd, PATH_MODE) < 0 || bind(fd, (const struct sockaddr *)un, address->len) < 0)
		return -errno;
	return 0;
}

static int bind_inet(const struct web_address *address, int fd)
{
	const int on = 1;

	/* Connections of the daemon before this one keep the port busy for a minute. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		bind(fd, (const struct sockaddr *)&address->at, address->len) < 0)
		return -errno;
	return 0;
}

int web_address_listen(const struct web_address *address, int *ret_fd)
{
	const int queue =
		LIMIT_WEB_PIECE; /* connections have it from here; the kernel would take 4 MB */
	AUTO_CLOSE int fd =
		socket(address->at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = address->at.ss_family == AF_UNIX ? bind_path(address, fd) : bind_inet(address, fd);
	if (r < 0)
		return r;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &queue, sizeof(queue));
	if (listen(fd, BACKLOG) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

void web_address_remove(const struct web_address *address)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&address->at;

	if (address->at.ss_family == AF_UNIX)
		unlink(un->sun_path);
}
