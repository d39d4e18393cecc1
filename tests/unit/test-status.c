#include "session-fixture.h"

/* A STATUS reply taken apart. */
struct page {
	bool has_more;
	char last[LIMIT_SERVICE_NAME + 1];
	char *json; /* NUL-terminated, freed by done() */
};

static struct page take(const struct frame *frame)
{
	struct page page = { 0 };
	size_t name_len;

	assert_true(frame->len >= 2);
	assert_true(frame->payload[0] <= 1);
	name_len = frame->payload[1];
	assert_true(name_len <= LIMIT_SERVICE_NAME && frame->len >= 2 + name_len);
	page.has_more = frame->payload[0];
	memcpy(page.last, frame->payload + 2, name_len);
	page.json = strndup((const char *)frame->payload + 2 + name_len, frame->len - 2 - name_len);
	assert_non_null(page.json);
	return page;
}

static struct page ask(struct client *client, enum wire_status_what what, const char *text)
{
	struct frame frame = client_expect(client, client_status(client, what, text), WIRE_OK);

	return take(&frame);
}

static void done(struct page *page)
{
	free(page->json);
}

static void assert_has(const struct page *page, const char *part)
{
	if (!strstr(page->json, part))
		fail_msg("%s lacks %s", page->json, part);
}

static unsigned count(const char *text, const char *part)
{
	unsigned n = 0;

	while ((text = strstr(text, part))) {
		text += strlen(part);
		n++;
	}
	return n;
}

static void the_daemon_tells_about_itself(void **state)
{
	struct client *client = client_new_with_hello(*state), *other = client_new(*state);
	struct page page = ask(client, WIRE_STATUS_DAEMON, "");
	char expected[64];

	assert_false(page.has_more);
	snprintf(expected, sizeof(expected),
		"{\"version\":\"%s\",\"pid\":%d,\"uptime_seconds\":", CONSULCFGD_VERSION,
		(int)getpid());
	assert_int_equal(strncmp(page.json, expected, strlen(expected)), 0);
	assert_has(&page, ",\"source\":\"fake\",\"source_connections\":0,\"clients\":2}");
	done(&page);
	client_free(client);
	client_free(other);
}

static void a_loading_service_shows_its_error(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	struct page page;

	client_expect(client, client_status(client, WIRE_STATUS_SERVICE, "billing"), WIRE_NO_KEY);
	client_expect(client, client_open(client, "billing", 0), WIRE_NO_DATA);
	page = ask(client, WIRE_STATUS_SERVICE, "billing");
	assert_has(&page, "{\"name\":\"billing\",\"state\":\"loading\",\"generation\":0,"
			  "\"digest\":null,\"keys\":0,\"bytes\":0,\"index\":0,"
			  "\"age_seconds\":null,\"clients\":1,\"layers\":[{\"prefix\":"
			  "\"config/billing/\",\"keys\":0,\"index\":0,\"state\":\"loading\","
			  "\"age_seconds\":null,\"held\":null}],\"held\":null,\"frozen\":null,"
			  "\"overrides\":0,\"overridden\":[],\"last_error\":null,"
			  "\"backup\":{\"age_seconds\":null,\"error\":null}}");
	done(&page);
	tree_fail(fake_source_tree(&f->fake, "config/billing/"), TREE_UNREACHABLE,
		loop_now() + 10 * USEC_PER_SEC, "cannot reach Consul");
	page = ask(client, WIRE_STATUS_SERVICE, "billing");
	assert_has(&page, "\"last_error\":{\"kind\":\"unreachable\",\"message\":"
			  "\"cannot reach Consul\",\"since\":");
	assert_has(&page, ",\"retry_in_seconds\":9.");
	done(&page);
	client_free(client);
}

static void a_live_service_shows_its_content(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f);
	char expected[128];
	struct wire_info info;
	struct page page;
	uint32_t tag;

	tag = client_open(client, "billing", 5000);
	fixture_turn(f, 2);
	fake_source_apply(&f->fake, "config/billing/", "a=1", "b=2", NULL);
	info = client_expect_info(client, tag);
	page = ask(client, WIRE_STATUS_SERVICE, "billing");
	snprintf(expected, sizeof(expected),
		"\"state\":\"live\",\"generation\":%llu,\"digest\":\"%016llx\",\"keys\":2,",
		(unsigned long long)le64_get(info.generation),
		(unsigned long long)le64_get(info.digest));
	assert_has(&page, expected);
	assert_has(&page, "\"age_seconds\":0.");
	done(&page);
	client_free(client);
}

static void open_shared(struct client *client, const char *name)
{
	client_open(client, name, 0);
	(void)client_frame(client);
}

