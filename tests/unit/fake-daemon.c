#include "fake-daemon.h"

#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

void fake_daemon_init(struct fake_daemon *d)
{
	*d = (struct fake_daemon){
		.listener = -1, .wake = { -1, -1 }, .state = WIRE_LIVE, .genfile = -1
	};
	for (size_t i = 0; i < FAKE_DAEMON_CONNECTIONS; i++)
		d->connections[i] = -1;
	for (size_t i = 0; i < FAKE_DAEMON_WAITING; i++)
		d->waiting[i].fd = -1;
	strcpy(d->directory, "/tmp/fake-daemon-XXXXXX");
	assert_non_null(mkdtemp(d->directory));
	snprintf(d->path, sizeof(d->path), "%s/socket", d->directory);
	pthread_mutex_init(&d->lock, NULL);
}

static void reply(
	int fd, unsigned op, unsigned status, uint32_t tag, const void *payload, size_t len)
{
	struct wire_header header = wire_header_of(len, op, status, tag);

	/* A client that went away is none of the daemon's business. */
	if (send(fd, &header, sizeof(header), MSG_NOSIGNAL) < 0)
		return;
	if (len > 0 && send(fd, payload, len, MSG_NOSIGNAL) < 0)
		return;
}

static void refuse(int fd, unsigned op, unsigned status, uint32_t tag)
{
	static const char words[] = "because the test says so";

	reply(fd, op, status, tag, words, sizeof(words) - 1);
}

static struct wire_info info_of(const struct fake_daemon *d)
{
	return (struct wire_info){
		.generation = le64_of(d->generation),
		.n_entries = le64_of(d->n_entries),
		.age_usec = le64_of(d->age_usec),
		.state = le32_of(d->state),
	};
}

static void reply_info(struct fake_daemon *d, int fd, unsigned op, uint32_t tag)
{
	const struct wire_info info = info_of(d);
	const struct wire_header header = wire_header_of(sizeof(info), op, WIRE_OK, tag);
	const struct wire_header stray = wire_header_of(0, op, WIRE_OK, 0);
	uint8_t buf[FAKE_DAEMON_STRAYS * sizeof(stray) + sizeof(header) + sizeof(info)], *at = buf;

	for (unsigned i = 0; i < d->n_strays; i++)
		at = mempcpy(at, &stray, sizeof(stray));
	at = mempcpy(mempcpy(at, &header, sizeof(header)), &info, sizeof(info));
	(void)!send(fd, buf, (size_t)(at - buf), MSG_NOSIGNAL);
}

/* passed: -1 for none; stays open. */
static void reply_passing(
	int fd, unsigned op, uint32_t tag, const void *payload, size_t len, int passed)
{
	struct wire_header header = wire_header_of(len, op, WIRE_OK, tag);
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec parts[2] = { { &header, sizeof(header) },
		{ (void *)(uintptr_t)payload, len } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	struct cmsghdr *c;

	if (passed >= 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(passed));
		memcpy(CMSG_DATA(c), &passed, sizeof(passed));
	}
	(void)!sendmsg(fd, &message, MSG_NOSIGNAL);
}

static struct wire_fetch fetch_of(const struct fake_daemon *d)
{
	bool has_slot = d->genfile_kind != FAKE_GENFILE_NONE;

	return (struct wire_fetch){
		.info = info_of(d),
		.change = le64_of(fake_share_change(d->genfile, d->genfile_kind)),
		.slot = le32_of(has_slot ? FAKE_SLOT : GENFILE_NO_SLOT),
	};
}

static void reply_fetch(struct fake_daemon *d, int fd, uint32_t tag)
{
	const struct wire_fetch fetch = fetch_of(d);
	struct records records = { 0 };
	int image;

	for (size_t i = 0; i < d->n_entries; i++) {
		const struct record record = {
			.key = d->entries[i].key,
			.key_len = (uint32_t)strlen(d->entries[i].key),
			.value = d->entries[i].value,
			.value_len = (uint32_t)d->entries[i].value_len,
		};

		assert_int_equal(records_append(&records, &record), 0);
	}
	image = fake_share_image(d->image, &records);
	records_done(&records);
	reply_passing(fd, WIRE_FETCH, tag, &fetch, sizeof(fetch), image);
	if (image >= 0)
		close(image);
}

