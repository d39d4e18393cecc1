#include "daemon/opened.h"

#include "daemon/session.h"
#include "proto/hash.h"

#define OPENINGS_FIRST 4

static uint32_t hash_of(const char *name, size_t name_len)
{
	return (uint32_t)hash_key(name, name_len, 0);
}

static struct opened **bucket_of(const struct openings *openings, uint32_t hash)
{
	return &openings->buckets[hash & (openings->n_buckets - 1)];
}

static void insert(struct openings *openings, struct opened *opened)
{
	struct opened **bucket = bucket_of(openings, opened->hash);

	opened->hash_next = *bucket;
	*bucket = opened;
}

static int grow(struct openings *openings)
{
	struct openings old = *openings;

	openings->n_buckets = old.n_buckets > 0 ? 2 * old.n_buckets : OPENINGS_FIRST;
	openings->buckets = calloc(openings->n_buckets, sizeof(*openings->buckets));
	if (!openings->buckets) {
		*openings = old;
		return -ENOMEM;
	}
	for (unsigned i = 0; i < old.n_buckets; i++) {
		while (old.buckets[i]) {
			struct opened *opened = old.buckets[i];

			old.buckets[i] = opened->hash_next;
			insert(openings, opened);
		}
	}
	free(old.buckets);
	return 0;
}

static void on_service_changed(struct service *service, void *userdata)
{
	struct opened *opened = userdata;

	(void)service;
	session_wake(opened->session);
}

/* What an invented name costs its user is known before anything is started for it. */
static int check_limits(struct session *session, const char *name, size_t name_len)
{
	struct service *service;

	if (session->openings.n >= LIMIT_SESSION_SERVICES)
		return -EMFILE;
	service = services_find(session->server->services, name, name_len);
	if (service && !user_is_absent(service))
		return 0;
	return user_may_open_absent(session->user, service) ? 0 : -EDQUOT;
}

static bool is_named(const struct opened *opened, const char *name, size_t name_len)
{
	return opened->name_len == name_len &&
	       memcmp(service_shown_name(opened->service), name, name_len) == 0;
}

struct opened *opened_find(struct openings *openings, const char *name, size_t name_len)
{
	struct opened *opened = openings->last;
	uint32_t hash;

	if (opened && is_named(opened, name, name_len))
		return opened;
	if (openings->n == 0)
		return NULL;
	hash = hash_of(name, name_len);
	for (opened = *bucket_of(openings, hash); opened; opened = opened->hash_next) {
		if (opened->hash == hash && is_named(opened, name, name_len)) {
			openings->last = opened;
			return opened;
		}
	}
	return NULL;
}

int opened_new(struct session *session, const char *name, size_t name_len, bool is_hidden,
	struct opened **ret_opened)
{
	struct openings *openings = &session->openings;
	char inner[1 + LIMIT_SERVICE_NAME] = { SERVICE_HIDDEN };
	AUTO_FREE struct opened *opened = NULL;
	int r;

	memcpy(inner + 1, name, name_len);
	r = check_limits(session, inner + !is_hidden, name_len + is_hidden);
	if (r == 0 && openings->n >= openings->n_buckets)
		r = grow(openings);
	if (r < 0)
		return r;
	opened = calloc(1, sizeof(*opened));
	if (!opened)
		return -ENOMEM;
	r = services_want(session->server->services, inner + !is_hidden, name_len + is_hidden,
		&opened->service);
	if (r < 0)
		return r;
	if (user_is_absent(opened->service)) {
		r = user_add_absent(session->user, opened->service, &opened->absent);
		if (r < 0) {
			service_unwant(opened->service);
			return r;
		}
	}
	opened->session = session;
	opened->is_hidden = is_hidden;
	opened->hash = hash_of(name, name_len);
	opened->name_len = name_len;
	opened->epoch = server_epoch(session->server);
	opened->may_read = true;
	opened->waiter.fn = on_service_changed;
	opened->waiter.userdata = opened;
	list_init(&opened->waiter.link);
	insert(openings, opened);
	openings->n++;
	*ret_opened = openings->last = TAKE_PTR(opened);
	return 0;
}

struct opened *opened_free(struct opened *opened)
{
	struct openings *openings = &opened->session->openings;
	struct opened **at = bucket_of(openings, opened->hash);

	while (*at != opened)
		at = &(*at)->hash_next;
	*at = opened->hash_next;
	openings->n--;
	if (openings->last == opened)
		openings->last = NULL;
	service_remove_waiter(&opened->waiter);
	user_remove_absent(&opened->absent);
	service_unwant(opened->service);
	free(opened);
	return NULL;
}

void openings_done(struct openings *openings)
{
	for (unsigned i = 0; i < openings->n_buckets; i++)
		while (openings->buckets[i])
			opened_free(openings->buckets[i]);
	free(openings->buckets);
	*openings = (struct openings){ 0 };
}

bool opened_may_read(struct opened *opened)
{
	struct server *server = opened->session->server;
	const char *name = service_shown_name(opened->service);

	if (opened->epoch != server->epoch) {
		opened->epoch = server_epoch(server);
		opened->may_read = (opened->is_hidden ? access_is_hidden : access_may_read)(
			server->config, &opened->session->peer, name);
	}
	return opened->may_read;
}

void opened_add_pending(struct opened *opened)
{
	if (opened->n_pending++ == 0)
		service_add_waiter(opened->service, &opened->waiter);
}

void opened_remove_pending(struct opened *opened)
{
	if (--opened->n_pending == 0)
		service_remove_waiter(&opened->waiter);
}
