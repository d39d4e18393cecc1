#include "daemon/session.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "daemon/command.h"
#include "daemon/errand.h"
#include "daemon/listing.h"
#include "daemon/lookups.h"
#include "daemon/pending.h"

/* Bytes that were received and not yet handled: in the server's buffer, or kept in the session. */
struct span {
	const uint8_t *data;
	size_t len;
	bool is_kept;
};

static void drop_descriptors(struct session *session)
{
	while (session->n_fds > 0)
		close(session->fds[--session->n_fds]);
}

static ssize_t send_with_descriptors(struct session *session, struct iovec *parts, size_t n_parts)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(session->fds))];
	} control = { 0 };
	size_t size = session->n_fds * sizeof(session->fds[0]);
	struct msghdr message = {
		.msg_iov = parts,
		.msg_iovlen = n_parts,
		.msg_control = control.bytes,
		.msg_controllen = CMSG_SPACE(size),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	ssize_t n;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(c), session->fds, size);
	n = sendmsg(session->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0) {
		session->n_untaken += session->n_fds;
		drop_descriptors(session);
	}
	return n;
}

static ssize_t send_bytes(struct session *session, struct iovec *parts, size_t n_parts)
{
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = n_parts };

	if (session->n_fds > 0)
		return send_with_descriptors(session, parts, n_parts);
	/* A reply is nearly always one part, and send() is the cheaper call. */
	if (n_parts == 1)
		return send(
			session->fd, parts->iov_base, parts->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
	return sendmsg(session->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Sends the parts in order. Returns how many bytes went, 0 when the socket is full, -errno. */
static ssize_t send_parts(struct session *session, struct iovec *parts, size_t n_parts)
{
	ssize_t n;

	do
		n = send_bytes(session, parts, n_parts);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	return errno == EAGAIN ? 0 : -errno;
}

static size_t consume(size_t *left, size_t n)
{
	size_t taken = MIN(*left, n);

	*left -= taken;
	return n - taken;
}

static void advance_large(struct session *session, size_t n)
{
	session->large_data += n;
	session->large_len -= n;
	if (session->large_len == 0) {
		session->large = snapshot_unref(session->large);
		session->large_data = NULL;
	}
}

/* Takes n sent bytes off what waits, and keeps what of the turn's replies was not sent. */
static int settle_sent(struct session *session, size_t n)
{
	struct server *server = session->server;
	size_t kept = session->output.len, fresh = server->out_len, rest;
	int r;

	rest = consume(&kept, n);
	rest = consume(&fresh, rest);
	if (session->output.len > kept)
		buffer_consume(&session->output, session->output.len - kept);
	r = buffer_append(&session->output, server->out + server->out_len - fresh, fresh);
	server->out_len = 0;
	if (r < 0)
		return r;
	if (session->large)
		advance_large(session, rest);
	session->is_blocked = session->output.len > 0 || session->large;
	session->has_sent |= n > 0;
	session_spend(session, n / SESSION_BYTES_PER_COST);
	return 0;
}

static void add_part(
	struct iovec *parts, size_t *n_parts, size_t *room, const void *data, size_t len)
{
	len = MIN(len, *room);
	*room -= len;
	if (len > 0)
		parts[(*n_parts)++] = (struct iovec){ (void *)(uintptr_t)data, len };
}

/* Sends what waits, as far as the socket takes it. */
static int flush(struct session *session)
{
	struct server *server = session->server;
	struct iovec parts[3];
	size_t n_parts = 0, room = server_share_bytes(server);
	ssize_t n = 0;

	if (!session->is_blocked) {
		add_part(parts, &n_parts, &room, buffer_bytes(&session->output),
			session->output.len);
		add_part(parts, &n_parts, &room, server->out, server->out_len);
		add_part(parts, &n_parts, &room, session->large_data, session->large_len);
		if (n_parts == 0)
			return 0;
		n = send_parts(session, parts, n_parts);
		if (n < 0)
			return (int)n;
	}
	return settle_sent(session, (size_t)n);
}

/* Bytes that the frame at the start of the input has, as far as it is known. */
static size_t wanted_size(const struct buffer *input)
{
	struct wire_header header;
	ssize_t size;

	if (input->len < sizeof(header))
		return sizeof(header);
	memcpy(&header, buffer_bytes(input), sizeof(header));
	size = wire_request_size(&header);
	return size < 0 ? sizeof(header) : (size_t)size;
}

static ssize_t receive_bytes(struct session *session, void *data, size_t size)
{
	ssize_t n;

	do
		n = session->is_safe ? recv(session->fd, data, size, MSG_DONTWAIT)
				     : guard_receive(session->fd, data, size);
	while (n < 0 && errno == EINTR);
	return n;
}

/* Receives once. The span is then what can be handled; a part of a frame stays in the session. */
static int receive(struct session *session, struct span *span)
{
	struct server *server = session->server;
	struct buffer *input = &session->input;
	size_t kept = input->len, wanted = wanted_size(input);
	size_t room = MAX(wanted - MIN(kept, wanted), server_share_bytes(server));
	ssize_t n = receive_bytes(session, server->in + kept, MIN(SERVER_IN - kept, room));

	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n == 0) {
		session->is_eof = true;
		return 0;
	}
	if (kept + (size_t)n < wanted)
		return buffer_append(input, server->in + kept, (size_t)n);
	if (kept > 0) {
		memcpy(server->in, buffer_bytes(input), kept);
		buffer_done(input);
	}
	*span = (struct span){ server->in, kept + (size_t)n, false };
	return 0;
}

/* Bytes of the request in front, header included; 0: it is not whole yet; -EBADMSG: it lies. */
static ssize_t frame_size(const struct span *span, struct wire_header *ret_header)
{
	ssize_t size;

	if (span->len < sizeof(*ret_header))
		return 0;
	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): a span with bytes has data */
	memcpy(ret_header, span->data, sizeof(*ret_header));
	size = wire_request_size(ret_header);
	return size > 0 && span->len < (size_t)size ? 0 : size;
}

