/*
 * Who may read. Knows users, groups and rules; knows neither sessions nor what is read. Whatever
 * cannot be found out counts as "no".
 */
#include "daemon/access.h"

#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/socket.h>

#include "daemon/id-file.h"
#include "proto/value.h"

#define READERS_GROUP "consulcfg"

#define LOOKUP_BYTES_MIN 1024
#define LOOKUP_BYTES_MAX (1u << 20) /* a group may have thousands of members */

struct access_names {
	struct access_subject readers; /* READERS_GROUP of a directory server */
	struct id_file users, groups;
	char *dynamic_users;
};

/* NAME when the text is `kind` ("user:", "group:") and a name, else NULL. */
static const char *name_behind(const char *text, const char *kind)
{
	size_t len = strlen(kind);

	return strncmp(text, kind, len) == 0 && text[len] != '\0' ? text + len : NULL;
}

bool access_subject_is_valid(const char *text)
{
	return std_streq(text, "anyone") || name_behind(text, "user:") ||
	       name_behind(text, "group:");
}

/* One call of getpwnam_r() and its like: 0, -ENOENT, -errno. */
typedef int (*look_up_fn)(const char *name, char *buf, size_t size, uint32_t *ret_id);

/* The look-ups' answers to an unknown name, by libc and module; see getpwnam(3). */
static int result_of(int error, bool is_found)
{
	if (error == 0)
		return is_found ? 0 : -ENOENT;
	return error == ESRCH || error == EBADF || error == EPERM ? -ENOENT : -error;
}

static int look_up_user(const char *name, char *buf, size_t size, uint32_t *ret_id)
{
	struct passwd entry, *found = NULL;
	int error = getpwnam_r(name, &entry, buf, size, &found);

	if (found)
		*ret_id = entry.pw_uid;
	return result_of(error, found);
}

static int look_up_group(const char *name, char *buf, size_t size, uint32_t *ret_id)
{
	struct group entry, *found = NULL;
	int error = getgrnam_r(name, &entry, buf, size, &found);

	if (found)
		*ret_id = entry.gr_gid;
	return result_of(error, found);
}

static int look_up(look_up_fn fn, const char *name, uint32_t *ret_id)
{
	int r = -ERANGE;

	for (size_t size = LOOKUP_BYTES_MIN; r == -ERANGE && size <= LOOKUP_BYTES_MAX; size *= 4) {
		AUTO_FREE char *buf = malloc(size);

		if (!buf)
			return -ENOMEM;
		r = fn(name, buf, size, ret_id);
	}
	return r;
}

/* A number for a user or group that has no name here; the largest one means "none". */
static int parse_id(const char *text, uint32_t *ret_id)
{
	int64_t id;

	if (value_int64(text, strlen(text), &id) < 0 || id < 0 || id >= UINT32_MAX)
		return -ENOENT;
	*ret_id = (uint32_t)id;
	return 0;
}

int access_subject_resolve(const char *text, struct access_subject *ret_subject)
{
	const char *user = name_behind(text, "user:");
	const char *group = name_behind(text, "group:");
	const char *name = user ? user : group;
	uint32_t id;
	int r;

	if (!access_subject_is_valid(text))
		return -EINVAL;
	if (!name) {
		*ret_subject = (struct access_subject){ .kind = ACCESS_ANYONE };
		return 0;
	}
	r = look_up(user ? look_up_user : look_up_group, name, &id);
	if (r == -ENOENT)
		r = parse_id(name, &id);
	if (r < 0)
		return r;
	*ret_subject = (struct access_subject){ user ? ACCESS_USER : ACCESS_GROUP, id };
	return 0;
}

int access_names_new(const struct access_files *files, struct access_names **ret_names)
{
	struct access_names *names = calloc(1, sizeof(*names));
	int r;

	if (!names)
		return -ENOMEM;
	r = id_file_init(&names->users, files->users);
	if (r == 0)
		r = id_file_init(&names->groups, files->groups);
	names->dynamic_users = strdup(files->dynamic_users);
	if (r < 0 || !names->dynamic_users) {
		access_names_free(names);
		return -ENOMEM;
	}
	/* A host need not have it. */
	if (access_subject_resolve("group:" READERS_GROUP, &names->readers) < 0)
		names->readers.kind = ACCESS_NOBODY;
	*ret_names = names;
	return 0;
}

struct access_names *access_names_free(struct access_names *names)
{
	if (!names)
		return NULL;
	id_file_done(&names->users);
	id_file_done(&names->groups);
	free(names->dynamic_users);
	free(names);
	return NULL;
}