static void answer_waiting(struct fake_daemon *d)
{
	for (size_t i = 0; i < FAKE_DAEMON_WAITING; i++) {
		struct fake_waiting *w = &d->waiting[i];

		if (w->fd < 0 || d->is_mute || d->generation == w->generation)
			continue;
		if (w->op == WIRE_FETCH)
			reply_fetch(d, w->fd, w->tag);
		else
			reply_info(d, w->fd, w->op, w->tag);
		w->fd = -1;
	}
}

static void wait_for_generation(
	struct fake_daemon *d, int fd, unsigned op, uint32_t tag, uint64_t generation)
{
	for (size_t i = 0; i < FAKE_DAEMON_WAITING; i++) {
		if (d->waiting[i].fd >= 0)
			continue;
		d->waiting[i] = (struct fake_waiting){ fd, op, tag, generation };
		break;
	}
	answer_waiting(d);
}

static void reply_hello(struct fake_daemon *d, int fd, uint32_t tag)
{
	const struct {
		struct wire_hello_reply hello;
		char more[64];
	} greeting = {
		.hello.major = le16_of((uint16_t)(d->major ? d->major : WIRE_MAJOR)),
		.hello.minor = le16_of((uint16_t)d->minor),
		.hello.pid = le32_of(4711),
		.more = "a field of a later version",
	};
	size_t size = d->minor > 0 ? sizeof(greeting) : sizeof(greeting.hello);

	if (d->hello_status != 0)
		refuse(fd, WIRE_HELLO, d->hello_status, tag);
	else
		reply(fd, WIRE_HELLO, WIRE_OK, tag, &greeting, size);
}

/* False: the connection is to end. */
static bool reply_list(
	struct fake_daemon *d, int fd, uint32_t tag, const struct wire_request *request)
{
	uint8_t buf[16384];
	size_t len = sizeof(struct wire_list), i = request->cursor;
	size_t end = d->page_entries ? MIN(i + d->page_entries, d->n_entries) : d->n_entries;
	struct wire_list head;

	d->n_lists++;
	if (d->n_lists == d->cut_on_page)
		return false;
	if (d->n_lists == d->change_on_page)
		d->generation++;
	if (request->generation != 0 && request->generation != d->generation) {
		refuse(fd, WIRE_LIST, WIRE_CHANGED, tag);
		return true;
	}
	for (; i < end; i++) {
		const struct fake_entry *e = &d->entries[i];
		const struct wire_entry entry = {
			.flags = le64_of(e->flags),
			.value_len = le32_of((uint32_t)e->value_len),
			.key_len = le16_of((uint16_t)strlen(e->key)),
		};

		if (strncmp(e->key, request->key, request->key_len) != 0)
			continue;
		memcpy(buf + len, &entry, sizeof(entry));
		memcpy(buf + len + sizeof(entry), e->key, strlen(e->key));
		memcpy(buf + len + sizeof(entry) + strlen(e->key), e->value, e->value_len);
		len += sizeof(entry) + strlen(e->key) + e->value_len;
	}
	head = (struct wire_list){ le64_of(d->generation), le64_of(end < d->n_entries ? end : 0) };
	memcpy(buf, &head, sizeof(head));
	reply(fd, WIRE_LIST, WIRE_OK, tag, buf, len);
	return true;
}

/* False: the connection is to end. */
static bool handle_fetch(
	struct fake_daemon *d, int fd, uint32_t tag, const struct wire_request *request)
{
	const struct wire_fetch fetch = fetch_of(d);

	d->n_fetches++;
	if (d->n_cut_fetches > 0 && d->generation != request->generation) {
		d->n_cut_fetches--;
		return false;
	}
	if (d->image == FAKE_IMAGE_NONE)
		refuse(fd, WIRE_FETCH, WIRE_UNSUPPORTED, tag);
	else if (request->timeout_ms > 0)
		wait_for_generation(d, fd, WIRE_FETCH, tag, request->generation);
	else if (d->generation == 0)
		refuse(fd, WIRE_FETCH, WIRE_NO_DATA, tag);
	else if (d->generation == request->generation)
		reply(fd, WIRE_FETCH, WIRE_KEEP, tag, &fetch, sizeof(fetch));
	else
		reply_fetch(d, fd, tag);
	return true;
}

