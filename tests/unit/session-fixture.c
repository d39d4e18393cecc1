#include "session-fixture.h"

#include <fcntl.h>
#include <sys/socket.h>

#define DEADLINE_USEC (20 * USEC_PER_SEC)

static char *nobody[] = { (char[]){ "user:nobody-of-this-name" } };
static struct config_rule rules[] = {
	{ .glob = (char[]){ "shared-*" }, .layers = { (char[]){ "shared/" } }, .n_layers = 1 },
	{ .glob = (char[]){ "secret-*" }, .layers = { (char[]){ "secret/" } }, .n_layers = 1 },
	{ .glob = (char[]){ "*" } },
};

static void on_tick(void *userdata)
{
	struct fixture *f = userdata;

	loop_stop(f->loop);
}

void fixture_turn(struct fixture *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		loop_timer_arm(f->tick, 0);
		assert_int_equal(loop_run(f->loop), 0);
	}
}

void fixture_until(struct fixture *f, bool (*holds)(void *), void *userdata)
{
	uint64_t until = loop_now() + DEADLINE_USEC;

	while (!holds(userdata)) {
		assert_true(loop_now() < until);
		fixture_turn(f, 1);
	}
}

int fixture_set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	bool is_lasting;

	assert_non_null(f);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(loop_timer_new(f->loop, on_tick, f, &f->tick), 0);
	fake_source_init(&f->fake);
	assert_int_equal(trees_new(f->loop, &f->fake.source, &f->trees), 0);
	memcpy(f->rules, rules, sizeof(rules));
	f->nobody.kind = ACCESS_NOBODY;
	f->rules[1].access = nobody;
	f->rules[1].access_subjects = &f->nobody;
	f->rules[1].n_access = 1;
	f->config.rules = f->rules;
	f->config.n_rules = ARRAY_SIZE(rules);
	f->config.max_service = 64 << 20;
	f->config.max_services = 20000;
	f->config.max_clients_per_user = 4096;
	f->config.linger_usec = 1000;
	f->config.host = (char[]){ "here" };
	/* No directory: an anonymous one. */
	assert_int_equal(genfile_new("/dev/null", 16, &f->genfile, &is_lasting), 0);
	assert_int_equal(
		services_new(f->loop, f->trees, f->genfile, NULL, &f->config, &f->services), 0);
	assert_int_equal(server_new(f->loop, f->services, &f->fake.source, f->genfile, &f->config,
				 &f->server),
		0);
	*state = f;
	return 0;
}

int fixture_tear_down(void **state)
{
	struct fixture *f = *state;

	server_free(f->server);
	services_free(f->services);
	genfile_free(f->genfile);
	trees_free(f->trees);
	loop_timer_free(f->tick);
	loop_free(f->loop);
	free(f);
	return 0;
}

void fixture_apply_sizes(
	struct fixture *f, const char *prefix, const size_t *sizes, size_t n, char fill)
{
	struct tree *tree = fake_source_tree(&f->fake, prefix);
	struct kvset *set;

	assert_non_null(tree);
	assert_int_equal(kvset_new(64 << 20, NULL, &set), 0);
	for (size_t i = 0; i < n; i++) {
		char *value = malloc(sizes[i] + 1), key[32];
		int len = snprintf(key, sizeof(key), "key-%06zu", i);

		assert_non_null(value);
		memset(value, fill, sizes[i]);
		assert_int_equal(
			kvset_add(set, key, (size_t)len, value, sizes[i], i % 3, 100 + i), 0);
		free(value);
	}
	assert_int_equal(kvset_finish(set), 0);
	tree_apply(tree, set);
}

struct client *client_new(struct fixture *f)
{
	struct client *client = calloc(1, sizeof(*client));
	int ends[2];

	assert_non_null(client);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	client->f = f;
	client->fd = ends[1];
	assert_int_equal(session_new(f->server, ends[0], "", &client->session), 0);
	return client;
}

struct client *client_new_with_hello(struct fixture *f)
{
	struct client *client = client_new(f);
	struct wire_request hello = { .min_major = 1, .max_major = 1, .image_major = 1 };

	client_expect(client, client_request(client, WIRE_HELLO, &hello), WIRE_OK);
	return client;
}

struct client *client_free(struct client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	fixture_turn(client->f, 3);
	free(client->in);
	free(client);
	return NULL;
}

void client_send(struct client *client, const void *data, size_t len)
{
	uint64_t until = loop_now() + DEADLINE_USEC;
	const uint8_t *at = data;

	while (len > 0) {
		ssize_t n = send(client->fd, at, len, MSG_NOSIGNAL);

		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			assert_true(loop_now() < until);
			fixture_turn(client->f, 1);
			continue;
		}
		at += n;
		len -= (size_t)n;
	}
}

uint32_t client_request(struct client *client, enum wire_op op, const struct wire_request *request)
{
	static uint8_t buf[sizeof(struct wire_header) + LIMIT_FRAME];
	ssize_t n = wire_encode(op, ++client->last_tag, request, buf, sizeof(buf));

	assert_true(n > 0);
	client_send(client, buf, (size_t)n);
	return client->last_tag;
}

