#include "daemon/command.h"

#include "daemon/explain.h"
#include "daemon/listing.h"
#include "daemon/lookups.h"
#include "daemon/operator.h"
#include "daemon/order.h"
#include "daemon/paging.h"
#include "daemon/pending.h"
#include "daemon/pinning.h"
#include "daemon/status.h"
#include "proto/key.h"

/* Prices next to a lookup's, which is 1; see LIMIT_TURN_COST. */
#define COST_DECISION 16 /* access rules are looked through */
#define COST_OPEN 256 /* a service may have to be started */
#define COST_PENDING 16
#define COST_DESCRIPTOR 8
#define COST_LISTING 1024
#define COST_OPERATION 1024
#define COST_PAGE 256

struct request {
	struct reply reply;
	struct wire_request wire;
	struct opened *opened; /* when the command needs a service */
};

static void refuse_name(const struct request *request)
{
	reply_text(&request->reply, WIRE_BAD_NAME,
		"not a service name: 1 to %d of A-Z a-z 0-9 . _ - and no . _ - in front",
		LIMIT_SERVICE_NAME);
}

static void refuse_key(const struct request *request)
{
	reply_text(&request->reply, WIRE_BAD_NAME, "not a key: 1 to %d bytes of UTF-8 without NUL",
		LIMIT_KEY);
}

static void refuse_malformed(const struct reply *reply, const char *why)
{
	reply_text(reply, WIRE_BAD_REQUEST, "%s", why);
	server_complain(reply->session->server, reply->session->peer.uid, why);
	session_end(reply->session);
}

/* name_len bytes were found to be a name: this is what ends it. */
static bool may_read(struct session *session, const char *name, size_t name_len)
{
	struct opened *opened = opened_find(&session->openings, name, name_len);
	char service[LIMIT_SERVICE_NAME + 1] = "";

	if (opened && !opened->is_hidden)
		return opened_may_read(opened);
	session_spend(session, COST_DECISION);
	memcpy(service, name, name_len);
	return access_may_read(session->server->config, &session->peer, service);
}

static void close_opened(struct session *session, struct opened *opened)
{
	pending_close(opened);
	if (session->pinned_from == opened)
		session_pin(session, NULL, NULL);
	opened_free(opened);
}

/* name_len bytes were found to be a name. */
static bool is_hidden(struct session *session, const char *name, size_t name_len)
{
	char service[LIMIT_SERVICE_NAME + 1] = "";

	memcpy(service, name, name_len);
	return access_is_hidden(session->server->config, &session->peer, service);
}

/* The service that the request names, opened when it is not yet. False: refused, and said so. */
static bool take_service(struct request *request)
{
	struct session *session = request->reply.session;
	const char *name = request->wire.service;
	size_t len = request->wire.service_len;
	bool hide;
	int r;

	request->opened = opened_find(&session->openings, name, len);
	if (request->opened && opened_may_read(request->opened))
		return true;
	if (!key_is_service_name(name, len)) {
		refuse_name(request);
		return false;
	}
	hide = is_hidden(session, name, len);
	if (!hide && !may_read(session, name, len)) {
		reply_denied(&request->reply, name, len);
		return false;
	}
	/* It was opened as the other of the two: the service, and what hides it. */
	if (request->opened)
		close_opened(session, request->opened);
	session_spend(session, COST_OPEN);
	r = opened_new(session, name, len, hide, &request->opened);
	if (r < 0)
		reply_not_opened(&request->reply, name, len, r);
	return r == 0;
}

/* The snapshot to answer from. NULL: there is none yet, and it was said. */
static struct snapshot *take_snapshot(const struct request *request)
{
	struct service *service = request->opened->service;

	if (!service->snapshot)
		reply_no_data(&request->reply, service);
	return service->snapshot;
}

