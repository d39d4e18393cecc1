#include "client/lib/link.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

#include "client/lib/secret.h"
#include "proto/image.h"
#include "proto/limits.h"

#define INPUT_FIRST 4096u /* any reply but pages of lists and values */
#define FIRST_FREE_FD 3 /* below are the standard streams, which other code writes to blindly */

int link_init(struct link *link, const char *path)
{
	size_t len;

	if (!path)
		path = secure_getenv(LINK_ENVIRONMENT);
	if (!path || path[0] == '\0')
		path = LINK_DEFAULT_PATH;
	*link = (struct link){ .fd = -1, .epoll_fd = -1, .address.sun_family = AF_UNIX };
	len = strlen(path);
	if (len >= sizeof(link->address.sun_path))
		return -ENAMETOOLONG;
	memcpy(link->address.sun_path, path, len);
	return 0;
}

void link_done(struct link *link)
{
	link_close(link);
	free(link->out);
	secret_unmap(link->in, link->in_allocated);
	*link = (struct link){ .fd = -1, .epoll_fd = -1 };
}

const char *link_path(const struct link *link)
{
	return link->address.sun_path;
}

static bool is_own(const struct link *link)
{
	struct stat st;

	return link->fd >= 0 && fstat(link->fd, &st) == 0 && st.st_dev == link->dev &&
	       st.st_ino == link->ino;
}

static int open_socket(void)
{
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int higher;

	if (fd < 0)
		return -errno;
	if (fd >= FIRST_FREE_FD)
		return TAKE_FD(fd);
	higher = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
	return higher < 0 ? -errno : higher;
}

static int enter_poll(struct link *link)
{
	struct epoll_event event = { .events = EPOLLIN };

	if (epoll_ctl(link->epoll_fd, EPOLL_CTL_ADD, link->fd, &event) == 0 || errno == EEXIST)
		return 0;
	if (errno != EBADF && errno != EINVAL)
		return -errno;
	/* The program closed it, and the number is something else's: nobody polls. */
	link->epoll_fd = -1;
	return 0;
}

int link_connect(struct link *link)
{
	static const struct wire_request hello = {
		.min_major = WIRE_MAJOR,
		.max_major = WIRE_MAJOR,
		.image_major = IMAGE_MAJOR,
	};
	AUTO_CLOSE int fd = -1;
	struct stat st;
	int r;

	link_close(link);
	memset(link->refusal, 0, sizeof(link->refusal));
	fd = open_socket();
	if (fd < 0)
		return fd;
	if (connect(fd, (struct sockaddr *)&link->address, sizeof(link->address)) < 0 ||
		fstat(fd, &st) < 0)
		return -errno;
	r = link_send(link, WIRE_HELLO, &hello, &link->hello_tag);
	if (r < 0)
		return r;
	link->fd = TAKE_FD(fd);
	link->dev = st.st_dev;
	link->ino = st.st_ino;
	link->euid = geteuid();
	if (link->epoll_fd < 0)
		return 0;
	r = enter_poll(link);
	if (r < 0)
		link_close(link);
	return r;
}

int link_poll_in(struct link *link, int epoll_fd)
{
	if (link->epoll_fd == epoll_fd)
		return 0;
	link->epoll_fd = epoll_fd;
	return link->fd >= 0 ? enter_poll(link) : 0;
}

static void drop_fds(struct link *link)
{
	while (link->n_fds > 0)
		close(link->fds[--link->n_fds]);
	link->has_lost_fds = false;
}

void link_close(struct link *link)
{
	/* A descriptor that is no longer ours belongs to whoever has the number now. */
	if (is_own(link)) {
		/* Children of a fork may hold the connection open: closing is not enough. */
		if (link->epoll_fd >= 0)
			(void)epoll_ctl(link->epoll_fd, EPOLL_CTL_DEL, link->fd, NULL);
		close(link->fd);
	}
	drop_fds(link);
	link->fd = -1;
	link->hello_tag = 0;
	link->out_start = link->out_end = 0;
	link->in_start = link->in_end = 0;
}

void link_abandon(struct link *link)
{
	if (is_own(link))
		close(link->fd);
	*link = (struct link){ .fd = -1, .epoll_fd = -1, .address = link->address };
}

static int reserve_output(struct link *link, size_t more)
{
	size_t allocated = MAX(link->out_allocated, (size_t)512);
	uint8_t *out;

	if (link->out_allocated - link->out_end >= more)
		return 0;
	while (allocated - link->out_end < more)
		allocated *= 2;
	out = realloc(link->out, allocated);
	if (!out)
		return -ENOMEM;
	link->out = out;
	link->out_allocated = allocated;
	return 0;
}

