#include "daemon/server.h"

#include <sys/resource.h>

#include "daemon/listing.h"
#include "daemon/log.h"
#include "daemon/session.h"

static void on_epoch_end(void *userdata)
{
	struct server *server = userdata;

	server->epoch++;
}

/* How long what was put off waits; is_through: all that waited had its turn. */
static uint64_t pause_usec(struct server *server, bool is_through)
{
	uint64_t now = loop_now();

	if (server->n_served > 1)
		server->shared_at = now;
	server->n_crowded = list_is_empty(&server->woken) ? 0 : server->n_crowded + 1;
	return is_through && server->n_crowded > LIMIT_CROWDED_TURNS &&
			       now - server->shared_at < LIMIT_CROWDED_SPAN_USEC
		       ? LIMIT_CROWDED_USEC
		       : 0;
}

static void on_wake(void *userdata)
{
	struct list waiting = LIST_INIT(waiting);
	struct server *server = userdata;
	uint64_t usec;

	server->turn++;
	server->is_waking = true;
	/* Those that come while these have their turn, some of these among them, are for the next.
	 */
	list_splice(&waiting, &server->woken);
	for (unsigned i = 0; i < LIMIT_WAKE_BATCH && !list_is_empty(&waiting); i++) {
		struct session *session = LIST_ENTRY(waiting.next, struct session, woken_link);

		list_unlink(&session->woken_link);
		session_turn(session, 0);
	}
	usec = pause_usec(server, list_is_empty(&waiting));
	list_splice(&waiting, &server->woken);
	list_splice(&server->woken, &waiting);
	server->is_waking = false;
	server->n_served = 0;
	if (!list_is_empty(&server->woken) && !loop_timer_is_armed(server->wake_timer))
		loop_timer_arm(server->wake_timer, usec);
}

static void on_listing(void *userdata)
{
	struct server *server = userdata;
	struct session *session;

	if (list_is_empty(&server->listings))
		return;
	session = LIST_ENTRY(server->listings.next, struct listing, link)->session;
	/* To the end of the row: many listings share the loop's turns. */
	list_unlink(&session->listing->link);
	list_append(&server->listings, &session->listing->link);
	session_turn(session, 0);
	if (!list_is_empty(&server->listings))
		loop_timer_arm(server->listing_timer, 0);
}

/* Clients believe what they see in memory for two of Consul's waits. */
static void on_heartbeat(void *userdata)
{
	struct server *server = userdata;
	uint64_t wait_usec = server->config->wait_usec;

	if (server->n_sessions == 0)
		return;
	genfile_beat(server->genfile, 2 * wait_usec);
	loop_timer_arm(server->heartbeat, wait_usec / 2);
}

/* A quarter of the descriptors stays for snapshots, the source and root. */
static unsigned count_places(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > UINT32_MAX)
		return UINT32_MAX;
	return (unsigned)(limit.rlim_cur - limit.rlim_cur / 4);
}

static int server_init(struct server *server)
{
	int r;

	r = guard_new(server->loop, &server->guard);
	if (r < 0)
		return r;
	server->in = malloc(SERVER_IN);
	server->out = malloc(SERVER_OUT);
	if (!server->in || !server->out)
		return -ENOMEM;
	r = loop_timer_new(server->loop, on_epoch_end, server, &server->epoch_timer);
	if (r == 0)
		r = loop_timer_new(server->loop, on_wake, server, &server->wake_timer);
	if (r == 0)
		r = loop_timer_new(server->loop, on_listing, server, &server->listing_timer);
	if (r == 0)
		r = loop_timer_new(server->loop, on_heartbeat, server, &server->heartbeat);
	if (r == 0)
		r = deadlines_init(
			&server->hellos, server->loop, LIMIT_HELLO_USEC, session_on_deadline);
	if (r == 0)
		r = deadlines_init(
			&server->requests, server->loop, LIMIT_REQUEST_USEC, session_on_deadline);
	if (r == 0)
		r = deadlines_init(
			&server->stalls, server->loop, LIMIT_STALL_USEC, session_on_deadline);
	if (r == 0)
		r = deadlines_init(
			&server->pins, server->loop, LIMIT_PIN_USEC, session_on_pin_deadline);
	return r;
}

