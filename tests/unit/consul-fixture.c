#include "consul-fixture.h"

#include "test.h"

static void on_change(struct tree *tree, bool content_changed, void *userdata)
{
	struct consul_fixture *f = userdata;

	(void)tree;
	if (content_changed)
		f->n_changes++;
	else
		f->n_states++;
}

int consul_fixture_set_up(void **state)
{
	struct consul_fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	log_set_level(LOG_LEVEL_ERROR);
	f->addresses[0] = strdup("http://127.0.0.1:8500");
	f->addresses[1] = strdup("https://other:8501");
	f->config.addresses = f->addresses;
	f->config.n_addresses = 2;
	f->config.wait_usec = FIXTURE_WAIT;
	f->config.max_wait_usec = 300 * USEC_PER_SEC;
	f->config.max_connections = 16;
	f->config.resync_usec = FIXTURE_RESYNC;
	f->config.max_value = 1 << 20;
	f->config.max_service = 1 << 20;
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(consul_source_new(f->loop, &f->config, &f->source), 0);
	assert_int_equal(trees_new(f->loop, f->source, &f->trees), 0);
	assert_int_equal(trees_get(f->trees, FIXTURE_PREFIX, &f->tree), 0);
	f->observer.fn = on_change;
	f->observer.userdata = f;
	tree_observe(f->tree, &f->observer);
	*state = f;
	return 0;
}

int consul_fixture_tear_down(void **state)
{
	struct consul_fixture *f = *state;

	if (f->tree) {
		tree_unobserve(&f->observer);
		tree_unref(f->tree);
	}
	trees_free(f->trees);
	consul_source_free(f->source);
	loop_free(f->loop);
	free(f->addresses[0]);
	free(f->addresses[1]);
	free(f);
	return 0;
}

static void put_base64(FILE *file, const char *text, size_t len)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		unsigned v = 0;

		for (size_t n = 0; n < 3; n++)
			v = v << 8 | (i + n < len ? (unsigned char)text[i + n] : 0u);
		putc(alphabet[v >> 18], file);
		putc(alphabet[v >> 12 & 63], file);
		putc(i + 1 < len ? alphabet[v >> 6 & 63] : '=', file);
		putc(i + 2 < len ? alphabet[v & 63] : '=', file);
	}
}

static void put_entry(FILE *file, const char *pair, bool is_first)
{
	const char *equals = strchr(pair, '=');

	fprintf(file, "%s{\"LockIndex\":0,\"Key\":\"%s%.*s\",\"Flags\":0,\"Value\":\"",
		is_first ? "" : ",", FIXTURE_PREFIX, (int)(equals - pair), pair);
	put_base64(file, equals + 1, strlen(equals + 1));
	fputs("\",\"CreateIndex\":1,\"ModifyIndex\":2}", file);
}

void consul_fixture_answer(struct http_request *request, const char *index, ...)
{
	char *body;
	size_t len;
	FILE *file = open_memstream(&body, &len);
	const char *pair;
	bool is_first = true;
	va_list args;

	assert_non_null(file);
	putc('[', file);
	va_start(args, index);
	while ((pair = va_arg(args, const char *))) {
		put_entry(file, pair, is_first);
		is_first = false;
	}
	va_end(args);
	putc(']', file);
	fclose(file);
	fake_http_answer(request, 200, index, body);
	free(body);
}

void consul_fixture_answer_keys(
	struct http_request *request, const char *index, unsigned n_keys, const char *value)
{
	char *body, pair[128];
	size_t len;
	FILE *file = open_memstream(&body, &len);

	assert_non_null(file);
	putc('[', file);
	for (unsigned i = 0; i < n_keys; i++) {
		snprintf(pair, sizeof(pair), "k%04u=%s", i, value);
		put_entry(file, pair, i == 0);
	}
	putc(']', file);
	fclose(file);
	fake_http_answer(request, 200, index, body);
	free(body);
}

void consul_fixture_load(struct consul_fixture *f)
{
	(void)f;
	consul_fixture_answer(fake_http_expect(READS, "&consistent"), "10", "a=1", NULL);
	fake_http_expect(POLLS, "&index=10&");
}

void consul_fixture_assert_content(struct consul_fixture *f, ...)
{
	const struct kvset *set = f->tree->content;
	struct record record;
	size_t off = 0, n = 0;
	const char *pair;
	va_list args;

	assert_non_null(set);
	va_start(args, f);
	for (; (pair = va_arg(args, const char *)); n++) {
		char held[256];

		off = record_decode(set->records.data, set->records.size, off, &record);
		assert_true(off > 0);
		snprintf(held, sizeof(held), "%s=%s", record.key, record.value);
		assert_string_equal(held, pair);
	}
	va_end(args);
	assert_int_equal(set->records.n, n);
}

struct http_request *consul_fixture_expect_poll(const char *part)
{
	fake_loop_advance(LIMIT_READERS_USEC);
	fake_http_expect_none(READS);
	return fake_http_expect(POLLS, part);
}

struct http_request *consul_fixture_expect_read(bool consistent)
{
	struct http_request *request = fake_http_expect(READS, "?recurse");

	fake_http_expect_none(POLLS);
	assert_null(strstr(request->url, "index="));
	assert_int_equal(strstr(request->url, "&consistent") != NULL, consistent);
	return request;
}

struct http_request *consul_fixture_expect_probe(unsigned pool, const char *key)
{
	char part[256];

	fake_http_expect_none(POLLS);
	snprintf(part, sizeof(part), "/v1/kv/%s%s?consistent", FIXTURE_PREFIX, key);
	return fake_http_expect(pool, part);
}

void consul_fixture_answer_deleted(unsigned pool, unsigned n)
{
	while (n-- > 0) {
		struct http_request *request = fake_http_expect(pool, "?consistent");

		assert_null(strstr(request->url, "recurse"));
		fake_http_answer(request, 404, "99", "");
	}
}

void consul_fixture_assert_held(
	struct consul_fixture *f, enum tree_doubt doubt, size_t n_keys, const char *reason)
{
	const struct tree_held *held = &f->tree->held;

	assert_int_equal(f->tree->state, WIRE_HELD);
	assert_non_null(held->set);
	assert_int_equal(held->doubt, doubt);
	assert_int_equal(held->set->records.n, n_keys);
	assert_string_equal(held->reason, reason);
	assert_false(f->tree->error.is_set);
	fake_http_expect_none(POLLS);
	fake_http_expect_none(READS);
}

struct http_request *consul_fixture_expect_look(struct consul_fixture *f)
{
	uint64_t begin = loop_now();

	(void)f;
	while (fake_http_n_pending(READS) == 0) {
		assert_true(loop_now() - begin <= 30 * USEC_PER_SEC);
		fake_loop_advance(10 * USEC_PER_MSEC);
	}
	return fake_http_expect(READS, "?recurse");
}

void consul_fixture_assert_failed(
	struct consul_fixture *f, enum tree_error_kind kind, const char *message)
{
	assert_true(f->tree->error.is_set);
	assert_string_equal(tree_error_message(&f->tree->error), message);
	assert_int_equal(f->tree->error.kind, kind);
	assert_true(f->tree->error.retry_at > loop_now());
	assert_true(f->tree->error.retry_at <= loop_now() + USEC_PER_SEC);
	fake_http_expect_none(POLLS);
	fake_http_expect_none(READS);
}

struct http_request *consul_fixture_expect_retry(struct consul_fixture *f)
{
	fake_loop_advance(f->tree->error.retry_at - loop_now());
	return consul_fixture_expect_read(false);
}