int link_send(
	struct link *link, enum wire_op op, const struct wire_request *request, uint32_t *ret_tag)
{
	/* Room for any op's fixed part and all its texts. */
	size_t room = sizeof(struct wire_header) + 32 + request->service_len + request->key_len +
		      request->reason_len + request->value_len;
	uint32_t tag = link->last_tag + 1 != 0 ? link->last_tag + 1 : 1;
	ssize_t n;
	int r;

	r = reserve_output(link, room);
	if (r < 0)
		return r;
	n = wire_encode(op, tag, request, link->out + link->out_end, room);
	if (n < 0)
		return (int)n;
	link->out_end += (size_t)n;
	link->last_tag = tag;
	*ret_tag = tag;
	return 0;
}

int link_flush(struct link *link)
{
	if (link->out_start == link->out_end)
		return 0;
	if (!is_own(link))
		return -ENOTCONN;
	while (link->out_start < link->out_end) {
		ssize_t n = send(link->fd, link->out + link->out_start,
			link->out_end - link->out_start, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return errno == EPIPE ? -ECONNRESET : -errno;
		link->out_start += (size_t)n;
	}
	link->out_start = link->out_end = 0;
	return 0;
}

/* Whether the bytes at hand begin with a header; *ret_size is then that of its whole frame. */
static bool has_header(const struct link *link, struct wire_header *ret_header, size_t *ret_size)
{
	if (link->in_end - link->in_start < sizeof(*ret_header))
		return false;
	memcpy(ret_header, link->in + link->in_start, sizeof(*ret_header));
	*ret_size = sizeof(*ret_header) + MIN(le32_get(ret_header->length), LIMIT_REPLY);
	return true;
}

/* 1, 0: not whole yet, -EBADMSG. */
static int next_frame(struct link *link, struct link_reply *ret_reply)
{
	struct wire_header header;
	size_t size;

	if (!has_header(link, &header, &size))
		return 0;
	if (le32_get(header.length) > LIMIT_REPLY)
		return -EBADMSG;
	if (link->in_end - link->in_start < size)
		return 0;
	*ret_reply = (struct link_reply){
		.op = le16_get(header.op),
		.status = le16_get(header.status),
		.tag = le32_get(header.tag),
		.payload = link->in + link->in_start + sizeof(header),
		.len = size - sizeof(header),
	};
	link->in_start += size;
	return 1;
}

/*
 * Room behind in_end. The buffer grows by doubling as bytes arrive, so that a length that lies
 * costs nothing.
 */
static int reserve_input(struct link *link)
{
	void *in = link->in;
	int r;

	if (!in) {
		r = secret_map(INPUT_FIRST, &in);
		if (r < 0)
			return r;
		link->in = in;
		link->in_allocated = INPUT_FIRST;
	}
	if (link->in_start == link->in_end)
		link->in_start = link->in_end = 0;
	if (link->in_end < link->in_allocated)
		return 0;
	if (link->in_start > 0) {
		memmove(link->in, link->in + link->in_start, link->in_end - link->in_start);
		link->in_end -= link->in_start;
		link->in_start = 0;
		return 0;
	}
	r = secret_remap(&in, link->in_allocated, link->in_allocated * 2);
	if (r < 0)
		return r;
	link->in = in;
	link->in_allocated *= 2;
	return 0;
}

static int wait_for_socket(struct link *link, uint64_t deadline)
{
	struct pollfd pfd = { .fd = link->fd, .events = POLLIN };
	int r;

	if (link->out_start < link->out_end)
		pfd.events |= POLLOUT;
	r = poll(&pfd, 1, clock_left_ms(deadline));
	if (r < 0)
		return -errno;
	return r == 0 ? -ETIMEDOUT : 0;
}

static void keep_fds(struct link *link, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (link->n_fds < LIMIT_RECEIVED_DESCRIPTORS && !link->has_lost_fds) {
				link->fds[link->n_fds++] = fd;
			} else {
				close(fd);
				link->has_lost_fds = true;
			}
		}
	}
	link->has_lost_fds |= message->msg_flags & MSG_CTRUNC;
}

static ssize_t receive_some(struct link *link)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(LIMIT_RECEIVED_DESCRIPTORS * sizeof(int))];
	} control;
	struct iovec part = { link->in + link->in_end, link->in_allocated - link->in_end };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n = recvmsg(link->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n >= 0)
		keep_fds(link, &message);
	return n;
}