static struct wire_request request_for(const char *service, const char *key)
{
	return (struct wire_request){
		.service = service,
		.service_len = service ? strlen(service) : 0,
		.key = key,
		.key_len = key ? strlen(key) : 0,
	};
}

uint32_t client_open(struct client *client, const char *service, uint32_t timeout_ms)
{
	struct wire_request request = request_for(service, NULL);

	request.timeout_ms = timeout_ms;
	return client_request(client, WIRE_OPEN, &request);
}

uint32_t client_close(struct client *client, const char *service)
{
	struct wire_request request = request_for(service, NULL);

	return client_request(client, WIRE_CLOSE, &request);
}

uint32_t client_get(struct client *client, const char *service, const char *key)
{
	struct wire_request request = request_for(service, key);

	return client_request(client, WIRE_GET, &request);
}

uint32_t client_list(struct client *client, const char *service, const char *prefix,
	uint64_t generation, uint64_t cursor)
{
	struct wire_request request = request_for(service, prefix);

	request.generation = generation;
	request.cursor = cursor;
	return client_request(client, WIRE_LIST, &request);
}

uint32_t client_watch(struct client *client, const char *service, uint64_t generation)
{
	struct wire_request request = request_for(service, NULL);

	request.generation = generation;
	return client_request(client, WIRE_WATCH, &request);
}

uint32_t client_status(struct client *client, enum wire_status_what what, const char *text)
{
	struct wire_request request = request_for(NULL, text);

	request.what = what;
	return client_request(client, WIRE_STATUS, &request);
}

static void receive(struct client *client)
{
	ssize_t n;

	if (client->consumed > 0) {
		client->len -= client->consumed;
		memmove(client->in, client->in + client->consumed, client->len);
		client->consumed = 0;
	}
	if (client->allocated - client->len < 65536) {
		client->allocated = 2 * client->allocated + 131072;
		client->in = realloc(client->in, client->allocated);
		assert_non_null(client->in);
	}
	n = recv(client->fd, client->in + client->len, client->allocated - client->len, 0);
	if (n > 0)
		client->len += (size_t)n;
	else if (n == 0 || errno == ECONNRESET)
		client->is_eof = true;
	else
		assert_int_equal(errno, EAGAIN);
}

static bool parse_frame(const struct client *client, struct frame *ret_frame)
{
	const uint8_t *at = client->in + client->consumed;
	size_t len = client->len - client->consumed;
	struct wire_header header;

	if (len < sizeof(header))
		return false;
	memcpy(&header, at, sizeof(header));
	*ret_frame = (struct frame){
		.op = le16_get(header.op),
		.status = le16_get(header.status),
		.tag = le32_get(header.tag),
		.payload = at + sizeof(header),
		.len = le32_get(header.length),
	};
	return len - sizeof(header) >= ret_frame->len;
}

bool client_has_frame(struct client *client)
{
	struct frame frame;

	if (client->len > 0 && parse_frame(client, &frame))
		return true;
	receive(client);
	return parse_frame(client, &frame);
}

static bool has_frame_or_end(void *userdata)
{
	struct client *client = userdata;

	return client_has_frame(client) || client->is_eof;
}

struct frame client_frame(struct client *client)
{
	struct frame frame;

	fixture_until(client->f, has_frame_or_end, client);
	assert_true(parse_frame(client, &frame));
	client->consumed += sizeof(struct wire_header) + frame.len;
	return frame;
}

struct frame client_expect(struct client *client, uint32_t tag, enum wire_status status)
{
	struct frame frame = client_frame(client);

	if (frame.status != status && frame.status != WIRE_OK)
		print_message("status %u: %.*s\n", frame.status, (int)frame.len,
			(const char *)frame.payload);
	assert_int_equal(frame.status, status);
	assert_int_equal(frame.tag, tag);
	return frame;
}

void client_expect_text(
	struct client *client, uint32_t tag, enum wire_status status, const char *part)
{
	struct frame frame = client_expect(client, tag, status);

	if (!memmem(frame.payload, frame.len, part, strlen(part)))
		fail_msg("\"%.*s\" does not contain \"%s\"", (int)frame.len,
			(const char *)frame.payload, part);
	assert_null(memchr(frame.payload, '\n', frame.len));
}

void client_expect_value(struct client *client, uint32_t tag, const char *value)
{
	struct frame frame = client_expect(client, tag, WIRE_OK);

	assert_int_equal(frame.len, sizeof(le64) + strlen(value));
	assert_memory_equal(frame.payload + sizeof(le64), value, strlen(value));
}

struct wire_info client_expect_info(struct client *client, uint32_t tag)
{
	struct frame frame = client_expect(client, tag, WIRE_OK);
	struct wire_info info;

	assert_int_equal(frame.len, sizeof(info));
	memcpy(&info, frame.payload, sizeof(info));
	return info;
}

static bool is_at_end(void *userdata)
{
	struct client *client = userdata;

	assert_false(client_has_frame(client));
	return client->is_eof;
}

void client_expect_end(struct client *client)
{
	fixture_until(client->f, is_at_end, client);
}
