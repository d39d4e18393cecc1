#include "daemon/listener.h"

#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "daemon/access.h"
#include "daemon/log.h"
#include "daemon/session.h"
#include "daemon/socket-path.h"

#define LOCK_NAME "lock"

struct listener {
	struct server *server;
	char name[LIMIT_CONFIG_SECTION + 1]; /* of a [socket NAME], or "" */
	int fd;
	int spare; /* given up for a moment to refuse a client when there are no descriptors */
	struct loop_io *io;
	struct loop_timer *pause;
	bool is_exhausted; /* said so */
	int lock; /* of the runtime directory, with the main socket; else -1 */
	/* Of a socket that was made here; "" otherwise. */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	dev_t dev;
	ino_t ino;
};

/* Where to listen, and as whom. */
struct place {
	const char *name; /* of a [socket NAME], or "" */
	const char *path;
	const char *group; /* NULL: leave */
	unsigned mode;
};

static int open_spare(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* The tag of the HELLO that the client has probably sent by now, else 0. */
static uint32_t hello_tag(int fd)
{
	struct wire_header header;

	if (recv(fd, &header, sizeof(header), MSG_PEEK | MSG_DONTWAIT) != (ssize_t)sizeof(header) ||
		le16_get(header.op) != WIRE_HELLO)
		return 0;
	return le32_get(header.tag);
}

/* Says why in place of the reply to HELLO, as far as the socket takes it at once. */
static void refuse(struct listener *listener, int fd, const char *why)
{
	struct {
		struct wire_header header;
		char text[128];
	} frame;
	size_t len = MIN(strlen(why), sizeof(frame.text));

	frame.header = wire_header_of(len, WIRE_HELLO, WIRE_LIMIT, hello_tag(fd));
	memcpy(frame.text, why, len);
	(void)send(fd, &frame, sizeof(frame.header) + len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (guard_is_safe(fd))
		close(fd);
	else
		guard_close(listener->server->guard, fd);
}

static void serve(struct listener *listener, int fd)
{
	struct session *session;
	int r = session_new(listener->server, fd, listener->name, &session);

	if (r == -EUSERS)
		refuse(listener, fd, "this user has max_clients_per_user connections");
	else if (r == -ENFILE)
		refuse(listener, fd, "the daemon has as many connections as it can");
	else if (r < 0)
		refuse(listener, fd, strerror(-r));
}

/* Clients that cannot be served are told so, as far as one spare descriptor goes. */
static void refuse_some(struct listener *listener)
{
	std_closep(&listener->spare);
	listener->spare = -1;
	for (unsigned i = 0; i < LIMIT_ACCEPT_BATCH; i++) {
		int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			break;
		refuse(listener, fd, "the daemon has no descriptors left; raise LimitNOFILE");
	}
	listener->spare = open_spare();
}

/* A listener that stays ready while nothing can be accepted would keep the loop spinning. */
static void pause_accepting(struct listener *listener, int error)
{
	if (!listener->is_exhausted)
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_CLIENTS_WAIT),
			"cannot accept clients: %s; raise LimitNOFILE= or the memory limit",
			strerror(error));
	listener->is_exhausted = true;
	if (error == EMFILE || error == ENFILE)
		refuse_some(listener);
	loop_timer_arm(listener->pause, LIMIT_ACCEPT_PAUSE_USEC);
	(void)loop_io_want(listener->io, 0);
}

static void accept_some(struct listener *listener)
{
	for (unsigned i = 0; i < LIMIT_ACCEPT_BATCH; i++) {
		int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		int error = errno;

		if (fd >= 0) {
			listener->is_exhausted = false;
			serve(listener, fd);
			continue;
		}
		if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM)
			pause_accepting(listener, error);
		if (error != EINTR && error != ECONNABORTED)
			return;
	}
}

static void on_io(unsigned events, void *userdata)
{
	(void)events;
	accept_some(userdata);
}

static void on_pause_end(void *userdata)
{
	struct listener *listener = userdata;

	/* Also when it fails: the next attempt is one pause away. */
	if (loop_io_want(listener->io, LOOP_READ) < 0)
		loop_timer_arm(listener->pause, LIMIT_ACCEPT_PAUSE_USEC);
}