/* All pages; checks order and returns how many services there were. */
static unsigned list_services(struct client *client, unsigned *ret_n_pages)
{
	char last[LIMIT_SERVICE_NAME + 1] = "";
	struct page page;
	unsigned n = 0;

	*ret_n_pages = 0;
	do {
		page = ask(client, WIRE_STATUS_SERVICES, last);
		assert_true(strlen(page.json) < LIMIT_FRAME - 100);
		if (page.has_more)
			assert_true(strcmp(page.last, last) > 0);
		memcpy(last, page.last, sizeof(last));
		n += count(page.json, "{\"name\":");
		assert_int_equal(count(page.json, "}},{\"name\":"),
			n > 0 && page.json[0] ? count(page.json, "{\"name\":") - 1 : 0);
		++*ret_n_pages;
		done(&page);
	} while (page.has_more);
	return n;
}

static void services_are_listed_in_pages(void **state)
{
	struct fixture *f = *state;
	struct client *clients[3];
	unsigned n_pages;
	char name[32];

	for (unsigned c = 0; c < ARRAY_SIZE(clients); c++)
		clients[c] = client_new_with_hello(f);
	assert_int_equal(list_services(clients[0], &n_pages), 0);
	assert_int_equal(n_pages, 1);
	for (unsigned c = 0; c < ARRAY_SIZE(clients); c++) {
		for (unsigned i = 0; i < 200; i++) {
			snprintf(name, sizeof(name), "shared-%u-%u", c, i);
			open_shared(clients[c], name);
		}
	}
	assert_int_equal(list_services(clients[1], &n_pages), 600);
	assert_true(n_pages > 3);
	for (unsigned c = 0; c < ARRAY_SIZE(clients); c++)
		client_free(clients[c]);
}

/* Services that this client may not read are not counted, named, or used as a place to go on. */
static void others_services_are_not_listed(void **state)
{
	struct fixture *f = *state;
	struct access_subject anyone = { .kind = ACCESS_ANYONE };
	struct client *root = client_new_with_hello(f), *more = client_new_with_hello(f),
		      *client = client_new_with_hello(f);
	struct page page;
	unsigned n_pages;
	char name[32];

	f->config.operator_subjects =
		&(struct access_subject){ .kind = ACCESS_USER, .id = geteuid() };
	f->config.n_operators = 1;
	f->rules[1].access_subjects = &anyone;
	for (unsigned i = 0; i < 400; i++) {
		snprintf(name, sizeof(name), "secret-%03u", i);
		open_shared(i % 2 ? root : more, name);
	}
	open_shared(root, "zoo");
	f->rules[1].access_subjects = &f->nobody;
	client->session->peer = (struct access_peer){ .uid = FIXTURE_STRANGER };
	f->rules[2].access_subjects = &anyone;
	f->rules[2].access = f->rules[1].access;
	f->rules[2].n_access = 1;
	page = ask(client, WIRE_STATUS_SERVICES, "");
	assert_false(page.has_more);
	assert_null(strstr(page.json, "secret"));
	assert_has(&page, "\"name\":\"zoo\"");
	done(&page);
	client_expect(
		client, client_status(client, WIRE_STATUS_SERVICES, "no/name"), WIRE_BAD_NAME);
	/* Operators see all, whatever they may read. */
	assert_int_equal(list_services(root, &n_pages), 401);
	page = ask(root, WIRE_STATUS_SERVICE, "secret-000");
	done(&page);
	client_free(root);
	client_free(more);
	client_free(client);
}

/* Requests behind a listing wait for it, and its client may go away in the middle. */
static void a_listing_takes_its_turns(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_new_with_hello(f), *leaver = client_new_with_hello(f);
	struct access_subject anyone = { .kind = ACCESS_ANYONE };
	struct frame frame;
	struct page page;
	uint32_t tag;
	char name[32];

	f->rules[1].access_subjects = &anyone;
	for (unsigned i = 0; i < 250; i++) {
		snprintf(name, sizeof(name), "secret-%03u", i);
		open_shared(client, name);
	}
	leaver->session->peer = (struct access_peer){ .uid = FIXTURE_STRANGER };
	client->session->peer = (struct access_peer){ .uid = FIXTURE_STRANGER };
	f->rules[1].access_subjects = &f->nobody;
	client_status(leaver, WIRE_STATUS_SERVICES, "");
	tag = client_status(client, WIRE_STATUS_SERVICES, "");
	client_status(client, WIRE_STATUS_DAEMON, "");
	fixture_turn(f, 1);
	client_free(leaver);
	frame = client_expect(client, tag, WIRE_OK);
	page = take(&frame);
	assert_string_equal(page.json, "");
	done(&page);
	client_expect(client, tag + 1, WIRE_OK);
	assert_true(list_is_empty(&f->server->listings));
	client_free(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_daemon_tells_about_itself),
		TEST(a_loading_service_shows_its_error),
		TEST(a_live_service_shows_its_content),
		TEST(services_are_listed_in_pages),
		TEST(others_services_are_not_listed),
		TEST(a_listing_takes_its_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