static void handle_hello(struct request *request)
{
	static const char version[] = CONSULCFGD_VERSION;
	struct session *session = request->reply.session;
	bool reads_images = request->wire.image_major >= IMAGE_MAJOR;
	struct wire_hello_reply hello = {
		.major = le16_of(WIRE_MAJOR),
		.minor = le16_of(WIRE_MINOR),
		.image_major = le16_of(reads_images ? IMAGE_MAJOR : 0),
		.pid = le32_of((uint32_t)getpid()),
	};
	uint8_t *at;

	if (request->wire.min_major > WIRE_MAJOR || request->wire.max_major < WIRE_MAJOR) {
		reply_text(&request->reply, WIRE_UNSUPPORTED,
			"this daemon speaks version %d of the protocol, the client %u to %u",
			WIRE_MAJOR, request->wire.min_major, request->wire.max_major);
		session_end(session);
		return;
	}
	session->has_hello = true;
	at = reply_begin(session, sizeof(hello) + sizeof(version));
	memcpy(at, &hello, sizeof(hello));
	memcpy(at + sizeof(hello), version, sizeof(version) - 1);
	reply_end(&request->reply, WIRE_OK, sizeof(hello) + sizeof(version) - 1);
}

static uint64_t expiry_of(uint32_t timeout_ms)
{
	return timeout_ms == WIRE_FOREVER ? PENDING_FOREVER
					  : loop_now() + timeout_ms * USEC_PER_MSEC;
}

static void wait_for_change(const struct request *request, uint64_t generation, uint64_t expires_at)
{
	int r = pending_new(&request->reply, request->opened, generation, expires_at);

	session_spend(request->reply.session, COST_PENDING);
	if (r == -ENOBUFS)
		reply_text(&request->reply, WIRE_LIMIT, "%d requests of this connection wait",
			LIMIT_PENDING_REQUESTS);
	else if (r < 0)
		reply_text(&request->reply, WIRE_INTERNAL, "%s", strerror(-r));
}

static void handle_open(struct request *request)
{
	const struct service *service = request->opened->service;

	if (service->snapshot)
		reply_info(&request->reply, service);
	else if (request->wire.timeout_ms == 0)
		reply_no_data(&request->reply, service);
	else
		wait_for_change(request, 0, expiry_of(request->wire.timeout_ms));
}

static void handle_watch(struct request *request)
{
	struct service *service = request->opened->service;

	if (service_has_news_for(service, request->wire.generation))
		reply_info(&request->reply, service);
	else
		wait_for_change(request, request->wire.generation, PENDING_FOREVER);
}

static void handle_fetch(struct request *request)
{
	struct service *service = request->opened->service;
	uint32_t timeout_ms = request->wire.timeout_ms;

	session_spend(request->reply.session, COST_DESCRIPTOR);
	if (service_has_news_for(service, request->wire.generation))
		reply_snapshot(&request->reply, service);
	else if (timeout_ms > 0)
		wait_for_change(request, request->wire.generation, expiry_of(timeout_ms));
	else if (service->snapshot)
		reply_keep(&request->reply, service);
	else
		reply_no_data(&request->reply, service);
}

static void handle_genfile(struct request *request)
{
	struct session *session = request->reply.session;
	int fd;

	session_spend(session, COST_DESCRIPTOR);
	if (!session_may_pass(session)) {
		reply_text(&request->reply, WIRE_LIMIT,
			"%d descriptors wait on this connection; read the replies first",
			LIMIT_DESCRIPTORS);
		return;
	}
	fd = genfile_open_fd(session->server->genfile);
	if (fd < 0) {
		reply_text(&request->reply, WIRE_UNSUPPORTED, "no descriptor: %s", strerror(-fd));
		return;
	}
	session_pass(session, fd);
	reply_bytes(&request->reply, WIRE_OK, NULL, 0);
}

static void handle_close(struct request *request)
{
	struct session *session = request->reply.session;
	struct opened *opened;

	session_spend(session, COST_PENDING);
	if (!key_is_service_name(request->wire.service, request->wire.service_len)) {
		refuse_name(request);
		return;
	}
	opened = opened_find(&session->openings, request->wire.service, request->wire.service_len);
	if (opened)
		close_opened(session, opened);
	reply_bytes(&request->reply, WIRE_OK, NULL, 0);
}

static void handle_get(struct request *request)
{
	struct snapshot *snapshot = take_snapshot(request);
	struct record record;
	le64 generation;

	if (!snapshot)
		return;
	if (image_find(&snapshot->image, request->wire.key, request->wire.key_len, &record)) {
		generation = le64_of(snapshot->generation);
		reply_value(&request->reply, &generation, sizeof(generation), snapshot, &record);
	} else if (key_check(request->wire.key, request->wire.key_len) < 0) {
		refuse_key(request);
	} else {
		reply_text(&request->reply, WIRE_NO_KEY, "no such key");
	}
}

