/* FETCH and GENFILE: what the daemon hands out, and how much of it. */
#include "session-fixture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* What a client got in one go: whole frames, and the descriptors with them. */
struct catch
{
	uint8_t data[8192];
	size_t len, at;
	int fds[8];
	unsigned n_fds;
};

static void catch_all(struct client *client, struct catch *c)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(c->fds))];
	} control;

	for (;;) {
		struct iovec part = { c->data + c->len, sizeof(c->data) - c->len };
		struct msghdr message = { .msg_iov = &part,
			.msg_iovlen = 1,
			.msg_control = control.bytes,
			.msg_controllen = sizeof(control.bytes) };
		ssize_t n;

		fixture_turn(client->f, 3);
		n = recvmsg(client->fd, &message, MSG_CMSG_CLOEXEC);
		if (n <= 0)
			return;
		c->len += (size_t)n;
		for (struct cmsghdr *m = CMSG_FIRSTHDR(&message); m; m = CMSG_NXTHDR(&message, m)) {
			size_t size = m->cmsg_len - CMSG_LEN(0);

			memcpy(c->fds + c->n_fds, CMSG_DATA(m), size);
			c->n_fds += (unsigned)(size / sizeof(int));
		}
	}
}

static void catch_done(struct catch *c)
{
	while (c->n_fds > 0)
		close(c->fds[--c->n_fds]);
	c->len = c->at = 0;
}

/* The next frame's status; UINT_MAX: none. Its head where it has one. */
static unsigned next(struct catch *c, struct wire_fetch *ret_fetch)
{
	struct wire_header header;
	size_t len;

	if (c->len - c->at < sizeof(header))
		return UINT32_MAX;
	memcpy(&header, c->data + c->at, sizeof(header));
	len = le32_get(header.length);
	if (ret_fetch && len == sizeof(*ret_fetch))
		memcpy(ret_fetch, c->data + c->at + sizeof(header), len);
	c->at += sizeof(header) + len;
	return le16_get(header.status);
}

static void fetch(struct client *client, uint64_t generation, uint32_t timeout_ms)
{
	const struct wire_request request = {
		.service = "billing",
		.service_len = 7,
		.generation = generation,
		.timeout_ms = timeout_ms,
	};

	client_request(client, WIRE_FETCH, &request);
}

static struct client *client_with_data(struct fixture *f)
{
	struct client *client = client_new_with_hello(f);
	uint32_t tag = client_open(client, "billing", 5000);

	fixture_turn(f, 2);
	fake_source_apply(&f->fake, "config/billing/", "k=v", NULL);
	client_expect_info(client, tag);
	return client;
}

static void an_image_comes_sealed_and_read_only(void **state)
{
	struct client *client = client_with_data(*state);
	char key[32] = "k"; /* gcc warns of the ways for long keys where it sees a short one */
	struct catch c = { 0 };
	struct wire_fetch head;
	struct record record;
	struct image image;
	void *data;
	off_t size;

	fetch(client, 0, 0);
	catch_all(client, &c);
	assert_int_equal(next(&c, &head), WIRE_OK);
	assert_int_equal(c.n_fds, 1);
	assert_int_equal(fcntl(c.fds[0], F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(fcntl(c.fds[0], F_GET_SEALS) & 0xf,
		F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	size = lseek(c.fds[0], 0, SEEK_END);
	data = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, c.fds[0], 0);
	assert_int_equal(image_open(data, (size_t)size, &image), 0);
	assert_true(image_find(&image, key, 1, &record));
	assert_int_equal(le64_get(head.info.n_entries), 1);
	munmap(data, (size_t)size);
	catch_done(&c);
	client_free(client);
}

static void what_is_held_is_kept(void **state)
{
	struct client *client = client_with_data(*state);
	struct catch c = { 0 };
	struct wire_fetch head, again;

	fetch(client, 0, 0);
	catch_all(client, &c);
	assert_int_equal(next(&c, &head), WIRE_OK);
	catch_done(&c);
	fetch(client, le64_get(head.info.generation), 0);
	catch_all(client, &c);
	assert_int_equal(next(&c, &again), WIRE_KEEP);
	assert_int_equal(c.n_fds, 0);
	assert_memory_equal(&again.slot, &head.slot, sizeof(head.slot));
	assert_memory_equal(&again.change, &head.change, sizeof(head.change));
	client_free(client);
}

static bool has_expired(void *userdata)
{
	return loop_now() > *(uint64_t *)userdata;
}

static void a_waiting_fetch_is_answered_at_the_change(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_with_data(f);
	struct catch c = { 0 };
	struct wire_fetch head, newer;
	uint64_t until;

	fetch(client, 0, 0);
	catch_all(client, &c);
	assert_int_equal(next(&c, &head), WIRE_OK);
	catch_done(&c);
	fetch(client, le64_get(head.info.generation), WIRE_FOREVER);
	fetch(client, le64_get(head.info.generation), 30);
	catch_all(client, &c);
	assert_int_equal(c.len, 0);
	until = loop_now() + 60000;
	fixture_until(f, has_expired, &until);
	catch_all(client, &c);
	assert_int_equal(next(&c, NULL), WIRE_KEEP);
	assert_int_equal(next(&c, NULL), UINT32_MAX);
	fake_source_apply(&f->fake, "config/billing/", "k=w", NULL);
	until = loop_now() + 2 * LIMIT_COALESCE_USEC;
	fixture_until(f, has_expired, &until);
	catch_all(client, &c);
	assert_int_equal(next(&c, &newer), WIRE_OK);
	assert_int_equal(c.n_fds, 1);
	assert_memory_not_equal(&newer.info.generation, &head.info.generation, 8);
	assert_memory_not_equal(&newer.change, &head.change, 8);
	catch_done(&c);
	client_free(client);
}

/* Descriptors under way count against the daemon, whoever leaves them there. */
static void only_so_many_descriptors_are_under_way(void **state)
{
	struct client *client = client_with_data(*state);
	struct catch c = { 0 };

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < LIMIT_DESCRIPTORS + 3; i++) {
			fetch(client, 0, 0);
			fixture_turn(client->f, 2);
		}
		client_request(client, WIRE_GENFILE, &(struct wire_request){ 0 });
		catch_all(client, &c);
		for (unsigned i = 0; i < LIMIT_DESCRIPTORS; i++)
			assert_int_equal(next(&c, NULL), WIRE_OK);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(next(&c, NULL), WIRE_LIMIT);
		assert_int_equal(c.n_fds, LIMIT_DESCRIPTORS);
		catch_done(&c);
	}
	client_free(client);
}

