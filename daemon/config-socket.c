/*
 * Further listeners. Knows their four keys. A listener without services= would see nothing, and one
 * that saw everything would be the socket that everybody has: both are refused.
 */
#include "daemon/config-socket.h"

#include <sys/un.h>

#include "proto/glob.h"
#include "proto/key.h"

#include "daemon/config-rule.h"
#include "daemon/config-table.h"

#define SECTION "socket "
#define DEFAULT_MODE 0666

bool config_socket_is_section(const char *section)
{
	return strncmp(section, SECTION, strlen(SECTION)) == 0;
}

static const char *name_of(const char *section)
{
	const char *name = section + strlen(SECTION);

	return name + strspn(name, " \t");
}

const struct config_socket *config_socket_find(const struct config *config, const char *name)
{
	for (unsigned i = 0; i < config->n_sockets; i++)
		if (std_streq(config->sockets[i].name, name))
			return &config->sockets[i];
	return NULL;
}

bool config_socket_shows(const struct config_socket *socket, const char *service)
{
	for (unsigned i = 0; i < socket->n_services; i++)
		if (glob_matches(socket->services[i], service, strlen(service)))
			return true;
	return false;
}

void config_socket_done(struct config_socket *socket)
{
	free(socket->name);
	free(socket->path);
	free(socket->group);
	config_draft_free_words(socket->services, socket->n_services);
}

static int add_socket(struct config_draft *draft, const char *name)
{
	struct config *config = draft->config;
	unsigned n = config->n_sockets;
	struct config_socket_places *places;
	struct config_socket *sockets;

	sockets = reallocarray(config->sockets, n + 1, sizeof(*sockets));
	if (!sockets)
		return -ENOMEM;
	config->sockets = sockets;
	places = reallocarray(draft->sockets, n + 1, sizeof(*places));
	if (!places)
		return -ENOMEM;
	draft->sockets = places;
	sockets[n] = (struct config_socket){ .name = strdup(name), .mode = DEFAULT_MODE };
	if (!sockets[n].name)
		return -ENOMEM;
	places[n] = (struct config_socket_places){ .section = draft->place };
	config->n_sockets++;
	return 0;
}

int config_socket_enter(struct config_draft *draft)
{
	const char *name = name_of(draft->section);

	/* It is also a FileDescriptorName= of a socket unit. */
	if (!key_is_service_name(name, strlen(name)))
		return config_draft_fail(draft,
			"the name of a further socket has letters, digits, '.', '_' and '-'");
	if (config_socket_find(draft->config, name))
		return 0;
	if (draft->config->n_sockets == LIMIT_CONFIG_SOCKETS)
		return config_draft_fail(
			draft, "there are more than %d [socket] sections", LIMIT_CONFIG_SOCKETS);
	return add_socket(draft, name);
}

static int take_glob(struct config_draft *draft, char **word)
{
	if (config_rule_is_glob(*word))
		return 0;
	return config_draft_fail(
		draft, "%s is neither a service name nor a glob", config_draft_quote(draft, *word));
}

static int set_path(struct config_draft *draft, struct config_socket *socket,
	struct config_place *place, const char *value)
{
	size_t longest = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
	int r = config_draft_once(draft, place);

	if (r < 0)
		return r;
	if (*value != '\0' && (*value != '/' || strlen(value) > longest))
		return config_draft_fail(draft,
			"%s is not the path of a socket; it begins with '/' and has at most %zu "
			"bytes",
			config_draft_quote(draft, value), longest);
	return config_draft_set_string(&socket->path, value);
}

int config_socket_set(struct config_draft *draft, const char *value)
{
	struct config *config = draft->config;
	struct config_socket *socket = config->sockets;
	struct config_socket_places *places;
	int r;

	while (!std_streq(socket->name, name_of(draft->section)))
		socket++;
	places = &draft->sockets[socket - config->sockets];
	if (std_streq(draft->key, "path"))
		return set_path(draft, socket, &places->path, value);
	if (std_streq(draft->key, "services"))
		return config_draft_set_words(draft, &places->services, value, take_glob,
			&socket->services, &socket->n_services);
	if (std_streq(draft->key, "group")) {
		r = config_draft_once(draft, &places->group);
		return r < 0 ? r : config_draft_set_string(&socket->group, value);
	}
	if (std_streq(draft->key, "mode")) {
		r = config_draft_once(draft, &places->mode);
		return r < 0 ? r : config_table_parse_mode(draft, value, &socket->mode);
	}
	return config_draft_fail(
		draft, "unknown key; a further socket has path=, services=, group= and mode=");
}

int config_socket_finish(struct config_draft *draft)
{
	const struct config *config = draft->config;

	for (unsigned i = 0; i < config->n_sockets; i++) {
		char section[LIMIT_CONFIG_SECTION + sizeof(SECTION)];
		const struct config_socket *socket = &config->sockets[i];
		int r;

		if (socket->n_services > 0)
			continue;
		strcat(strcpy(section, SECTION), socket->name);
		config_draft_return_to(draft, &draft->sockets[i].section, section, "services");
		r = config_draft_fail(draft, "say which services the socket is for");
		config_draft_enter(draft, NULL);
		return r;
	}
	return 0;
}
