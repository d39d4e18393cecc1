#include "daemon/web.h"

#include <arpa/inet.h>
#include <strings.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>

#include "daemon/list.h"
#include "proto/limits.h"

#define MAX_LISTENERS 4
#define SWEEP_USEC USEC_PER_SEC
#define NOT_ALLOWED 405
#define MISDIRECTED 421

struct web {
	struct loop *loop;
	struct evhttp *http;
	char *const *hosts;
	unsigned n_hosts;
	web_fn fn;
	void *userdata;
	struct evconnlistener *listeners[MAX_LISTENERS];
	unsigned n_listeners;
	bool is_closed; /* the door, for a while */
	struct list visitors;
	unsigned n_visitors;
	struct list streams; /* web_reply::link */
	struct loop_timer *sweep;
};

/* A connection. evhttp does not tell when one ends: what it has let go of is found by a sweep. */
struct visitor {
	struct list link;
	struct bufferevent *bev; /* a reference of our own */
	uint64_t since;
};

struct web_reply {
	struct web *web;
	struct evhttp_request *request;
	/* Of a reply in pieces. */
	struct list link;
	struct evbuffer *piece;
	struct loop_timer *turn;
	web_piece_fn piece_fn;
	void (*free_fn)(void *userdata);
	void *userdata;
};

/* --- visitors ------------------------------------------------------------------------------ */

static void open_door(struct web *web, bool is_open)
{
	if (web->is_closed == !is_open)
		return;
	web->is_closed = !is_open;
	for (unsigned i = 0; i < web->n_listeners; i++) {
		if (is_open)
			evconnlistener_enable(web->listeners[i]);
		else
			evconnlistener_disable(web->listeners[i]);
	}
}

static void start_sweeping(struct web *web)
{
	if (!loop_timer_is_armed(web->sweep))
		loop_timer_arm(web->sweep, SWEEP_USEC);
}

/* Called for each connection that comes in. */
static struct bufferevent *on_visitor(struct event_base *base, void *userdata)
{
	struct web *web = userdata;
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	struct visitor *visitor = calloc(1, sizeof(*visitor));

	if (!bev || !visitor) {
		free(visitor);
		return bev;
	}
	bufferevent_incref(bev);
	visitor->bev = bev;
	visitor->since = loop_now();
	list_append(&web->visitors, &visitor->link);
	if (++web->n_visitors >= LIMIT_WEB_VISITORS)
		open_door(web, false);
	start_sweeping(web);
	return bev;
}

static void forget(struct web *web, struct visitor *visitor)
{
	list_unlink(&visitor->link);
	web->n_visitors--;
	bufferevent_decref(visitor->bev);
	free(visitor);
}

/* evhttp took its callbacks away when it let go of the connection. */
static bool has_left(const struct visitor *visitor)
{
	bufferevent_event_cb event_cb = NULL;

	bufferevent_getcb(visitor->bev, NULL, NULL, &event_cb, NULL);
	return !event_cb;
}

static void on_sweep(void *userdata)
{
	struct web *web = userdata;
	uint64_t now = loop_now();
	struct list *node, *next;

	for (node = web->visitors.next; node != &web->visitors; node = next) {
		struct visitor *visitor = LIST_ENTRY(node, struct visitor, link);

		next = node->next;
		if (has_left(visitor))
			forget(web, visitor);
		else if (now - visitor->since >= LIMIT_WEB_VISIT_USEC)
			shutdown(bufferevent_getfd(visitor->bev), SHUT_RDWR);
	}
	if (web->n_visitors < LIMIT_WEB_VISITORS)
		open_door(web, true);
	if (web->n_visitors > 0 || web->is_closed)
		start_sweeping(web);
}

/* Out of descriptors: the listener would spin on what it cannot take. */
static void on_accept_error(struct evconnlistener *listener, void *userdata)
{
	(void)listener;
	open_door(userdata, false);
	start_sweeping(userdata);
}

/* --- replies ------------------------------------------------------------------------------- */

static void put_headers(struct evhttp_request *request, const char *type)
{
	static const char *const headers[][2] = {
		{ "Cache-Control", "no-store" },
		{ "Connection", "close" },
		{ "Content-Security-Policy",
			"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
			"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" },
		{ "Referrer-Policy", "no-referrer" },
		{ "X-Content-Type-Options", "nosniff" },
	};
	struct evkeyvalq *out = evhttp_request_get_output_headers(request);

	evhttp_add_header(out, "Content-Type", type);
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
		evhttp_add_header(out, headers[i][0], headers[i][1]);
}