static void handle_frames(struct session *session, struct span *span)
{
	struct wire_header header;
	ssize_t size;

	while (session->budget > 0 && session_is_ready(session)) {
		size = frame_size(span, &header);
		if (size == 0)
			break;
		session->has_handled = true;
		if (size < 0) {
			command_refuse(session, &header);
			break;
		}
		command_handle(session, &header, span->data + sizeof(header));
		span->data += size;
		span->len -= (size_t)size;
	}
	session->has_frame = frame_size(span, &header) != 0;
}

static bool has_work(const struct session *session)
{
	return (session->has_frame || session->is_woken) && session_is_ready(session);
}

/* A reply is in the making; requests behind it wait. */
static bool is_busy(const struct session *session)
{
	return session->listing || session->lookups || session->errand;
}

/* Handles what is at hand until it is done, or the output, a slow reply or the budget says stop. */
static int work(struct session *session, struct span *span)
{
	int r;

	if (session->listing)
		listing_step(session->listing);
	lookups_step(session);
	errand_answer(session);
	do {
		if (session->is_woken)
			pending_answer(session);
		handle_frames(session, span);
		r = flush(session);
	} while (r == 0 && has_work(session) && session->budget > 0);
	return r;
}

static int keep_rest(struct session *session, const struct span *span)
{
	if (!span->is_kept)
		return buffer_append(&session->input, span->data, span->len);
	if (session->input.len > span->len)
		buffer_consume(&session->input, session->input.len - span->len);
	return 0;
}

/* What is kept for this session counts against its user. */
static int charge_user(struct session *session)
{
	struct user *user = session->user;
	size_t n = session->input.allocated + session->output.allocated +
		   lookups_allocated(session->lookups);

	if (n == session->n_buffered)
		return 0;
	if (n > session->n_buffered && user->uid != 0 &&
		user->n_buffered + (n - session->n_buffered) > LIMIT_BUFFERED_PER_USER)
		return -ENOBUFS;
	user->n_buffered += n - session->n_buffered;
	session->n_buffered = n;
	return 0;
}

/* One deadline at a time: for taking replies, for saying HELLO, or for the rest of a request. */
static struct deadlines *clock_for(const struct session *session)
{
	struct server *server = session->server;

	if (session->is_blocked)
		return &server->stalls;
	if (!session->has_hello)
		return &server->hellos;
	if (session->input.len > 0 && !session->has_frame && !is_busy(session))
		return &server->requests;
	return NULL;
}

