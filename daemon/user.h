/*
 * What one user of this host takes from the daemon, over all its connections: number of clients,
 * buffered bytes, and services without a key, whose names are free to invent.
 */
#pragma once

#include <sys/types.h>

#include "daemon/service.h"

#define USERS_BUCKETS 64

struct users {
	struct list buckets[USERS_BUCKETS]; /* user::link */
	unsigned n;
};

struct user {
	struct list link; /* users::buckets */
	struct users *users;
	uid_t uid;
	unsigned share_turn, share; /* see server_share() */
	unsigned n_clients; /* the user is freed with the last one */
	size_t n_buffered; /* bytes */
	struct list absent; /* absent::link */
	unsigned n_loading; /* of them: the source has not answered */
	unsigned n_absent; /* it has: there are no keys */
};

/* A service without keys, or none yet, that at least one session of this user keeps open. It is
 * gone when the service turns out to have keys. */
struct absent {
	struct list link; /* user::absent */
	struct user *user;
	struct service *service;
	struct service_waiter waiter;
	struct list openers; /* absent_opener::link */
	bool is_loading;
};

/* What keeps it open; one that opened a service with keys, or whose service has some by now, is
 * alone. */
struct absent_opener {
	struct list link;
	struct absent *absent; /* NULL: it is alone */
};

void users_init(struct users *users);

/* The user, new when it has no client yet, with one client more. 0, -ENOMEM. */
int users_add_client(struct users *users, uid_t uid, struct user **ret_user);
void user_remove_client(struct user *user);

/* Has no keys, or none yet. */
bool user_is_absent(const struct service *service);

/*
 * Whether the user may open this service (NULL: one that is not running), which has no keys, or
 * none yet: whether it has any is known when it has loaded, and a host opens all that it runs at
 * once.
 */
bool user_may_open_absent(struct user *user, const struct service *service);
/* Zeroed memory is an opener that is alone. 0, -ENOMEM. */
int user_add_absent(struct user *user, struct service *service, struct absent_opener *opener);
void user_remove_absent(struct absent_opener *opener);