static void handle_genfile(struct fake_daemon *d, int fd, uint32_t tag)
{
	if (d->genfile >= 0)
		reply_passing(fd, WIRE_GENFILE, tag, NULL, 0, d->genfile);
	else
		refuse(fd, WIRE_GENFILE, WIRE_UNSUPPORTED, tag);
}

/* Two layers: the lower one does not have the key, of the upper one only a part is sent. */
static void reply_explain(int fd, uint32_t tag)
{
	static const char lower[] = "common/", upper[] = "config/billing/", value[] = "post";
	const struct wire_explain head = { le64_of(7), le32_of(WIRE_LIVE), le32_of(0) };
	const struct wire_layer layers[] = {
		{ .value_len = le32_of(WIRE_ABSENT),
			.age_usec = le64_of(UINT64_MAX),
			.prefix_len = le16_of(sizeof(lower) - 1) },
		{ .value_len = le32_of(12),
			.sent_len = le32_of(sizeof(value) - 1),
			.modify_index = le64_of(41),
			.index = le64_of(42),
			.prefix_len = le16_of(sizeof(upper) - 1),
			.state = WIRE_LIVE,
			.flags = WIRE_LAYER_WINS },
	};
	uint8_t buf[256], *at = buf;

	at = mempcpy(at, &head, sizeof(head));
	at = mempcpy(mempcpy(at, &layers[0], sizeof(layers[0])), lower, sizeof(lower) - 1);
	at = mempcpy(mempcpy(at, &layers[1], sizeof(layers[1])), upper, sizeof(upper) - 1);
	at = mempcpy(at, value, sizeof(value) - 1);
	reply(fd, WIRE_EXPLAIN, WIRE_OK, tag, buf, (size_t)(at - buf));
}

/* False: the connection is to end. */
static bool handle(struct fake_daemon *d, int fd, unsigned op, uint32_t tag,
	const struct wire_request *request)
{
	if (d->is_mute)
		return true;
	if (op == WIRE_HELLO) {
		reply_hello(d, fd, tag);
		return true;
	}
	if (d->refusal != 0) {
		refuse(fd, op, d->refusal, tag);
		return true;
	}
	if (op == WIRE_OPEN && (d->generation != 0 || request->timeout_ms > 0))
		wait_for_generation(d, fd, op, tag, 0);
	else if (op == WIRE_WATCH)
		wait_for_generation(d, fd, op, tag, request->generation);
	else if (op == WIRE_FETCH)
		return handle_fetch(d, fd, tag, request);
	else if (op == WIRE_GENFILE)
		handle_genfile(d, fd, tag);
	else if (d->generation == 0)
		refuse(fd, op, WIRE_NO_DATA, tag);
	else if (op == WIRE_EXPLAIN)
		reply_explain(fd, tag);
	else if (op == WIRE_LIST)
		return reply_list(d, fd, tag, request);
	else
		refuse(fd, op, WIRE_UNSUPPORTED, tag);
	return true;
}

static bool read_all(int fd, void *data, size_t len)
{
	return len == 0 || recv(fd, data, len, MSG_WAITALL) == (ssize_t)len;
}

static bool serve(struct fake_daemon *d, int fd)
{
	struct wire_header header;
	struct wire_request request;
	uint8_t payload[LIMIT_FRAME];
	unsigned op;
	bool goes_on;

	if (!read_all(fd, &header, sizeof(header)) ||
		!read_all(fd, payload, le32_get(header.length)))
		return false;
	op = le16_get(header.op);
	if (wire_parse(op, payload, le32_get(header.length), &request) < 0)
		return false;
	pthread_mutex_lock(&d->lock);
	goes_on = handle(d, fd, op, le32_get(header.tag), &request);
	pthread_mutex_unlock(&d->lock);
	return goes_on;
}

static void hang_up(struct fake_daemon *d, int *fd)
{
	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < FAKE_DAEMON_WAITING; i++)
		if (d->waiting[i].fd == *fd)
			d->waiting[i].fd = -1;
	pthread_mutex_unlock(&d->lock);
	close(*fd);
	*fd = -1;
}

