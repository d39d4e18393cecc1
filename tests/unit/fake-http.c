#include "fake-http.h"

#include "test.h"

#define CHUNK 17

struct http {
	unsigned pool;
	unsigned max_connections;
	bool is_multiplexed;
};

static struct http_request requests[FAKE_HTTP_MAX];
static struct http *pools[16];
static unsigned n_made;

int http_new(struct loop *loop, const struct http_settings *settings, struct http **ret_http)
{
	struct http *http = calloc(1, sizeof(*http));

	(void)loop;
	assert_non_null(http);
	http->max_connections = settings->max_connections;
	while (pools[http->pool])
		http->pool++;
	pools[http->pool] = http;
	*ret_http = http;
	return 0;
}

static void request_done(struct http_request *request)
{
	free(request->url);
	free(request->token);
	*request = (struct http_request){ 0 };
}

/* The pools behind move up: when all are replaced, numbers mean the same again. */
struct http *http_free(struct http *http)
{
	if (!http)
		return NULL;
	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++)
		if (requests[i].is_used && requests[i].http == http)
			request_done(&requests[i]);
	for (unsigned i = http->pool; pools[i]; i++) {
		pools[i] = pools[i + 1];
		if (pools[i])
			pools[i]->pool = i;
	}
	free(http);
	return NULL;
}

int http_get(struct http *http, const struct http_get *get, struct http_request **ret_request)
{
	unsigned i = 0;

	while (i < FAKE_HTTP_MAX && requests[i].is_used)
		i++;
	assert_true(i < FAKE_HTTP_MAX);
	requests[i] = (struct http_request){
		.is_used = true,
		.http = http,
		.url = strdup(get->url),
		.token = get->token ? strdup(get->token) : NULL,
		.get = *get,
		.started_at = loop_now(),
	};
	n_made++;
	*ret_request = &requests[i];
	return 0;
}

struct http_request *http_cancel(struct http_request *request)
{
	if (request)
		request_done(request);
	return NULL;
}

struct http_request *http_abandon(struct http_request *request)
{
	if (request)
		request->is_abandoned = true;
	return NULL;
}

uint64_t http_due_at(const struct http_request *request)
{
	return request->started_at + request->get.answer_usec;
}

void http_set_max_connections(struct http *http, unsigned max_connections)
{
	http->max_connections = max_connections;
}

unsigned http_capacity(const struct http *http)
{
	return http->max_connections;
}

unsigned http_n_requests(const struct http *http)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++)
		n += requests[i].is_used && requests[i].http == http;
	return n;
}

unsigned http_n_connections(const struct http *http)
{
	return http_n_requests(http);
}

bool http_is_multiplexed(const struct http *http)
{
	return http->is_multiplexed;
}

void http_set_multiplexed(struct http *http, bool is_multiplexed)
{
	http->is_multiplexed = is_multiplexed;
}

struct http_request *fake_http_expect(unsigned pool, const char *part)
{
	struct http_request *found = NULL;

	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++) {
		if (!requests[i].is_used || requests[i].is_abandoned ||
			requests[i].http->pool != pool)
			continue;
		if (found)
			fail_msg("two requests: %s and %s", found->url, requests[i].url);
		found = &requests[i];
	}
	if (!found)
		fail_msg("no request in pool %u, %s expected", pool, part);
	if (!strstr(found->url, part))
		fail_msg("%s, but %s expected", found->url, part);
	return found;
}

void fake_http_expect_none(unsigned pool)
{
	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++)
		if (requests[i].is_used && !requests[i].is_abandoned &&
			requests[i].http->pool == pool)
			fail_msg("%s is under way", requests[i].url);
}

struct http_request *fake_http_find(const char *part)
{
	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++)
		if (requests[i].is_used && !requests[i].is_abandoned &&
			strstr(requests[i].url, part))
			return &requests[i];
	fail_msg("no request for %s", part);
	return NULL;
}

struct http_request *fake_http_at(unsigned place)
{
	return requests[place].is_used ? &requests[place] : NULL;
}

unsigned fake_http_pool(const struct http_request *request)
{
	return request->http->pool;
}

unsigned fake_http_n_pending(unsigned pool)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++)
		n += requests[i].is_used && !requests[i].is_abandoned &&
		     requests[i].http->pool == pool;
	return n;
}

unsigned fake_http_n_abandoned(unsigned pool)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++)
		n += requests[i].is_used && requests[i].is_abandoned &&
		     requests[i].http->pool == pool;
	return n;
}

unsigned fake_http_n_made(void)
{
	return n_made;
}

static void finish(struct http_request *request, struct http_result *result)
{
	http_done_fn done = request->get.done;
	void *userdata = request->get.userdata;

	bool is_abandoned = request->is_abandoned;

	result->answered_usec = loop_now() - request->started_at;
	request_done(request);
	if (!is_abandoned)
		done(result, userdata);
}

void fake_http_answer(struct http_request *request, int status, const char *index, const char *body)
{
	struct http_result result = { .message = "no error", .status = status };
	size_t len = strlen(body);
	char *end;

	if (index) {
		result.has_index = true;
		result.index = strtoull(index, &end, 10);
		result.is_index_valid = *index != '\0' && *end == '\0';
	}
	result.n_bytes = len;
	if (status != 200) {
		result.error_body = body;
		result.error_body_len = len;
	}
	for (size_t off = 0;
		!request->is_abandoned && status == 200 && result.error == 0 && off < len;
		off += CHUNK)
		result.error = request->get.body(
			body + off, MIN(len - off, (size_t)CHUNK), request->get.userdata);
	if (result.error < 0)
		result.message = "refused";
	finish(request, &result);
}

void fake_http_fail(struct http_request *request, int error, const char *message)
{
	struct http_result result = { .error = error, .message = message };

	finish(request, &result);
}

unsigned fake_http_max_connections(unsigned pool)
{
	return pools[pool]->max_connections;
}