static int listener_init(struct listener *listener, int fd)
{
	int flags, r;

	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
		fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	/* For who connects from now on to what the service manager has been listening on. */
	(void)guard_socket(fd);
	listener->spare = open_spare();
	if (listener->spare < 0)
		return -errno;
	r = loop_timer_new(listener->server->loop, on_pause_end, listener, &listener->pause);
	if (r == 0)
		r = loop_io_new(listener->server->loop, fd, on_io, listener, &listener->io);
	if (r == 0)
		r = loop_io_want(listener->io, LOOP_READ);
	return r;
}

int listener_new(struct server *server, int fd, const char *name, struct listener **ret_listener)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	int r;

	if (!listener)
		return -ENOMEM;
	listener->server = server;
	listener->fd = listener->spare = listener->lock = -1;
	snprintf(listener->name, sizeof(listener->name), "%s", name);
	r = listener_init(listener, fd);
	if (r < 0) {
		listener_free(listener);
		return r;
	}
	listener->fd = fd;
	*ret_listener = listener;
	return 0;
}

/* One line for people; returns the error. */
static PRINTF_FORMAT(3, 4) int explain(char **ret_message, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (vasprintf(ret_message, format, args) < 0)
		*ret_message = NULL;
	va_end(args);
	return error;
}

static int take_lock(const char *directory, int *ret_lock, char **ret_message)
{
	AUTO_FREE char *path = NULL;
	AUTO_CLOSE int fd = -1;

	if (asprintf(&path, "%s/" LOCK_NAME, directory) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	if (mkdir(directory, 0755) < 0 && errno != EEXIST)
		return explain(ret_message, -errno,
			"cannot make the runtime directory %s: %s; give another with --runtime-directory",
			directory, strerror(errno));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return explain(ret_message, -errno, "cannot open %s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return explain(ret_message, errno == EWOULDBLOCK ? -EADDRINUSE : -errno,
			"%s is in use by a running daemon; stop it, or give this one another "
			"--runtime-directory",
			directory);
	*ret_lock = TAKE_FD(fd);
	return 0;
}

/* Under the lock: makes way where only a dead socket is in it. */
static int clear_path(const struct sockaddr_un *address, char **ret_message)
{
	const char *path = address->sun_path;
	int r = socket_path_clear(address);

	if (r == -ENOTSOCK)
		return explain(ret_message, r,
			"%s is there and is not a socket; move it away or set [socket] path", path);
	if (r == -EADDRINUSE)
		return explain(ret_message, r,
			"%s is in use by a running daemon; stop it or set [socket] path", path);
	if (r < 0)
		return explain(ret_message, r, "cannot replace %s: %s", path, strerror(-r));
	return 0;
}

/* *ret_gid is (gid_t)-1 when none is configured. */
static int find_group(const struct place *place, gid_t *ret_gid, char **ret_message)
{
	struct access_subject subject;
	AUTO_FREE char *text = NULL;
	int r;

	*ret_gid = (gid_t)-1;
	if (!place->group)
		return 0;
	if (asprintf(&text, "group:%s", place->group) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	r = access_subject_resolve(text, &subject);
	if (r < 0)
		return explain(ret_message, r, "[socket%s%s] group=%s: this host has no such group",
			*place->name ? " " : "", place->name, place->group);
	*ret_gid = subject.id;
	return 0;
}

/* Nobody else may connect before owner and mode are what they shall be, and it listens last. */
static int open_for_clients(int fd, const char *path, gid_t gid, mode_t mode)
{
	if ((gid != (gid_t)-1 && lchown(path, (uid_t)-1, gid) < 0) || chmod(path, mode) < 0 ||
		listen(fd, LIMIT_BACKLOG) < 0)
		return -errno;
	return 0;
}

static int make_socket(const struct sockaddr_un *address, gid_t gid, mode_t mode, int *ret_fd)
{
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t old;
	int r;

	if (fd < 0)
		return -errno;
	(void)guard_socket(fd);
	old = umask(0177);
	r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
	umask(old);
	if (r < 0)
		return r;
	r = open_for_clients(fd, address->sun_path, gid, mode);
	if (r < 0) {
		unlink(address->sun_path);
		return r;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* From here on the listener removes the socket. */
static int adopt(struct listener *listener, const char *path, int *lock)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return -errno;
	strcpy(listener->path, path);
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	listener->lock = TAKE_FD(*lock);
	return 0;
}

static int bind_and_listen(struct server *server, const struct sockaddr_un *address,
	const struct place *place, gid_t gid, int *lock, struct listener **ret_listener)
{
	struct listener *listener;
	AUTO_CLOSE int fd = -1;
	int r;

	r = make_socket(address, gid, place->mode, &fd);
	if (r < 0)
		return r;
	r = listener_new(server, fd, place->name, &listener);
	if (r < 0) {
		unlink(address->sun_path);
		return r;
	}
	(void)TAKE_FD(fd);
	r = adopt(listener, address->sun_path, lock);
	if (r < 0) {
		listener_free(listener);
		return r;
	}
	*ret_listener = listener;
	return 0;
}

static int listen_at(struct server *server, const struct place *place, int *lock,
	struct listener **ret_listener, char **ret_message)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = strlen(place->path);
	gid_t gid;
	int r;

	if (len == 0 || len >= sizeof(address.sun_path))
		return explain(ret_message, -ENAMETOOLONG,
			"%s: a socket's path has 1 to %zu bytes; set [socket] path", place->path,
			sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, place->path, len);
	r = find_group(place, &gid, ret_message);
	if (r == 0)
		r = clear_path(&address, ret_message);
	if (r < 0)
		return r;
	r = bind_and_listen(server, &address, place, gid, lock, ret_listener);
	if (r == -EPERM && place->group)
		return explain(ret_message, r,
			"[socket%s%s] group=%s: the daemon may not give %s to this group, of which "
			"it must be a member; consulcfgd.conf(5) says how",
			*place->name ? " " : "", place->name, place->group, address.sun_path);
	if (r < 0)
		return explain(
			ret_message, r, "cannot listen on %s: %s", address.sun_path, strerror(-r));
	return 0;
}

int listener_bind(struct server *server, const struct config *config,
	struct listener **ret_listener, char **ret_message)
{
	struct place place = { "", config->socket_path, config->socket_group, config->socket_mode };
	AUTO_CLOSE int lock = -1;
	int r;

	*ret_message = NULL;
	r = take_lock(config->runtime_directory, &lock, ret_message);
	return r < 0 ? r : listen_at(server, &place, &lock, ret_listener, ret_message);
}

/* It stays when the daemon ends: what has mounted it finds the next daemon's socket in it. */
static int make_directory_of(const char *path, char **ret_message)
{
	AUTO_FREE char *directory = strndup(path, (size_t)(strrchr(path, '/') - path));

	if (!directory)
		return -ENOMEM;
	if (*directory == '\0' || access(directory, F_OK) == 0)
		return 0;
	/* Whatever the umask: who may connect is the matter of the socket's own mode. */
	if (mkdir(directory, 0755) < 0 || chmod(directory, 0755) < 0)
		return explain(ret_message, -errno, "cannot make the directory %s: %s", directory,
			strerror(errno));
	return 0;
}

int listener_bind_further(struct server *server, const struct config_socket *socket,
	struct listener **ret_listener, char **ret_message)
{
	struct place place = { socket->name, socket->path, socket->group, socket->mode };
	int lock = -1, r;

	*ret_message = NULL;
	r = make_directory_of(socket->path, ret_message);
	return r < 0 ? r : listen_at(server, &place, &lock, ret_listener, ret_message);
}

const char *listener_name(const struct listener *listener)
{
	return listener->name;
}

/* What nobody has accepted goes with a socket that is ours alone, and what it has sent. */
static void close_waiting(const struct listener *listener)
{
	int fd;

	(void)shutdown(listener->fd, SHUT_RD);
	while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		guard_close(listener->server->guard, fd);
}

struct listener *listener_free(struct listener *listener)
{
	struct stat st;

	if (!listener)
		return NULL;
	loop_io_free(listener->io);
	loop_timer_free(listener->pause);
	if (*listener->path != '\0' && lstat(listener->path, &st) == 0 && S_ISSOCK(st.st_mode) &&
		st.st_dev == listener->dev && st.st_ino == listener->ino)
		unlink(listener->path);
	if (*listener->path != '\0')
		close_waiting(listener);
	std_closep(&listener->fd);
	std_closep(&listener->spare);
	std_closep(&listener->lock);
	free(listener);
	return NULL;
}