int server_new(struct loop *loop, struct services *services, const struct source *source,
	struct genfile *genfile, const struct config *config, struct server **ret_server)
{
	struct server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return -ENOMEM;
	server->loop = loop;
	server->services = services;
	server->source = source;
	server->genfile = genfile;
	server->config = config;
	server->started_at = server->unused_since = loop_now();
	server->max_sessions = count_places();
	server->epoch = server->turn = 1;
	list_init(&server->sessions);
	list_init(&server->woken);
	list_init(&server->listings);
	users_init(&server->users);
	r = server_init(server);
	if (r < 0) {
		server_free(server);
		return r;
	}
	*ret_server = server;
	return 0;
}

struct server *server_free(struct server *server)
{
	if (!server)
		return NULL;
	while (!list_is_empty(&server->sessions))
		session_free(LIST_ENTRY(server->sessions.next, struct session, link));
	deadlines_done(&server->pins);
	deadlines_done(&server->stalls);
	deadlines_done(&server->requests);
	deadlines_done(&server->hellos);
	loop_timer_free(server->heartbeat);
	loop_timer_free(server->listing_timer);
	loop_timer_free(server->wake_timer);
	loop_timer_free(server->epoch_timer);
	free(server->out);
	free(server->in);
	guard_free(server->guard);
	free(server);
	return NULL;
}

void server_configure(struct server *server, const struct config *config)
{
	server->config = config;
	server->epoch++;
}

unsigned server_epoch(struct server *server)
{
	if (!loop_timer_is_armed(server->epoch_timer))
		loop_timer_arm(server->epoch_timer, LIMIT_DECISION_USEC);
	return server->epoch;
}

uint64_t server_unused_usec(const struct server *server)
{
	return server->n_sessions > 0 ? 0 : loop_now() - server->unused_since;
}

void server_start_heartbeat(struct server *server)
{
	if (!loop_timer_is_armed(server->heartbeat))
		on_heartbeat(server);
}

unsigned server_share(struct server *server, struct user *user)
{
	if (user->share_turn != server->turn) {
		user->share_turn = server->turn;
		server->n_served++;
		user->share = server_is_shared(server) ? LIMIT_SHARE_COST : LIMIT_TURN_COST;
	}
	return user->share;
}

bool server_is_shared(const struct server *server)
{
	return server->users.n > 1;
}

size_t server_share_bytes(const struct server *server)
{
	return server_is_shared(server) ? LIMIT_SHARE_BYTES : SIZE_MAX;
}

void server_wake(struct server *server, struct session *session)
{
	if (list_is_empty(&session->woken_link))
		list_append(&server->woken, &session->woken_link);
	/* News are not kept waiting. */
	if (session->is_woken || (!server->is_waking && !loop_timer_is_armed(server->wake_timer)))
		loop_timer_arm(server->wake_timer, 0);
}

void server_complain(struct server *server, uid_t uid, const char *what)
{
	uint64_t now = loop_now();

	if (server->complained_at != 0 && now - server->complained_at < LIMIT_COMPLAINT_USEC) {
		server->n_unsaid++;
		return;
	}
	if (server->n_unsaid > 0)
		log_event(LOG_LEVEL_WARNING, ABOUT(LOG_CLIENT_REFUSED),
			"client of user %u: %s (and %u such lines left out)", (unsigned)uid, what,
			server->n_unsaid);
	else
		log_event(LOG_LEVEL_WARNING, ABOUT(LOG_CLIENT_REFUSED), "client of user %u: %s",
			(unsigned)uid, what);
	server->complained_at = now;
	server->n_unsaid = 0;
}
