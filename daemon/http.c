/*
 * Requests in their order: the ones that wait, the ones on the wire, and what comes of each. Knows
 * no library; the wire is transport's.
 *
 * Invariant: between on_enter() and on_leave() requests are not freed: cancelled ones are doomed,
 * their bytes refused, and go in on_leave(). One turn of the loop decodes a limited number of bytes
 * of a pool: what libcurl has in hand beyond that waits, paused, for the next turn.
 */
#include "daemon/http.h"

#include "daemon/http-answer.h"
#include "daemon/list.h"
#include "daemon/transport.h"

struct http {
	struct loop *loop;
	struct transport *transport;
	struct loop_timer *kick; /* resumes paused requests, starts waiting ones */
	unsigned max_connections;
	bool is_entered;
	size_t turn_bytes; /* decoded since on_enter() */
	struct list waiting, active, doomed; /* http_request::link */
	struct list paused; /* http_request::paused_link */
	unsigned n_active, n_waiting;
	uint8_t *block;
};

enum request_state { REQUEST_WAITING, REQUEST_ACTIVE, REQUEST_DOOMED };

struct http_request {
	struct list link; /* http::waiting, active or doomed */
	struct list paused_link; /* http::paused */
	struct http *http;
	enum request_state state;
	struct transport_get *get;
	struct loop_timer *deadline;
	uint64_t started_at, due_at;
	uint64_t answer_usec, body_usec;
	http_done_fn done;
	void *userdata;
	struct http_answer answer;
};

static void count(struct http *http, enum request_state state, unsigned n)
{
	switch (state) {
	case REQUEST_WAITING:
		http->n_waiting += n;
		break;
	case REQUEST_ACTIVE:
		http->n_active += n;
		break;
	case REQUEST_DOOMED:
		break;
	}
}

static void request_free(struct http_request *request)
{
	count(request->http, request->state, -1u);
	list_unlink(&request->link);
	list_unlink(&request->paused_link);
	transport_get_free(request->get);
	loop_timer_free(request->deadline);
	http_answer_done(&request->answer);
	free(request);
}

static void free_all(struct list *requests)
{
	while (!list_is_empty(requests))
		request_free(LIST_ENTRY(requests->next, struct http_request, link));
}

static void set_state(struct http_request *request, enum request_state state, struct list *list)
{
	count(request->http, request->state, -1u);
	count(request->http, state, 1);
	request->state = state;
	list_unlink(&request->link);
	list_append(list, &request->link);
}

static void set_deadline(struct http_request *request, uint64_t delay_usec)
{
	request->due_at = loop_now() + delay_usec;
	loop_timer_arm(request->deadline, delay_usec);
}

/* Tells the owner and frees the request; not between on_enter() and on_leave(). */
static void finish(struct http_request *request, bool is_whole)
{
	loop_timer_disarm(request->deadline);
	/* The owner may ask for the next thing at once: it finds the place free. */
	set_state(request, REQUEST_DOOMED, &request->http->doomed);
	request->get = transport_get_free(request->get);
	http_answer_finish(&request->answer, is_whole);
	if (request->done)
		request->done(&request->answer.result, request->userdata);
	request_free(request);
}

static void start_waiting(struct http *http)
{
	while (!list_is_empty(&http->waiting) && http->n_active < http_capacity(http)) {
		struct http_request *request =
			LIST_ENTRY(http->waiting.next, struct http_request, link);

		set_state(request, REQUEST_ACTIVE, &http->active);
		request->started_at = loop_now();
		set_deadline(request, request->answer_usec);
		if (transport_get_start(request->get) < 0) {
			http_answer_refuse(&request->answer, -ENOMEM, "out of memory");
			finish(request, false);
		}
	}
}

static void on_enter(void *userdata)
{
	struct http *http = userdata;

	http->is_entered = true;
	http->turn_bytes = 0;
}

static void on_leave(void *userdata)
{
	struct http *http = userdata;

	http->is_entered = false;
	free_all(&http->doomed);
}

static int on_line(const char *line, size_t len, void *userdata)
{
	struct http_request *request = userdata;
	struct http_answer *answer = &request->answer;
	bool had_head = answer->has_head;

	if (request->state == REQUEST_DOOMED)
		return -ECANCELED;
	if (http_answer_take_line(answer, line, len) < 0)
		return answer->error;
	if (answer->has_head && !had_head) {
		answer->result.answered_usec = loop_now() - request->started_at;
		set_deadline(request, request->body_usec);
	}
	return 0;
}

static int on_body(const void *data, size_t len, void *userdata)
{
	struct http_request *request = userdata;
	struct http *http = request->http;
	int r;

	if (request->state == REQUEST_DOOMED)
		return -ECANCELED;
	r = http_answer_take_body(&request->answer, data, len, &http->turn_bytes);
	if (request->state == REQUEST_DOOMED)
		return -ECANCELED;
	if (r > 0) {
		list_unlink(&request->paused_link);
		list_append(&http->paused, &request->paused_link);
		loop_timer_arm(http->kick, 0);
	}
	return r;
}

