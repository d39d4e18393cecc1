#include "daemon/socket-path.h"

#include <sys/socket.h>
#include <sys/stat.h>

/* Whether somebody listens: 1; 0: nobody, it is left over; -errno: it cannot be told. */
static int is_alive(const struct sockaddr_un *address)
{
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	/* EAGAIN: its queue is full; EPROTOTYPE: it is of another kind, and in use as that. */
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
		errno == EAGAIN || errno == EPROTOTYPE)
		return 1;
	return errno == ECONNREFUSED ? 0 : -errno;
}

int socket_path_clear(const struct sockaddr_un *address)
{
	struct stat st;
	int r;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	r = is_alive(address);
	if (r != 0)
		return r > 0 ? -EADDRINUSE : r;
	return unlink(address->sun_path) < 0 ? -errno : 0;
}