/* Some more bytes. 0 also when it must be asked again. */
static int read_more(struct link *link, uint64_t deadline)
{
	ssize_t n;
	int r;

	if (!is_own(link))
		return -ENOTCONN;
	r = link_flush(link);
	/* A daemon that closed in front of our request may have said why: read that first. */
	if (r < 0 && r != -ECONNRESET)
		return r;
	if (deadline != CLOCK_NO_WAIT) {
		r = wait_for_socket(link, deadline);
		if (r < 0)
			return r;
		/* That may have been hours. */
		if (!is_own(link))
			return -ENOTCONN;
	}
	r = reserve_input(link);
	if (r < 0)
		return r;
	n = receive_some(link);
	if (n > 0)
		link->in_end += (size_t)n;
	else if (n == 0)
		return -ECONNRESET;
	else if (errno == EAGAIN)
		return deadline == CLOCK_NO_WAIT ? -ETIMEDOUT : 0;
	else if (errno != EINTR)
		return -errno;
	return 0;
}

static int take_hello(struct link *link, const struct link_reply *reply)
{
	struct wire_hello_reply hello;
	int r;

	r = link_status_error(reply->status);
	if (r < 0) {
		memcpy(link->refusal, reply->payload, MIN(reply->len, sizeof(link->refusal) - 1));
		return r;
	}
	r = link_reply_head(reply, &hello, sizeof(hello));
	if (r < 0)
		return r;
	if (le16_get(hello.major) != WIRE_MAJOR)
		return -EPROTONOSUPPORT;
	link->hello_tag = 0;
	return 0;
}

int link_receive(struct link *link, uint64_t deadline, struct link_reply *ret_reply)
{
	uint64_t until = deadline == CLOCK_NO_WAIT ? clock_after_usec(LIMIT_TAKE_USEC) : deadline;
	struct link_reply reply;
	bool has_read = false;
	int r;

	for (;;) {
		r = next_frame(link, &reply);
		if (r == 0 && has_read && clock_now_usec() >= until)
			return -ETIMEDOUT; /* a frame so long that it does not end in time */
		has_read |= r == 0;
		if (r == 0)
			r = read_more(link, deadline);
		else if (r > 0 && link->hello_tag != 0 && reply.op == WIRE_HELLO)
			r = take_hello(link, &reply);
		else if (r > 0) {
			*ret_reply = reply;
			return 0;
		}
		if (r < 0)
			return r;
	}
}

int link_take_fd(struct link *link)
{
	int fd;

	/* Which of them were lost, and so to which reply the others belong, nobody knows. */
	if (link->has_lost_fds)
		return -EMFILE;
	if (link->n_fds == 0)
		return -EBADMSG;
	fd = link->fds[0];
	link->n_fds--;
	memmove(link->fds, link->fds + 1, link->n_fds * sizeof(link->fds[0]));
	return fd;
}

bool link_is_of_another_user(const struct link *link)
{
	return link->euid != geteuid();
}

bool link_has_reply(const struct link *link)
{
	struct wire_header header;
	size_t size;

	return has_header(link, &header, &size) && link->in_end - link->in_start >= size;
}

bool link_has_input(struct link *link)
{
	uint64_t now;
	char c;

	if (link_has_reply(link))
		return true;
	if (recv(link->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN)
		return true;
	/* A quiet socket that took our number would look like a quiet daemon. */
	now = clock_now_usec();
	if (now - link->checked_at < LIMIT_IDENTITY_USEC)
		return false;
	link->checked_at = now;
	return !is_own(link);
}

void link_trim(struct link *link)
{
	if (link->in_start == link->in_end && link->in_allocated > INPUT_FIRST) {
		secret_unmap(link->in, link->in_allocated);
		link->in = NULL;
		link->in_start = link->in_end = link->in_allocated = 0;
	}
	if (link->out_start == link->out_end) {
		free(TAKE_PTR(link->out));
		link->out_start = link->out_end = link->out_allocated = 0;
	}
}

int link_status_error(unsigned status)
{
	switch ((enum wire_status)status) {
	case WIRE_OK:
	case WIRE_KEEP:
		return 0;
	case WIRE_NO_KEY:
		return -ENOENT;
	case WIRE_NO_DATA:
		return -ENODATA;
	case WIRE_DENIED:
		return -EACCES;
	case WIRE_BAD_REQUEST:
		return -EBADMSG;
	case WIRE_BAD_NAME:
		return -EINVAL;
	case WIRE_LIMIT:
		return -ENOBUFS;
	case WIRE_UNSUPPORTED:
		return -EPROTONOSUPPORT;
	case WIRE_CHANGED:
		return -ESTALE;
	case WIRE_CLOSED:
		return -ECONNRESET;
	case WIRE_INTERNAL:
		return -EIO;
	}
	return -EIO;
}

int link_reply_head(const struct link_reply *reply, void *ret_head, size_t size)
{
	if (reply->len < size)
		return -EBADMSG;
	memcpy(ret_head, reply->payload, size);
	return 0;
}
