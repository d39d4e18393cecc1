#include "daemon/admin.h"

#include <stdio.h>

#include "daemon/admin-page.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/status.h"
#include "daemon/web-address.h"
#include "daemon/web.h"

#define TEXT "text/plain; charset=utf-8"
#define SLICE_SERVICES 64 /* well below 1 ms */

/* In name order, hidden services come first: those are nobody's. */
static const char behind_hidden[] = { SERVICE_HIDDEN + 1, '\0' };

/* One address, and what may be asked for there. */
struct port {
	struct admin *admin;
	const char *name; /* the key in consulcfgd.conf */
	char *where; /* as configured; NULL: off */
	bool is_full; /* not only metrics and health */
	struct web_address address;
	struct web *web;
};

struct admin {
	struct server *server;
	const struct config *config;
	struct port ports[2];
};

/* --- status.json --------------------------------------------------------------------------- */

enum phase { LISTING_DAEMON, LISTING_SERVICES, LISTING_CHANGES };

struct listing {
	struct admin *admin;
	enum phase phase;
	char last[sizeof(((struct service *)NULL)->name)];
	uint64_t next; /* number of a change; newer ones have come since */
	bool has_some; /* of the array that is open */
};

static void put_text(struct web_reply *reply, const char *text)
{
	web_write(reply, text, strlen(text));
}

/* False: there are no more. */
static bool put_services(struct listing *listing, struct json *json)
{
	struct services *services = listing->admin->server->services;

	for (unsigned i = 0; i < SLICE_SERVICES && json_size(json) < LIMIT_WEB_PIECE; i++) {
		struct service *service = services_next(services, listing->last);

		if (!service)
			return false;
		memcpy(listing->last, service->name, sizeof(listing->last));
		if (i > 0)
			json_next(json);
		status_service(service, json);
	}
	return true;
}

/* The newest first; the oldest may give way meanwhile. */
static bool put_changes(struct listing *listing, struct json *json)
{
	const struct changes *changes = services_changes(listing->admin->server->services);
	const struct change *change;

	for (bool is_first = true; json_size(json) < LIMIT_WEB_PIECE; is_first = false) {
		change = changes_find(changes, listing->next);
		if (!change)
			return false;
		listing->next--;
		if (!is_first)
			json_next(json);
		status_change(change, json);
	}
	return true;
}

/* One piece of an array. 1: there is more, 0: it has ended, -errno. */
static int put_some(struct listing *listing, struct web_reply *reply, struct json *json,
	bool (*put)(struct listing *, struct json *))
{
	bool has_more = put(listing, json);
	const char *text;
	size_t len;
	int r = json_text(json, &text, &len);

	if (r < 0)
		return r;
	if (len > 0 && listing->has_some)
		put_text(reply, ", ");
	web_write(reply, text, len);
	listing->has_some |= len > 0;
	return has_more;
}

static int put_daemon(struct listing *listing, struct web_reply *reply, struct json *json)
{
	const char *text;
	size_t len;
	int r;

	status_daemon(listing->admin->server, json);
	r = json_text(json, &text, &len);
	if (r < 0)
		return r;
	put_text(reply, "{\"daemon\": ");
	web_write(reply, text, len);
	return 0;
}

/* 1: there is more; 0: that was all; -errno. */
static int list_phase(struct listing *listing, struct web_reply *reply, struct json *json)
{
	static const char *const behind[] = {
		[LISTING_DAEMON] = ", \"services\": [",
		[LISTING_SERVICES] = "], \"changes\": [",
		[LISTING_CHANGES] = "]}\n",
	};
	int r = listing->phase == LISTING_DAEMON
			? put_daemon(listing, reply, json)
			: put_some(listing, reply, json,
				  listing->phase == LISTING_SERVICES ? put_services : put_changes);

	if (r != 0)
		return r;
	put_text(reply, behind[listing->phase]);
	listing->has_some = false;
	return listing->phase++ < LISTING_CHANGES;
}

static int list_some(struct web_reply *reply, void *userdata)
{
	struct json *json;
	int r = json_new(&json);

	if (r < 0)
		return r;
	r = list_phase(userdata, reply, json);
	json_free(json);
	return r;
}

static void answer_status(struct admin *admin, struct web_reply *reply)
{
	struct listing *listing = calloc(1, sizeof(*listing));

	if (!listing) {
		web_send(reply, 503, TEXT, "out of memory\n", 14);
		return;
	}
	listing->admin = admin;
	strcpy(listing->last, behind_hidden);
	listing->next = changes_newest(services_changes(admin->server->services));
	web_stream(reply, "application/json", list_some, free, listing);
}

/* --- metrics ------------------------------------------------------------------------------- */