static unsigned n_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 512; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void a_client_that_goes_takes_its_descriptors_along(void **state)
{
	struct fixture *f = *state;
	struct client *first = client_with_data(f);
	unsigned before = n_descriptors();

	for (unsigned i = 0; i < 5; i++) {
		struct client *client = client_new_with_hello(f);

		fetch(client, 0, 0);
		fetch(client, 0, 0);
		fetch(client, 0, 0);
		client_free(client);
	}
	fixture_turn(f, 5);
	assert_int_equal(n_descriptors(), before);
	client_free(first);
}

static void the_generation_file_tells_of_the_change(void **state)
{
	struct fixture *f = *state;
	struct client *client = client_with_data(f);
	const struct genfile_slot *slots;
	struct catch c = { 0 };
	struct wire_fetch head;
	uint64_t change, until;
	uint32_t slot;
	void *data;

	client_request(client, WIRE_GENFILE, &(struct wire_request){ 0 });
	fetch(client, 0, 0);
	catch_all(client, &c);
	assert_int_equal(next(&c, NULL), WIRE_OK);
	assert_int_equal(next(&c, &head), WIRE_OK);
	assert_int_equal(c.n_fds, 2);
	assert_int_equal(fcntl(c.fds[0], F_GETFL) & O_ACCMODE, O_RDONLY);
	data = mmap(NULL, genfile_size(16), PROT_READ, MAP_SHARED, c.fds[0], 0);
	assert_ptr_not_equal(data, MAP_FAILED);
	slots = (const struct genfile_slot *)(const void *)((const uint8_t *)data +
							    sizeof(struct genfile_header));
	slot = le32_get(head.slot);
	change = le64_get(head.change);
	assert_in_range(slot, 0, 15);
	assert_int_equal(atomic_load(&slots[slot].change), change);
	assert_int_equal(atomic_load(&slots[slot].state), WIRE_LIVE);
	fake_source_apply(&f->fake, "config/billing/", "k=w", NULL);
	until = loop_now() + 2 * LIMIT_COALESCE_USEC;
	fixture_until(f, has_expired, &until);
	assert_int_not_equal(atomic_load(&slots[slot].change), change);
	change = atomic_load(&slots[slot].change);
	/* The last client goes: whoever may still look at the slot is told. */
	catch_done(&c);
	client_free(client);
	until = loop_now() + 20000;
	fixture_until(f, has_expired, &until);
	assert_int_equal(services_count(f->services), 0);
	assert_int_not_equal(atomic_load(&slots[slot].change), change);
	munmap(data, genfile_size(16));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_image_comes_sealed_and_read_only),
		TEST(what_is_held_is_kept),
		TEST(a_waiting_fetch_is_answered_at_the_change),
		TEST(only_so_many_descriptors_are_under_way),
		TEST(a_client_that_goes_takes_its_descriptors_along),
		TEST(the_generation_file_tells_of_the_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