/* The service manager's note of a user that exists as long as a unit with DynamicUser=. */
static bool is_dynamic_user(const struct access_names *names, uid_t uid, const char *service)
{
	char path[PATH_MAX], name[LIMIT_SERVICE_NAME + 1];
	ssize_t n;

	if (snprintf(path, sizeof(path), "%s/direct:%u", names->dynamic_users, uid) >=
		(int)sizeof(path))
		return false;
	n = readlink(path, name, sizeof(name));
	return n > 0 && (size_t)n == strlen(service) && memcmp(name, service, (size_t)n) == 0;
}

static bool is_user_named(struct access_names *names, uid_t uid, const char *service)
{
	uint32_t id;

	if (id_file_find(&names->users, service, &id))
		return id == uid;
	return is_dynamic_user(names, uid, service);
}

static bool has_gid(const struct access_peer *peer, gid_t gid)
{
	if (peer->gid == gid)
		return true;
	for (unsigned i = 0; i < peer->n_groups; i++)
		if (peer->groups[i] == gid)
			return true;
	return false;
}

static bool is_in_group_named(
	struct access_names *names, const struct access_peer *peer, const char *service)
{
	uint32_t id;

	return id_file_find(&names->groups, service, &id) && has_gid(peer, id);
}

static bool is_one_of(
	const struct access_peer *peer, const struct access_subject *subjects, unsigned n_subjects)
{
	for (unsigned i = 0; i < n_subjects; i++)
		switch (subjects[i].kind) {
		case ACCESS_NOBODY:
			break;
		case ACCESS_ANYONE:
			return true;
		case ACCESS_USER:
			if (peer->uid == subjects[i].id)
				return true;
			break;
		case ACCESS_GROUP:
			if (has_gid(peer, subjects[i].id))
				return true;
			break;
		}
	return false;
}

/* Copies what SO_PEERGROUPS gives; the kernel wants room for all of them or gives none. */
static int get_groups(int fd, struct access_peer *peer)
{
	AUTO_FREE gid_t *all = NULL;
	socklen_t size = sizeof(peer->groups);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer->groups, &size) == 0) {
		peer->n_groups = size / sizeof(gid_t);
		return 0;
	}
	if (errno != ERANGE)
		return -errno;
	all = malloc(size);
	if (!all)
		return -ENOMEM;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, all, &size) < 0)
		return -errno;
	peer->n_groups = MIN(size / (socklen_t)sizeof(gid_t), (socklen_t)ACCESS_MAX_GROUPS);
	memcpy(peer->groups, all, peer->n_groups * sizeof(gid_t));
	return 0;
}

int access_peer_of(int fd, struct access_peer *ret_peer)
{
	struct access_peer peer = { 0 };
	struct ucred credentials;
	socklen_t size = sizeof(credentials);
	int r;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		return -errno;
	peer.uid = credentials.uid;
	peer.gid = credentials.gid;
	r = get_groups(fd, &peer);
	if (r < 0)
		return r;
	*ret_peer = peer;
	return 0;
}

/* The name is that of a socket of before a reload, perhaps. */
static bool is_shown(
	const struct config *config, const struct access_peer *peer, const char *service)
{
	const struct config_socket *socket;

	if (*peer->socket == '\0')
		return true;
	socket = config_socket_find(config, peer->socket);
	return socket && config_socket_shows(socket, service);
}

bool access_may_read(
	const struct config *config, const struct access_peer *peer, const char *service)
{
	const struct config_rule *rule = config_rule_for(config, service);
	struct access_names *names = config->names;

	if (!is_shown(config, peer, service))
		return false;
	if (rule && rule->n_access > 0)
		return is_one_of(peer, rule->access_subjects, rule->n_access);
	if (peer->uid == 0 || peer->uid == geteuid())
		return true;
	if (!names)
		return false;
	return is_one_of(peer, &names->readers, 1) ||
	       is_in_group_named(names, peer, READERS_GROUP) ||
	       is_in_group_named(names, peer, service) || is_user_named(names, peer->uid, service);
}

bool access_is_hidden(
	const struct config *config, const struct access_peer *peer, const char *service)
{
	const struct config_rule *rule = config_rule_for(config, service);

	return rule && rule->hides && is_shown(config, peer, service) &&
	       !access_may_read(config, peer, service);
}

bool access_is_operator(const struct config *config, const struct access_peer *peer)
{
	return *peer->socket == '\0' &&
	       is_one_of(peer, config->operator_subjects, config->n_operators);
}

static bool is_for_group(const struct access_subject *subject, gid_t gid)
{
	return subject->kind == ACCESS_ANYONE ||
	       (subject->kind == ACCESS_GROUP && subject->id == gid);
}

bool access_is_open_to(const struct config *config, gid_t gid, const char *service)
{
	const struct config_rule *rule = config_rule_for(config, service);

	if (gid == (gid_t)-1)
		return false;
	if (!rule || rule->n_access == 0)
		return config->names && is_for_group(&config->names->readers, gid);
	for (unsigned i = 0; i < rule->n_access; i++)
		if (is_for_group(&rule->access_subjects[i], gid))
			return true;
	return false;
}