static int list_metrics(struct web_reply *reply, void *userdata)
{
	struct buffer text = { 0 };
	int r = metrics_step(userdata, &text);

	web_write(reply, (const char *)buffer_bytes(&text), text.len);
	buffer_done(&text);
	return r;
}

static void free_metrics(void *userdata)
{
	metrics_free(userdata);
}

static void answer_metrics(struct admin *admin, struct web_reply *reply)
{
	struct metrics *metrics;

	if (metrics_new(admin->server, &metrics) < 0)
		web_send(reply, 503, TEXT, "out of memory\n", 14);
	else
		web_stream(reply, "text/plain; version=0.0.4; charset=utf-8", list_metrics,
			free_metrics, metrics);
}

/* --- health -------------------------------------------------------------------------------- */

/* Serving is healthy, also what is old: restarting the daemon would not make it newer. */
static void answer_health(struct web_reply *reply)
{
	web_send(reply, 200, TEXT, "ok\n", 3);
}

static void answer_readiness(struct admin *admin, struct web_reply *reply)
{
	struct services *services = admin->server->services;
	unsigned n_loading = 0;
	char text[64];
	int len;

	for (struct service *service = services_next(services, behind_hidden); service;
		service = services_next(services, service->name))
		if (!service->snapshot)
			n_loading++;
	len = snprintf(text, sizeof(text),
		n_loading > 0 ? "%u services have no data yet\n" : "ok\n", n_loading);
	web_send(reply, n_loading > 0 ? 503 : 200, TEXT, text, (size_t)len);
}

/* --- requests ------------------------------------------------------------------------------ */

static void on_request(struct web_reply *reply, const char *path, void *userdata)
{
	struct port *port = userdata;
	const struct admin_page *page = port->is_full ? admin_page_find(path) : NULL;
	static const char none[] = "there is nothing here\n";

	if (std_streq(path, "/healthz"))
		answer_health(reply);
	else if (std_streq(path, "/readyz"))
		answer_readiness(port->admin, reply);
	else if (std_streq(path, "/metrics"))
		answer_metrics(port->admin, reply);
	else if (port->is_full && std_streq(path, "/status.json"))
		answer_status(port->admin, reply);
	else if (page)
		web_send(reply, 200, page->type, page->text, page->len);
	else
		web_send(reply, 404, TEXT, none, sizeof(none) - 1);
}

/* --- life ---------------------------------------------------------------------------------- */

static void close_port(struct port *port)
{
	if (port->web) {
		web_address_remove(&port->address);
		port->web = web_free(port->web);
	}
	free(port->where);
	port->where = NULL;
}

static int open_port(struct port *port)
{
	const struct config *config = port->admin->config;
	AUTO_CLOSE int fd = -1;
	int r = web_address_parse(port->where, &port->address);

	if (r < 0 || port->address.is_off)
		return r;
	r = web_address_listen(&port->address, &fd);
	if (r < 0)
		return r;
	r = web_new(port->admin->server->loop, config->allowed_hosts, config->n_allowed_hosts,
		on_request, port, &port->web);
	if (r == 0)
		r = web_listen(port->web, fd);
	if (r < 0)
		return r;
	(void)TAKE_FD(fd);
	return 0;
}

static void configure_port(struct port *port, const char *where)
{
	const struct config *config = port->admin->config;
	int r;

	if (port->web && where && std_streq(port->where, where)) {
		web_set_hosts(port->web, config->allowed_hosts, config->n_allowed_hosts);
		return;
	}
	close_port(port);
	if (!where)
		return;
	port->where = strdup(where);
	r = port->where ? open_port(port) : -ENOMEM;
	if (r == 0)
		return;
	log_event(LOG_LEVEL_ERROR, ABOUT(LOG_ADMIN_FAILED),
		"cannot listen at %s: %s; see %s= of [admin]; going on without", where,
		strerror(-r), port->name);
	port->web = web_free(port->web);
}

void admin_configure(struct admin *admin, const struct config *config)
{
	const char *const where[] = { config->admin_listen, config->metrics_listen };

	admin->config = config;
	for (size_t i = 0; i < ARRAY_SIZE(admin->ports); i++)
		configure_port(&admin->ports[i], where[i]);
}

int admin_new(struct server *server, const struct config *config, struct admin **ret_admin)
{
	struct admin *admin = calloc(1, sizeof(*admin));

	if (!admin)
		return -ENOMEM;
	admin->server = server;
	admin->ports[0] = (struct port){ .admin = admin, .name = "listen", .is_full = true };
	admin->ports[1] = (struct port){ .admin = admin, .name = "metrics_listen" };
	admin_configure(admin, config);
	*ret_admin = admin;
	return 0;
}

struct admin *admin_free(struct admin *admin)
{
	if (!admin)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(admin->ports); i++)
		close_port(&admin->ports[i]);
	free(admin);
	return NULL;
}