void web_send(struct web_reply *reply, int status, const char *type, const char *text, size_t len)
{
	struct evbuffer *body = evbuffer_new();

	put_headers(reply->request, type);
	if (body)
		evbuffer_add(body, text, len);
	evhttp_send_reply(reply->request, status, NULL, body);
	if (body)
		evbuffer_free(body);
}

static void stream_free(struct web_reply *stream)
{
	list_unlink(&stream->link);
	loop_timer_free(stream->turn);
	evbuffer_free(stream->piece);
	stream->free_fn(stream->userdata);
	free(stream);
}

/* evhttp leaves the request to us when its connection goes before the reply has ended. */
static void on_gone(struct evhttp_connection *connection, void *userdata)
{
	struct web_reply *stream = userdata;
	struct evhttp_request *request = stream->request;

	(void)connection;
	stream_free(stream);
	evhttp_send_reply_end(request);
}

static void on_taken(struct evhttp_connection *connection, void *userdata)
{
	struct web_reply *stream = userdata;

	(void)connection;
	loop_timer_arm(stream->turn, 0);
}

static void end_stream(struct web_reply *stream)
{
	struct evhttp_request *request = stream->request;

	evhttp_connection_set_closecb(evhttp_request_get_connection(request), NULL, NULL);
	stream_free(stream);
	evhttp_send_reply_end(request);
}

/* A chunked reply without its last chunk is a cut one. */
static void cut_stream(struct web_reply *stream)
{
	struct bufferevent *bev =
		evhttp_connection_get_bufferevent(evhttp_request_get_connection(stream->request));

	shutdown(bufferevent_getfd(bev), SHUT_RDWR);
}

static void on_turn(void *userdata)
{
	struct web_reply *stream = userdata;
	int r = stream->piece_fn(stream, stream->userdata);

	if (r < 0) {
		cut_stream(stream);
		return;
	}
	if (evbuffer_get_length(stream->piece) > 0 && r > 0) {
		evhttp_send_reply_chunk_with_cb(stream->request, stream->piece, on_taken, stream);
	} else if (r > 0) {
		loop_timer_arm(stream->turn, 0);
	} else {
		evhttp_send_reply_chunk(stream->request, stream->piece);
		end_stream(stream);
	}
}

void web_write(struct web_reply *reply, const char *text, size_t len)
{
	evbuffer_add(reply->piece, text, len);
}

static int stream_new(struct web *web, struct web_reply **ret_stream)
{
	struct web_reply *stream = calloc(1, sizeof(*stream));
	int r;

	if (!stream)
		return -ENOMEM;
	list_init(&stream->link);
	stream->web = web;
	stream->piece = evbuffer_new();
	r = stream->piece ? loop_timer_new(web->loop, on_turn, stream, &stream->turn) : -ENOMEM;
	if (r < 0) {
		if (stream->piece)
			evbuffer_free(stream->piece);
		free(stream);
		return r;
	}
	*ret_stream = stream;
	return 0;
}

void web_stream(struct web_reply *reply, const char *type, web_piece_fn piece,
	void (*free_fn)(void *userdata), void *userdata)
{
	static const char sorry[] = "out of memory\n";
	struct web_reply *stream;

	if (stream_new(reply->web, &stream) < 0) {
		free_fn(userdata);
		web_send(reply, HTTP_SERVUNAVAIL, "text/plain", sorry, sizeof(sorry) - 1);
		return;
	}
	stream->request = reply->request;
	stream->piece_fn = piece;
	stream->free_fn = free_fn;
	stream->userdata = userdata;
	list_append(&reply->web->streams, &stream->link);
	evhttp_connection_set_closecb(
		evhttp_request_get_connection(reply->request), on_gone, stream);
	put_headers(reply->request, type);
	evhttp_send_reply_start(reply->request, HTTP_OK, NULL);
	loop_timer_arm(stream->turn, 0);
}

/* --- requests ------------------------------------------------------------------------------ */

static bool is_address(const char *name)
{
	char bare[INET6_ADDRSTRLEN];
	struct in6_addr any;
	size_t len = strlen(name);

	if (inet_pton(AF_INET, name, &any) == 1)
		return true;
	if (len < 2 || len - 2 >= sizeof(bare) || name[0] != '[' || name[len - 1] != ']')
		return false;
	memcpy(bare, name + 1, len - 2);
	bare[len - 2] = '\0';
	return inet_pton(AF_INET6, bare, &any) == 1;
}

