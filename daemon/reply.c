#include "daemon/reply.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "daemon/service-state.h"

#define REPLY_TEXT 512

static void put_header(const struct reply *reply, enum wire_status status, size_t len, uint8_t *at)
{
	struct wire_header header = wire_header_of(len, reply->op, status, reply->tag);

	memcpy(at, &header, sizeof(header));
}

uint8_t *reply_begin(struct session *session, size_t size)
{
	struct server *server = session->server;

	assert(server->out_len + sizeof(struct wire_header) + size <= SERVER_OUT);
	return server->out + server->out_len + sizeof(struct wire_header);
}

void reply_end(const struct reply *reply, enum wire_status status, size_t len)
{
	struct server *server = reply->session->server;

	put_header(reply, status, len, server->out + server->out_len);
	server->out_len += sizeof(struct wire_header) + len;
	session_spend(reply->session, len / SESSION_BYTES_PER_COST);
}

void reply_bytes(
	const struct reply *reply, enum wire_status status, const void *payload, size_t len)
{
	uint8_t *at = reply_begin(reply->session, len);

	if (len > 0)
		memcpy(at, payload, len);
	reply_end(reply, status, len);
}

void reply_frame(const struct reply *reply, struct buffer *frame)
{
	struct session *session = reply->session;

	assert(session->output.len == 0 && !session->large && session->server->out_len == 0);
	put_header(reply, WIRE_OK, frame->len - sizeof(struct wire_header), frame->data);
	buffer_done(&session->output);
	session->output = *frame;
	*frame = (struct buffer){ 0 };
}

void reply_text(const struct reply *reply, enum wire_status status, const char *format, ...)
{
	char *at = (char *)reply_begin(reply->session, REPLY_TEXT);
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(at, REPLY_TEXT, format, args);
	va_end(args);
	reply_end(reply, status, n < 0 ? 0 : MIN((size_t)n, (size_t)REPLY_TEXT - 1));
}

static struct wire_info info_of(const struct service *service)
{
	return (struct wire_info){
		.generation = le64_of(service->snapshot->generation),
		.digest = le64_of(service->snapshot->image.digest),
		.n_entries = le64_of(service->snapshot->image.n_entries),
		.age_usec = le64_of(service_state_age_usec(service)),
		.state = le32_of(service_state(service)),
	};
}

void reply_info(const struct reply *reply, const struct service *service)
{
	struct wire_info info = info_of(service);

	reply_bytes(reply, WIRE_OK, &info, sizeof(info));
}

static void reply_fetch(const struct reply *reply, enum wire_status status, struct service *service)
{
	struct wire_fetch fetch = {
		.info = info_of(service),
		.change = le64_of(service_change(service)),
		.slot = le32_of(service->announcement.slot),
	};

	reply_bytes(reply, status, &fetch, sizeof(fetch));
}

void reply_snapshot(const struct reply *reply, struct service *service)
{
	int fd;

	if (!session_may_pass(reply->session)) {
		reply_text(reply, WIRE_LIMIT,
			"%d descriptors wait on this connection; read the replies first",
			LIMIT_DESCRIPTORS);
		return;
	}
	fd = snapshot_open_fd(service->snapshot);
	if (fd < 0) {
		reply_text(reply, WIRE_UNSUPPORTED, "no descriptor: %s; use LIST", strerror(-fd));
		return;
	}
	session_pass(reply->session, fd);
	reply_fetch(reply, WIRE_OK, service);
}

void reply_keep(const struct reply *reply, struct service *service)
{
	reply_fetch(reply, WIRE_KEEP, service);
}

void reply_no_data(const struct reply *reply, const struct service *service)
{
	const struct tree_error *error = service_state_error(service);

	if (error)
		reply_text(reply, WIRE_NO_DATA, "no data for %s yet: %s",
			service_shown_name(service), tree_error_message(error));
	else
		reply_text(reply, WIRE_NO_DATA, "no data for %s yet: the source (%s) is being read",
			service_shown_name(service), reply->session->server->source->name);
}

void reply_denied(const struct reply *reply, const char *service, size_t service_len)
{
	reply_text(reply, WIRE_DENIED,
		"user %u may not read %.*s; ask for access= in consulcfgd.conf",
		(unsigned)reply->session->peer.uid, (int)service_len, service);
}

void reply_not_opened(const struct reply *reply, const char *service, size_t service_len, int error)
{
	const struct session *session = reply->session;
	const struct user *user = session->user;

	if (error == -EMFILE)
		reply_text(reply, WIRE_LIMIT,
			"this connection keeps %d services open; close one first",
			LIMIT_SESSION_SERVICES);
	else if (error == -EDQUOT && user->n_absent >= LIMIT_ABSENT_PER_USER)
		reply_text(reply, WIRE_LIMIT,
			"user %u has %d services without keys open; close one first",
			(unsigned)user->uid, LIMIT_ABSENT_PER_USER);
	else if (error == -EDQUOT)
		reply_text(reply, WIRE_LIMIT,
			"user %u has %d services open that have not loaded; wait, or close one",
			(unsigned)user->uid, LIMIT_LOADING_PER_USER);
	else if (error == -ENOBUFS)
		reply_text(reply, WIRE_LIMIT,
			"the daemon serves max_services=%u services already; raise it in "
			"consulcfgd.conf",
			session->server->config->max_services);
	else
		reply_text(reply, WIRE_INTERNAL, "cannot open %.*s: %s", (int)service_len, service,
			strerror(-error));
}

void reply_value(const struct reply *reply, const void *head, size_t head_len,
	struct snapshot *snapshot, const struct record *record)
{
	struct session *session = reply->session;
	bool is_large = record->value_len > LIMIT_INLINE_VALUE;
	size_t inline_len = is_large ? 0 : record->value_len;
	uint8_t *at = reply_begin(session, head_len + inline_len);

	memcpy(at, head, head_len);
	memcpy(at + head_len, record->value, inline_len);
	reply_end(reply, WIRE_OK, head_len + inline_len);
	if (!is_large)
		return;
	/* The frame is as long as if the value stood there. */
	put_header(reply, WIRE_OK, head_len + record->value_len, at - sizeof(struct wire_header));
	session->large = snapshot_ref(snapshot);
	session->large_data = (const uint8_t *)record->value;
	session->large_len = record->value_len;
}
