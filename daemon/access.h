/*
 * May this peer read that service? A decision over credentials and rules, made again for every
 * request.
 *
 * A request must not wait for a directory server. The users and groups that rules name are
 * therefore looked up when the configuration is read. "The user and the group named like the
 * service" come from /etc/passwd, /etc/group and the service manager's dynamic users alone, which
 * are looked at again; those of a directory server need an access= line.
 */
#pragma once

#include <sys/types.h>

#include "daemon/config.h"

#define ACCESS_MAX_GROUPS 64 /* of a peer; further ones do not count, name the user instead */

enum access_kind {
	ACCESS_NOBODY, /* a name that this host does not know */
	ACCESS_ANYONE,
	ACCESS_USER,
	ACCESS_GROUP,
};

/* What "user:NAME", "group:NAME" or "anyone" stands for. */
struct access_subject {
	enum access_kind kind;
	uint32_t id;
};

/* Who is at the other end, from SO_PEERCRED and SO_PEERGROUPS. */
struct access_peer {
	uid_t uid;
	gid_t gid;
	gid_t groups[ACCESS_MAX_GROUPS];
	unsigned n_groups;
	char socket[LIMIT_CONFIG_SECTION + 1]; /* the [socket NAME] it came by; "": the main one */
};

/* The form alone, without a look-up. */
bool access_subject_is_valid(const char *text);

/*
 * Looks the name up; blocks as long as that takes. A number is an id when no name reads like it.
 * 0; -EINVAL: not valid; -ENOENT: unknown to this host; else -errno of the look-up.
 */
int access_subject_resolve(const char *text, struct access_subject *ret_subject);

/* Where names come from; each may be absent. */
struct access_files {
	const char *users, *groups; /* /etc/passwd, /etc/group */
	const char *
		dynamic_users; /* the service manager's directory: "direct:UID" links to the name */
};

/* Owned by a config. 0 or -ENOMEM. */
int access_names_new(const struct access_files *files, struct access_names **ret_names);
struct access_names *access_names_free(struct access_names *names);

/* Credentials of a connected Unix socket. 0 or -errno. */
int access_peer_of(int fd, struct access_peer *ret_peer);

/*
 * Without a rule of its own a service may be read by root, the daemon's own user, the group
 * "consulcfg", and the user and the group named like the service; with `access=` only by those
 * named there. Of what a [socket NAME] does not show nobody may read anything by it.
 */
bool access_may_read(
	const struct config *config, const struct access_peer *peer, const char *service);
/* Whether a service that the peer may not read shall look to it like one that nobody has. */
bool access_is_hidden(
	const struct config *config, const struct access_peer *peer, const char *service);
/* By the main socket only. */
bool access_is_operator(const struct config *config, const struct access_peer *peer);

/* Whether every member of the group may read it, whoever else they are. gid (gid_t)-1: no group. */
bool access_is_open_to(const struct config *config, gid_t gid, const char *service);