static void handle_mget(struct request *request)
{
	struct snapshot *snapshot = take_snapshot(request);

	if (snapshot)
		lookups_reply(&request->reply, snapshot, &request->wire);
}

static void handle_list(struct request *request)
{
	if (!take_snapshot(request))
		return;
	session_spend(request->reply.session, COST_PAGE);
	paging_reply(&request->reply, request->opened, &request->wire);
}

static void handle_explain(struct request *request)
{
	const char *key = request->wire.key;
	size_t len = request->wire.key_len;

	if (key_check(key, len) < 0) {
		refuse_key(request);
		return;
	}
	session_spend(request->reply.session, COST_LISTING);
	explain_reply(&request->reply, request->opened->service, key, len);
}

static void reply_json(const struct request *request, struct json *json)
{
	const char *text;
	size_t len;
	uint8_t *at;

	if (json_text(json, &text, &len) < 0) {
		reply_text(&request->reply, WIRE_INTERNAL, "%s", strerror(ENOMEM));
		return;
	}
	at = reply_begin(request->reply.session, 2 + len);
	memset(at, 0, 2);
	memcpy(at + 2, text, len);
	reply_end(&request->reply, WIRE_OK, 2 + len);
}

/* Of the daemon, or of a service. */
static void reply_status(const struct request *request, const struct service *service)
{
	struct json *json;
	int r;

	r = json_new(&json);
	if (r < 0) {
		reply_text(&request->reply, WIRE_INTERNAL, "%s", strerror(-r));
		return;
	}
	if (service)
		status_service(service, json);
	else
		status_daemon(request->reply.session->server, json);
	reply_json(request, json);
	json_free(json);
}

/* As the client sees it: one that is hidden from it has a status of its own. NULL: nobody uses it.
 */
static const struct service *find_visible(
	struct session *session, const char *name, size_t name_len, bool hide)
{
	char inner[1 + LIMIT_SERVICE_NAME] = { SERVICE_HIDDEN };

	memcpy(inner + 1, name, name_len);
	return services_find(session->server->services, inner + !hide, name_len + hide);
}

static void reply_service_status(const struct request *request)
{
	struct session *session = request->reply.session;
	const char *name = request->wire.key;
	size_t len = request->wire.key_len;
	bool is_operator = access_is_operator(session->server->config, &session->peer), hide;
	const struct service *service;

	if (!key_is_service_name(name, len)) {
		refuse_name(request);
		return;
	}
	hide = !is_operator && is_hidden(session, name, len);
	if (!is_operator && !hide && !may_read(session, name, len)) {
		reply_denied(&request->reply, name, len);
		return;
	}
	service = find_visible(session, name, len, hide);
	if (service)
		reply_status(request, service);
	else
		reply_text(&request->reply, WIRE_NO_KEY,
			"nobody uses %.*s now; `consulcfg-get` or any client opens it", (int)len,
			name);
}

static void list_services(const struct request *request)
{
	const char *after = request->wire.key;
	size_t len = request->wire.key_len;
	int r;

	if (len > 0 && !key_is_service_name(after, len)) {
		refuse_name(request);
		return;
	}
	session_spend(request->reply.session, COST_LISTING);
	r = listing_new(&request->reply, after, len);
	if (r < 0)
		reply_text(&request->reply, WIRE_INTERNAL, "%s", strerror(-r));
	else
		listing_step(request->reply.session->listing);
}

static void handle_status(struct request *request)
{
	session_spend(request->reply.session, COST_DECISION);
	switch ((enum wire_status_what)request->wire.what) {
	case WIRE_STATUS_DAEMON:
		reply_status(request, NULL);
		return;
	case WIRE_STATUS_SERVICES:
		list_services(request);
		return;
	case WIRE_STATUS_SERVICE:
		reply_service_status(request);
		return;
	}
	reply_text(&request->reply, WIRE_UNSUPPORTED, "unknown kind of status");
}

static void handle_accept(struct request *request)
{
	session_spend(request->reply.session, COST_OPERATION);
	operator_accept(&request->reply, &request->wire);
}

static void handle_resync(struct request *request)
{
	session_spend(request->reply.session, COST_OPERATION);
	operator_resync(&request->reply, &request->wire);
}