static void set_clock(struct session *session)
{
	struct server *server = session->server;
	struct deadlines *clock = clock_for(session);
	bool has_progress = clock == &server->stalls	 ? session->has_sent
			    : clock == &server->requests ? session->has_handled
							 : false;

	if (clock == session->clock && !has_progress)
		return;
	if (clock)
		deadline_start(clock, &session->deadline);
	else
		deadline_stop(&session->deadline);
	session->clock = clock;
}

static int want_events(struct session *session)
{
	unsigned events = 0;
	int r;

	if (session->is_blocked)
		events |= LOOP_WRITE;
	/* Work that exceeded its turn goes on in one of the next, also while the socket is rather
	 * full (poll() says so long before send() does): clients send many requests before they
	 * read. */
	if (has_work(session) || lookups_may_step(session))
		server_wake(session->server, session);
	if (!session->is_eof && !session->has_frame && session_is_ready(session))
		events |= LOOP_READ;
	if (events == session->wanted)
		return 0;
	r = loop_io_want(session->io, events);
	if (r == 0)
		session->wanted = events;
	return r;
}

/* Nothing more will be asked, and what was asked is answered. */
static bool is_finished(const struct session *session)
{
	if (session->is_blocked || is_busy(session))
		return false;
	return session->is_closing || (session->is_eof && !session->has_frame);
}

static const char *describe(int error)
{
	switch (-error) {
	case EPROTO:
		return "sent descriptors, which the protocol has none of";
	case ETOOMANYREFS:
		return "clients leave too many descriptors unread; raise LimitNOFILE";
	case ENOBUFS:
		return "the user's clients leave too many bytes unread or half sent";
	default:
		return strerror(-error);
	}
}

static void fail(struct session *session, int error)
{
	/* A client that goes away is nobody's failure. */
	if (error != -ECONNRESET && error != -EPIPE)
		server_complain(session->server, session->user->uid, describe(error));
	session->server->out_len = 0;
	session_free(session);
}

static void on_io(unsigned events, void *userdata)
{
	session_turn(userdata, events);
}

/* The new session is counted already. */
static int check_places(const struct server *server, const struct user *user)
{
	if (user->uid == 0)
		return 0;
	if (user->n_clients + guard_count_unclosed_of(server->guard, user->uid) >
		server->config->max_clients_per_user)
		return -EUSERS;
	if (server->n_sessions + guard_count_unclosed(server->guard) > server->max_sessions)
		return -ENFILE;
	return 0;
}

static int session_init(struct session *session, struct server *server, int fd, const char *socket)
{
	int r;

	r = access_peer_of(fd, &session->peer);
	strcpy(session->peer.socket, socket);
	if (r == 0)
		r = users_add_client(&server->users, session->peer.uid, &session->user);
	if (r == 0)
		r = check_places(server, session->user);
	if (r == 0)
		r = loop_io_new(server->loop, fd, on_io, session, &session->io);
	if (r == 0)
		r = want_events(session);
	return r;
}

int session_new(struct server *server, int fd, const char *socket, struct session **ret_session)
{
	struct session *session = calloc(1, sizeof(*session));
	int r;

	if (!session)
		return -ENOMEM;
	session->server = server;
	session->fd = -1;
	list_init(&session->pendings);
	list_init(&session->woken_link);
	deadline_init(&session->pin_deadline);
	deadline_init(&session->deadline);
	list_append(&server->sessions, &session->link);
	server->n_sessions++;
	r = session_init(session, server, fd, socket);
	if (r < 0) {
		session_free(session);
		return r;
	}
	session->fd = fd;
	session->is_safe = guard_is_safe(fd);
	set_clock(session);
	server_start_heartbeat(server);
	*ret_session = session;
	return 0;
}

/* At the end of the input nothing is in the queue, and nothing comes any more. */
static void close_socket(const struct session *session)
{
	if (session->is_safe || session->is_eof)
		close(session->fd);
	else
		guard_close(session->server->guard, session->fd);
}