static void take_connection(struct fake_daemon *d)
{
	int fd = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC);

	for (size_t i = 0; i < FAKE_DAEMON_CONNECTIONS && fd >= 0; i++) {
		if (d->connections[i] >= 0)
			continue;
		d->connections[i] = TAKE_FD(fd);
		pthread_mutex_lock(&d->lock);
		d->n_accepted++;
		pthread_mutex_unlock(&d->lock);
	}
	if (fd >= 0)
		close(fd);
}

static void *run(void *userdata)
{
	struct fake_daemon *d = userdata;

	for (;;) {
		struct pollfd fds[2 + FAKE_DAEMON_CONNECTIONS] = { { d->wake[0], POLLIN, 0 },
			{ d->listener, POLLIN, 0 } };
		char c;

		for (size_t i = 0; i < FAKE_DAEMON_CONNECTIONS; i++)
			fds[2 + i] = (struct pollfd){ d->connections[i], POLLIN, 0 };
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[0].revents) {
			if (read(d->wake[0], &c, 1) <= 0)
				break;
			pthread_mutex_lock(&d->lock);
			answer_waiting(d);
			pthread_mutex_unlock(&d->lock);
		}
		for (size_t i = 0; i < FAKE_DAEMON_CONNECTIONS; i++)
			if (fds[2 + i].revents && !serve(d, d->connections[i]))
				hang_up(d, &d->connections[i]);
		if (fds[1].revents)
			take_connection(d);
	}
	return NULL;
}

void fake_daemon_start(struct fake_daemon *d)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(address.sun_path, d->path);
	d->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(d->listener >= 0);
	assert_int_equal(bind(d->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(d->listener, 16), 0);
	assert_int_equal(pipe2(d->wake, O_CLOEXEC), 0);
	if (d->keeps_no_genfile && d->genfile >= 0)
		close(TAKE_FD(d->genfile));
	if (d->genfile < 0)
		d->genfile = fake_share_genfile(d->genfile_kind);
	fake_share_raise(d->genfile, d->genfile_kind);
	assert_int_equal(pthread_create(&d->thread, NULL, run, d), 0);
	d->is_running = true;
}

void fake_daemon_stop(struct fake_daemon *d)
{
	if (!d->is_running)
		return;
	d->is_running = false;
	close(TAKE_FD(d->wake[1]));
	pthread_join(d->thread, NULL);
	unlink(d->path);
	close(TAKE_FD(d->wake[0]));
	close(TAKE_FD(d->listener));
	for (size_t i = 0; i < FAKE_DAEMON_CONNECTIONS; i++)
		if (d->connections[i] >= 0)
			hang_up(d, &d->connections[i]);
}

void fake_daemon_done(struct fake_daemon *d)
{
	fake_daemon_stop(d);
	if (d->genfile >= 0)
		close(d->genfile);
	rmdir(d->directory);
	pthread_mutex_destroy(&d->lock);
}

/* Those who wait are told by the daemon's thread: its sockets are its own. */
static void change(struct fake_daemon *d)
{
	d->generation += 10;
	fake_share_raise(d->genfile, d->genfile_kind);
	pthread_mutex_unlock(&d->lock);
	if (d->is_running)
		assert_int_equal(write(d->wake[1], "", 1), 1);
}

void fake_daemon_put(struct fake_daemon *d, const char *key, const char *value)
{
	size_t i = 0;
	bool is_there;

	pthread_mutex_lock(&d->lock);
	while (i < d->n_entries && strcmp(d->entries[i].key, key) < 0)
		i++;
	is_there = i < d->n_entries && strcmp(d->entries[i].key, key) == 0;
	if (value && !is_there) {
		memmove(&d->entries[i + 1], &d->entries[i],
			(d->n_entries++ - i) * sizeof(d->entries[0]));
		d->entries[i] = (struct fake_entry){ 0 };
		strcpy(d->entries[i].key, key);
	} else if (!value && is_there) {
		memmove(&d->entries[i], &d->entries[i + 1],
			(--d->n_entries - i) * sizeof(d->entries[0]));
	}
	if (value) {
		strcpy(d->entries[i].value, value);
		d->entries[i].value_len = strlen(value);
	}
	change(d);
}

void fake_daemon_touch(struct fake_daemon *d)
{
	pthread_mutex_lock(&d->lock);
	change(d);
}