/*
 * A page of somebody else whose name leads here, for a moment, could read everything: only names
 * that are ours are answered to. Browsers always give one; old checkers of health may not.
 */
static bool is_our_name(const struct web *web, const char *name)
{
	if (!name || is_address(name) || strcasecmp(name, "localhost") == 0)
		return true;
	for (unsigned i = 0; i < web->n_hosts; i++)
		if (strcasecmp(name, web->hosts[i]) == 0)
			return true;
	return false;
}

/* A browser says whose page asks; programs say nothing. */
static bool is_of_another_origin(struct evhttp_request *request)
{
	const struct evkeyvalq *in = evhttp_request_get_input_headers(request);
	const char *origin = evhttp_find_header(in, "Origin");
	const char *site = evhttp_find_header(in, "Sec-Fetch-Site");
	const char *host = evhttp_find_header(in, "Host");
	const char *rest;

	if (site && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0)
		return true;
	if (!origin)
		return false;
	rest = strstr(origin, "://");
	return !rest || !host || strcasecmp(rest + 3, host) != 0;
}

static void refuse(struct web_reply *reply, int status, const char *why)
{
	web_send(reply, status, "text/plain; charset=utf-8", why, strlen(why));
}

static void on_request(struct evhttp_request *request, void *userdata)
{
	struct web *web = userdata;
	struct web_reply reply = { .web = web, .request = request };
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;

	if (evhttp_request_get_command(request) != EVHTTP_REQ_GET) {
		evhttp_add_header(evhttp_request_get_output_headers(request), "Allow", "GET");
		refuse(&reply, NOT_ALLOWED, "only GET\n");
	} else if (!is_our_name(web, evhttp_request_get_host(request))) {
		refuse(&reply, MISDIRECTED,
			"this is not the name of this server; see allowed_hosts= of [admin]\n");
	} else if (is_of_another_origin(request)) {
		refuse(&reply, 403, "not for pages of another origin\n");
	} else {
		web->fn(&reply, path && path[0] ? path : "/", web->userdata);
	}
}

/* --- life ---------------------------------------------------------------------------------- */

int web_listen(struct web *web, int fd)
{
	struct evhttp_bound_socket *bound;

	if (web->n_listeners == MAX_LISTENERS)
		return -ENOMEM;
	bound = evhttp_accept_socket_with_handle(web->http, fd);
	if (!bound)
		return -ENOMEM;
	web->listeners[web->n_listeners] = evhttp_bound_socket_get_listener(bound);
	evconnlistener_set_error_cb(web->listeners[web->n_listeners++], on_accept_error);
	return 0;
}

int web_new(struct loop *loop, char *const hosts[], unsigned n_hosts, web_fn fn, void *userdata,
	struct web **ret_web)
{
	struct web *web = calloc(1, sizeof(*web));
	int r;

	if (!web)
		return -ENOMEM;
	web->loop = loop;
	web->hosts = hosts;
	web->n_hosts = n_hosts;
	web->fn = fn;
	web->userdata = userdata;
	list_init(&web->visitors);
	list_init(&web->streams);
	web->http = evhttp_new(loop_event_base(loop));
	r = web->http ? loop_timer_new(loop, on_sweep, web, &web->sweep) : -ENOMEM;
	if (r < 0) {
		web_free(web);
		return r;
	}
	evhttp_set_allowed_methods(web->http, UINT16_MAX);
	evhttp_set_max_headers_size(web->http, LIMIT_WEB_HEADERS);
	evhttp_set_max_body_size(web->http, LIMIT_WEB_HEADERS);
	evhttp_set_timeout(web->http, LIMIT_WEB_IDLE_USEC / USEC_PER_SEC);
	evhttp_set_bevcb(web->http, on_visitor, web);
	evhttp_set_gencb(web->http, on_request, web);
	*ret_web = web;
	return 0;
}

void web_set_hosts(struct web *web, char *const hosts[], unsigned n_hosts)
{
	web->hosts = hosts;
	web->n_hosts = n_hosts;
}

struct web *web_free(struct web *web)
{
	if (!web)
		return NULL;
	while (!list_is_empty(&web->streams))
		end_stream(LIST_ENTRY(web->streams.next, struct web_reply, link));
	if (web->http)
		evhttp_free(web->http);
	while (!list_is_empty(&web->visitors))
		forget(web, LIST_ENTRY(web->visitors.next, struct visitor, link));
	loop_timer_free(web->sweep);
	free(web);
	return NULL;
}