struct session *session_free(struct session *session)
{
	if (!session)
		return NULL;
	pending_drop(session);
	listing_free(session->listing);
	lookups_free(session->lookups);
	errand_drop(session);
	session_pin(session, NULL, NULL);
	openings_done(&session->openings);
	snapshot_unref(session->large);
	buffer_done(&session->input);
	buffer_done(&session->output);
	drop_descriptors(session);
	deadline_stop(&session->deadline);
	list_unlink(&session->woken_link);
	list_unlink(&session->link);
	session->server->n_sessions--;
	session->server->unused_since = loop_now();
	if (session->user) {
		session->user->n_buffered -= session->n_buffered;
		user_remove_client(session->user);
	}
	loop_io_free(session->io);
	if (session->fd >= 0)
		close_socket(session);
	free(session);
	return NULL;
}

/* Many connections of one user have no more of the loop than one: in a row, each has its turn. */
static bool put_off(struct session *session, unsigned events)
{
	unsigned share = server_share(session->server, session->user);

	session->put_off |= events;
	session->budget = share;
	if (share > 0)
		return false;
	/* Until then the loop need not hear of it in every turn. */
	if (events & session->wanted &&
		loop_io_want(session->io, session->wanted & ~session->put_off) == 0)
		session->wanted &= ~session->put_off;
	server_wake(session->server, session);
	return true;
}

void session_turn(struct session *session, unsigned events)
{
	struct span span = { 0 };
	int r = 0;

	if (put_off(session, events))
		return;
	events = session->put_off;
	session->put_off = 0;
	session->server->out_len = 0;
	session->has_sent = session->has_handled = false;
	if (events & LOOP_WRITE) {
		session->is_blocked = false;
		r = flush(session);
	}
	/* Half a request is no use until more comes. */
	if (session->has_frame)
		span = (struct span){ buffer_bytes(&session->input), session->input.len, true };
	else if (r == 0 && (events & LOOP_READ))
		r = receive(session, &span);
	if (r == 0)
		r = work(session, &span);
	session->user->share = session->budget;
	if (r == 0)
		r = keep_rest(session, &span);
	if (r == 0)
		r = charge_user(session);
	if (r == 0 && !is_finished(session)) {
		set_clock(session);
		r = want_events(session);
		if (r == 0)
			return;
	}
	if (r < 0)
		fail(session, r);
	else
		session_free(session);
}

void session_wake(struct session *session)
{
	session->is_woken = true;
	server_wake(session->server, session);
}

bool session_is_ready(const struct session *session)
{
	return !session->large && !is_busy(session) && !session->is_closing &&
	       session->output.len + session->server->out_len < LIMIT_OUTPUT;
}

void session_spend(struct session *session, size_t cost)
{
	session->budget -= (unsigned)MIN(cost, (size_t)session->budget);
}

bool session_may_pass(struct session *session)
{
	int n_unread;

	if (session->n_untaken > 0 && ioctl(session->fd, SIOCOUTQ, &n_unread) == 0 && n_unread == 0)
		session->n_untaken = 0;
	return session->n_untaken + session->n_fds < LIMIT_DESCRIPTORS;
}

void session_pass(struct session *session, int fd)
{
	session->fds[session->n_fds++] = fd;
}

void session_end(struct session *session)
{
	session->is_closing = true;
}

void session_pin(struct session *session, struct snapshot *snapshot, struct opened *opened)
{
	/* The time runs from the first page. */
	if (snapshot && session->pinned == snapshot && session->pinned_from == opened)
		return;
	deadline_stop(&session->pin_deadline);
	if (snapshot)
		snapshot_ref(snapshot);
	snapshot_unref(session->pinned);
	session->pinned = snapshot;
	session->pinned_from = opened;
	if (snapshot)
		deadline_start(&session->server->pins, &session->pin_deadline);
}

void session_on_deadline(struct deadline *deadline)
{
	struct session *session = CONTAINER_OF(deadline, struct session, deadline);
	struct server *server = session->server;

	server_complain(server, session->user->uid,
		session->clock == &server->hellos   ? "said no HELLO in time"
		: session->clock == &server->stalls ? "does not take its replies"
						    : "sent half a request");
	session_free(session);
}

void session_on_pin_deadline(struct deadline *deadline)
{
	session_pin(CONTAINER_OF(deadline, struct session, pin_deadline), NULL, NULL);
}
