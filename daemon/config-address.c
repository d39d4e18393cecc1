/*
 * Addresses of Consul. Knows the forms that Consul's own tools take (CONSUL_HTTP_ADDR) and refuses
 * whatever could make a request go elsewhere than it reads.
 */
#include "daemon/config-address.h"

#include <stdio.h>
#include <sys/un.h>

#include "proto/value.h"

#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_port(const char *text, size_t len)
{
	int64_t port;

	return len > 0 && text[0] != '-' && value_int64(text, len, &port) == 0 && port >= 1 &&
	       port <= 65535;
}

/* "host", "host:port", "[v6]", "[v6]:port"; returns what is wrong or NULL. */
static const char *check_host(const char *text, size_t len)
{
	size_t host = strspn(text, ALNUM ".-_");

	if (text[0] == '[') {
		host = 1 + strspn(text + 1, "0123456789abcdefABCDEF:.");
		if (host == 1 || text[host] != ']')
			return "what stands in the brackets is no IPv6 address";
		host++;
	}
	if (host < len && text[host] == ':' && memchr(text + host + 1, ':', len - host - 1))
		return "an IPv6 address stands in brackets, as in [::1]:8500";
	if (host == 0)
		return "there is no host in it";
	if (host == len)
		return NULL;
	if (text[host] != ':')
		return "this is no host name";
	return is_port(text + host + 1, len - host - 1) ? NULL : "the port is no number to 65535";
}

const char *config_address_check_server_name(const char *text)
{
	return *text == '\0' ? NULL : check_host(text, strlen(text));
}

static bool has_two_digits(const char *text)
{
	return strspn(text, "0123456789abcdefABCDEF") >= 2;
}

static const char *check_path(const char *path)
{
	if (path[strspn(path, ALNUM "-._~/%")] != '\0')
		return "its path holds a character that must be percent-encoded";
	for (const char *p = strchr(path, '%'); p; p = strchr(p + 1, '%'))
		if (!has_two_digits(p + 1))
			return "its path holds a '%' without two hexadecimal digits";
	if (strstr(path, "//") || strstr(path, "/.."))
		return "its path holds '//' or '/..'";
	return NULL;
}

static const char *check_unix(const char *path)
{
	struct sockaddr_un address;

	if (path[0] != '/')
		return "the path of a socket is absolute, as in unix:///run/consul.sock";
	if (strlen(path) >= sizeof(address.sun_path))
		return "the path of a socket has at most 107 bytes";
	return NULL;
}

static int compose(const char *scheme, const char *rest, char **ret_address)
{
	return asprintf(ret_address, "%s%s", scheme, rest) < 0 ? -ENOMEM : 0;
}

static int normalise_http(
	const char *scheme, const char *rest, char **ret_address, const char **ret_why)
{
	AUTO_FREE char *trimmed = strdup(rest);
	size_t len = strlen(rest), host;

	if (!trimmed)
		return -ENOMEM;
	if (strchr(rest, '@')) {
		*ret_why = "user and password do not belong into an address; set CONSUL_HTTP_AUTH";
		return -EINVAL;
	}
	while (len > 0 && trimmed[len - 1] == '/')
		trimmed[--len] = '\0';
	host = strcspn(trimmed, "/");
	*ret_why = check_host(trimmed, host);
	if (!*ret_why)
		*ret_why = check_path(trimmed + host);
	return *ret_why ? -EINVAL : compose(scheme, trimmed, ret_address);
}

int config_address_normalise(const char *text, bool https, char **ret_address, const char **ret_why)
{
	if (has_prefix(text, "http://"))
		return normalise_http("http://", text + 7, ret_address, ret_why);
	if (has_prefix(text, "https://"))
		return normalise_http("https://", text + 8, ret_address, ret_why);
	if (has_prefix(text, "unix://")) {
		*ret_why = check_unix(text + 7);
		return *ret_why ? -EINVAL : compose("unix://", text + 7, ret_address);
	}
	if (strstr(text, "://")) {
		*ret_why = "its scheme is none of http://, https:// and unix://";
		return -EINVAL;
	}
	return normalise_http(https ? "https://" : "http://", text, ret_address, ret_why);
}