static bool is_operator(const struct session *session)
{
	return access_is_operator(session->server->config, &session->peer);
}

static bool take_name(const struct request *request, char ret_name[LIMIT_SERVICE_NAME + 1])
{
	const char *name = request->wire.service;
	size_t len = request->wire.service_len;

	session_spend(request->reply.session, COST_OPEN);
	if (!key_is_service_name(name, len)) {
		refuse_name(request);
		return false;
	}
	memcpy(ret_name, name, len);
	ret_name[len] = '\0';
	return true;
}

/*
 * What the disk has is shown to who may read the service, and to operators. From whom it is hidden,
 * to them the disk has nothing.
 */
static bool take_kept(
	const struct request *request, char ret_name[LIMIT_SERVICE_NAME + 1], bool *ret_hide)
{
	struct session *session = request->reply.session;
	size_t len = request->wire.service_len;

	if (!take_name(request, ret_name))
		return false;
	*ret_hide = !is_operator(session) && is_hidden(session, ret_name, len);
	if (is_operator(session) || *ret_hide || may_read(session, ret_name, len))
		return true;
	reply_denied(&request->reply, ret_name, len);
	return false;
}

static void handle_history(struct request *request)
{
	char name[LIMIT_SERVICE_NAME + 1];
	bool hide;

	if (take_kept(request, name, &hide))
		pinning_history(&request->reply, name, hide);
}

static void handle_recall(struct request *request)
{
	char name[LIMIT_SERVICE_NAME + 1];
	bool hide;

	if (take_kept(request, name, &hide))
		pinning_recall(&request->reply, name, request->wire.generation, hide);
}

static void handle_preview(struct request *request)
{
	char name[LIMIT_SERVICE_NAME + 1];
	bool hide;

	if (take_kept(request, name, &hide))
		pinning_preview(&request->reply, name, hide);
}

static void handle_pin(struct request *request)
{
	char name[LIMIT_SERVICE_NAME + 1];

	if (!take_name(request, name))
		return;
	if (operator_check(&request->reply))
		order_take(&request->reply, name, &request->wire);
}

static const struct {
	void (*fn)(struct request *request);
	bool needs_service;
} commands[] = {
	[WIRE_HELLO] = { handle_hello, false },
	[WIRE_OPEN] = { handle_open, true },
	[WIRE_CLOSE] = { handle_close, false },
	[WIRE_GET] = { handle_get, true },
	[WIRE_MGET] = { handle_mget, true },
	[WIRE_LIST] = { handle_list, true },
	[WIRE_WATCH] = { handle_watch, true },
	[WIRE_STATUS] = { handle_status, false },
	[WIRE_FETCH] = { handle_fetch, true },
	[WIRE_GENFILE] = { handle_genfile, false },
	[WIRE_ACCEPT] = { handle_accept, false },
	[WIRE_RESYNC] = { handle_resync, false },
	[WIRE_EXPLAIN] = { handle_explain, true },
	[WIRE_HISTORY] = { handle_history, false },
	[WIRE_RECALL] = { handle_recall, false },
	[WIRE_PIN] = { handle_pin, false },
	[WIRE_PREVIEW] = { handle_preview, false },
};

void command_handle(struct session *session, const struct wire_header *header, const void *payload)
{
	unsigned op = le16_get(header->op);
	struct request request = {
		.reply = { session, le16_get(header->op), le32_get(header->tag) },
	};
	int r;

	session_spend(session, 1);
	if ((op == WIRE_HELLO) == session->has_hello) {
		refuse_malformed(&request.reply,
			session->has_hello ? "a second HELLO" : "no HELLO in front");
		return;
	}
	r = wire_parse(op, payload, le32_get(header->length), &request.wire);
	if (r == -EOPNOTSUPP)
		reply_text(&request.reply, WIRE_UNSUPPORTED, "unknown request %u", op);
	else if (r < 0)
		refuse_malformed(&request.reply, "a malformed request");
	else if (!commands[op].needs_service || take_service(&request))
		commands[op].fn(&request);
}

void command_refuse(struct session *session, const struct wire_header *header)
{
	struct reply reply = { session, le16_get(header->op), le32_get(header->tag) };

	refuse_malformed(&reply, "a malformed header");
}