static void on_end(int error, const char *message, void *userdata)
{
	struct http_request *request = userdata;
	struct http *http = request->http;

	if (error < 0 && !request->answer.is_cut)
		http_answer_refuse(&request->answer, error, message);
	finish(request, error == 0);
	start_waiting(http);
}

static void on_kick(void *userdata)
{
	struct http *http = userdata;

	if (!list_is_empty(&http->paused)) {
		struct http_request *request =
			LIST_ENTRY(http->paused.next, struct http_request, paused_link);

		list_unlink(&request->paused_link);
		transport_get_resume(request->get);
	}
	if (!list_is_empty(&http->paused))
		loop_timer_arm(http->kick, 0);
	start_waiting(http);
}

static void on_deadline(void *userdata)
{
	struct http_request *request = userdata;
	struct http *http = request->http;

	http_answer_refuse(&request->answer, -ETIMEDOUT,
		request->answer.has_head ? "the answer did not end in time" : "no answer in time");
	finish(request, false);
	start_waiting(http);
}

static const struct transport_owner owner_fns = {
	.enter = on_enter,
	.leave = on_leave,
	.line = on_line,
	.body = on_body,
	.end = on_end,
};

int http_new(struct loop *loop, const struct http_settings *settings, struct http **ret_http)
{
	struct http *http = calloc(1, sizeof(*http));
	int r;

	if (!http)
		return -ENOMEM;
	http->loop = loop;
	http->max_connections = settings->max_connections;
	list_init(&http->waiting);
	list_init(&http->active);
	list_init(&http->doomed);
	list_init(&http->paused);
	http->block = malloc(HTTP_ANSWER_BLOCK);
	r = http->block ? loop_timer_new(loop, on_kick, http, &http->kick) : -ENOMEM;
	if (r == 0)
		r = transport_new(loop, settings, &owner_fns, http, &http->transport);
	if (r < 0) {
		http_free(http);
		return r;
	}
	*ret_http = http;
	return 0;
}

struct http *http_free(struct http *http)
{
	if (!http)
		return NULL;
	free_all(&http->waiting);
	free_all(&http->active);
	free_all(&http->doomed);
	transport_free(http->transport);
	loop_timer_free(http->kick);
	free(http->block);
	free(http);
	return NULL;
}

int http_get(struct http *http, const struct http_get *get, struct http_request **ret_request)
{
	struct http_request *request = calloc(1, sizeof(*request));
	int r;

	if (!request)
		return -ENOMEM;
	list_init(&request->link);
	list_init(&request->paused_link);
	request->http = http;
	request->state = REQUEST_DOOMED;
	request->answer_usec = get->answer_usec;
	request->body_usec = get->body_usec;
	request->due_at = UINT64_MAX;
	request->done = get->done;
	request->userdata = get->userdata;
	request->answer.max_bytes = get->max_bytes;
	request->answer.body = get->body;
	request->answer.userdata = get->userdata;
	request->answer.block = http->block;
	r = loop_timer_new(http->loop, on_deadline, request, &request->deadline);
	if (r == 0)
		r = transport_get_new(http->transport, get, request, &request->get);
	if (r < 0) {
		request_free(request);
		return r;
	}
	set_state(request, REQUEST_WAITING, &http->waiting);
	loop_timer_arm(http->kick, 0);
	*ret_request = request;
	return 0;
}

struct http_request *http_cancel(struct http_request *request)
{
	struct http *http;

	if (!request)
		return NULL;
	http = request->http;
	if (http->is_entered && request->state != REQUEST_WAITING) {
		loop_timer_disarm(request->deadline);
		request->answer.body = NULL;
		set_state(request, REQUEST_DOOMED, &http->doomed);
		return NULL;
	}
	request_free(request);
	loop_timer_arm(http->kick, 0); /* its place is free */
	return NULL;
}

struct http_request *http_abandon(struct http_request *request)
{
	if (!request || request->state == REQUEST_WAITING)
		return http_cancel(request);
	request->answer.body = NULL;
	request->done = NULL;
	return NULL;
}

uint64_t http_due_at(const struct http_request *request)
{
	return request->due_at;
}

void http_set_max_connections(struct http *http, unsigned max_connections)
{
	http->max_connections = max_connections;
	transport_set_max_connections(http->transport, max_connections);
	loop_timer_arm(http->kick, 0);
}

unsigned http_capacity(const struct http *http)
{
	return http->max_connections * (http_is_multiplexed(http) ? LIMIT_HTTP_STREAMS : 1);
}

unsigned http_n_requests(const struct http *http)
{
	return http->n_active + http->n_waiting;
}

unsigned http_n_connections(const struct http *http)
{
	return transport_n_connections(http->transport);
}

bool http_is_multiplexed(const struct http *http)
{
	return transport_is_multiplexed(http->transport);
}

void http_set_multiplexed(struct http *http, bool is_multiplexed)
{
	transport_set_multiplexed(http->transport, is_multiplexed);
	loop_timer_arm(http->kick, 0);
}
