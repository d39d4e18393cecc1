#include "daemon/journal.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "proto/le.h"
#include "proto/limits.h"

static struct {
	int fd;
	struct sockaddr_un address;
	uint64_t rests_until; /* now_usec(): it did not take a message, and none waits for it */
} journal = { .fd = -1 };

void journal_put(struct journal_message *message, const char *name, const char *value, size_t len)
{
	size_t name_len = strlen(name), n = name_len + 1 + sizeof(le64) + len + 1;
	uint8_t *at = message->bytes + message->len;
	le64 length = le64_of(len);

	if (n > sizeof(message->bytes) - message->len) {
		message->is_cut = true;
		return;
	}
	at = mempcpy(at, name, name_len);
	*at++ = '\n';
	at = mempcpy(at, &length, sizeof(length));
	at = mempcpy(at, value, len);
	*at = '\n';
	message->len += n;
}

/* A journal that hangs, or reads slowly, holds the loop up once in a while. */
static int set_patience(int fd)
{
	struct timeval patience = { .tv_usec = LIMIT_JOURNAL_USEC };

	return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ? -errno
											: 0;
}

int journal_open(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	AUTO_CLOSE int fd = -1;
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	r = set_patience(fd);
	if (r < 0)
		return r;
	journal_close();
	journal.address = address;
	journal.fd = TAKE_FD(fd);
	return 0;
}

bool journal_is_open(void)
{
	return journal.fd >= 0;
}

void journal_close(void)
{
	std_closep(&journal.fd);
	journal.fd = -1;
}

static uint64_t now_usec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_USEC;
}

/* To an address, not over a connection: the journal may be started anew. */
int journal_send(const struct journal_message *message)
{
	int flags = MSG_NOSIGNAL | (now_usec() < journal.rests_until ? MSG_DONTWAIT : 0);
	ssize_t n;

	if (journal.fd < 0)
		return -ENOTCONN;
	do
		n = sendto(journal.fd, message->bytes, message->len, flags,
			(const struct sockaddr *)&journal.address, sizeof(journal.address));
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	if (errno == EAGAIN)
		journal.rests_until = now_usec() + LIMIT_JOURNAL_REST_USEC;
	return -errno;
}
