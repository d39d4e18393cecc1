/*
 * Makes the Nth call of a family of functions fail, as it fails when memory, descriptors or the
 * disk are used up. Linked into a program in place of those functions (--wrap, see meson.build), so
 * that the sanitizers look on. A test arms it through a page that both have mapped, the file
 * $FAIL_NTH. tests/system/test_failing_calls.py.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum family {
	NONE,
	MEMORY, /* allocations */
	SOCKET,
	SHARE, /* memfd, mappings, seals, and what the loop is made of */
	FILES,
};

struct control {
	_Atomic uint32_t family; /* enum family; the test writes it last */
	_Atomic uint32_t nth; /* from 1 */
	_Atomic uint32_t n_calls; /* of the family */
	_Atomic uint32_t n_failed;
	char name[48]; /* of what failed */
};

static struct control *control;

void *__real_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off);
int __real_open64(const char *path, int flags, ...);

/* Before main(), and before any call is to fail. */
__attribute__((constructor)) static void map_control(void)
{
	const char *path = getenv("FAIL_NTH");
	int fd = path ? __real_open64(path, O_RDWR | O_CLOEXEC) : -1;
	void *page;

	if (fd < 0)
		return;
	page = __real_mmap64(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page != MAP_FAILED)
		control = page;
	close(fd);
}

static int is_failing(enum family family, const char *name, int error)
{
	if (!control || control->family != (uint32_t)family)
		return 0;
	if (atomic_fetch_add(&control->n_calls, 1) + 1 != control->nth)
		return 0;
	strncpy(control->name, name, sizeof(control->name) - 1);
	atomic_fetch_add(&control->n_failed, 1);
	errno = error;
	return 1;
}

#define WRAP(type, name, family, error, failure, params, args)                                     \
	type __real_##name params;                                                                 \
	type __wrap_##name params;                                                                 \
	type __wrap_##name params                                                                  \
	{                                                                                          \
		return is_failing(family, #name, error) ? (failure) : __real_##name args;          \
	}

/* The last argument is a mode, an integer or a pointer: a register in each case. */
#define WRAP_OPEN(type, name, family, error, failure, params, last, args)                          \
	type __real_##name params;                                                                 \
	type __wrap_##name params;                                                                 \
	type __wrap_##name params                                                                  \
	{                                                                                          \
		va_list list;                                                                      \
		long rest;                                                                         \
                                                                                                   \
		va_start(list, last);                                                              \
		rest = va_arg(list, long);                                                         \
		va_end(list);                                                                      \
		return is_failing(family, #name, error) ? (failure) : __real_##name args;          \
	}

/* --- memory ---------------------------------------------------------------------------------- */

WRAP(void *, malloc, MEMORY, ENOMEM, NULL, (size_t size), (size))
WRAP(void *, calloc, MEMORY, ENOMEM, NULL, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, MEMORY, ENOMEM, NULL, (void *ptr, size_t size), (ptr, size))
WRAP(void *, reallocarray, MEMORY, ENOMEM, NULL, (void *ptr, size_t n, size_t size), (ptr, n, size))
WRAP(void *, aligned_alloc, MEMORY, ENOMEM, NULL, (size_t alignment, size_t size),
	(alignment, size))
WRAP(char *, strdup, MEMORY, ENOMEM, NULL, (const char *text), (text))
WRAP(char *, strndup, MEMORY, ENOMEM, NULL, (const char *text, size_t size), (text, size))
WRAP(int, vasprintf, MEMORY, ENOMEM, -1, (char **ret, const char *format, va_list args),
	(ret, format, args))

int __wrap_asprintf(char **ret, const char *format, ...);
int __wrap_asprintf(char **ret, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = __wrap_vasprintf(ret, format, args);
	va_end(args);
	return r;
}

/* --- sockets --------------------------------------------------------------------------------- */

WRAP(int, socket, SOCKET, EMFILE, -1, (int domain, int type, int protocol),
	(domain, type, protocol))
WRAP(int, bind, SOCKET, EACCES, -1, (int fd, const struct sockaddr *addr, socklen_t len),
	(fd, addr, len))
WRAP(int, listen, SOCKET, EADDRINUSE, -1, (int fd, int backlog), (fd, backlog))
WRAP(int, accept4, SOCKET, EMFILE, -1, (int fd, struct sockaddr *addr, socklen_t *len, int flags),
	(fd, addr, len, flags))
WRAP(int, connect, SOCKET, ECONNREFUSED, -1, (int fd, const struct sockaddr *addr, socklen_t len),
	(fd, addr, len))
WRAP(int, getsockopt, SOCKET, ENOBUFS, -1,
	(int fd, int level, int name, void *value, socklen_t *len), (fd, level, name, value, len))
WRAP(int, setsockopt, SOCKET, ENOBUFS, -1,
	(int fd, int level, int name, const void *value, socklen_t len),
	(fd, level, name, value, len))
WRAP(ssize_t, send, SOCKET, ENOBUFS, -1, (int fd, const void *data, size_t size, int flags),
	(fd, data, size, flags))
WRAP(ssize_t, sendmsg, SOCKET, ETOOMANYREFS, -1, (int fd, const struct msghdr *message, int flags),
	(fd, message, flags))
WRAP(ssize_t, recv, SOCKET, ECONNRESET, -1, (int fd, void *data, size_t size, int flags),
	(fd, data, size, flags))
WRAP(ssize_t, recvmsg, SOCKET, ENOMEM, -1, (int fd, struct msghdr *message, int flags),
	(fd, message, flags))

/* --- shared memory, and the kernel's objects of the loop ------------------------------------- */

WRAP(int, memfd_create, SHARE, EMFILE, -1, (const char *name, unsigned flags), (name, flags))
WRAP(void *, mmap64, SHARE, ENOMEM, MAP_FAILED,
	(void *addr, size_t len, int prot, int flags, int fd, off_t off),
	(addr, len, prot, flags, fd, off))
WRAP(void *, mremap, SHARE, ENOMEM, MAP_FAILED, (void *addr, size_t from, size_t to, int flags),
	(addr, from, to, flags))
WRAP(int, mprotect, SHARE, ENOMEM, -1, (void *addr, size_t len, int prot), (addr, len, prot))
WRAP(int, posix_fallocate64, SHARE, ENOSPC, ENOSPC, (int fd, off_t off, off_t len), (fd, off, len))
WRAP_OPEN(int, fcntl64, SHARE, EPERM, -1, (int fd, int command, ...), command, (fd, command, rest))
WRAP(int, timerfd_create, SHARE, EMFILE, -1, (int clock, int flags), (clock, flags))
WRAP(int, epoll_create1, SHARE, EMFILE, -1, (int flags), (flags))
WRAP(int, epoll_ctl, SHARE, ENOSPC, -1, (int fd, int op, int on, void *event), (fd, op, on, event))
WRAP(int, eventfd, SHARE, EMFILE, -1, (unsigned value, int flags), (value, flags))
WRAP(int, inotify_init1, SHARE, EMFILE, -1, (int flags), (flags))
WRAP(int, inotify_add_watch, SHARE, ENOSPC, -1, (int fd, const char *path, uint32_t mask),
	(fd, path, mask))
WRAP(int, pipe2, SHARE, EMFILE, -1, (int fds[2], int flags), (fds, flags))

/* --- files ----------------------------------------------------------------------------------- */

WRAP_OPEN(int, open64, FILES, EMFILE, -1, (const char *path, int flags, ...), flags,
	(path, flags, rest))
WRAP_OPEN(int, openat64, FILES, EMFILE, -1, (int fd, const char *path, int flags, ...), flags,
	(fd, path, flags, rest))
WRAP(ssize_t, read, FILES, EIO, -1, (int fd, void *data, size_t size), (fd, data, size))
WRAP(ssize_t, pread64, FILES, EIO, -1, (int fd, void *data, size_t size, off_t off),
	(fd, data, size, off))
WRAP(ssize_t, write, FILES, ENOSPC, -1, (int fd, const void *data, size_t size), (fd, data, size))
WRAP(ssize_t, writev, FILES, ENOSPC, -1, (int fd, const struct iovec *iov, int n), (fd, iov, n))
WRAP(ssize_t, pwrite64, FILES, ENOSPC, -1, (int fd, const void *data, size_t size, off_t off),
	(fd, data, size, off))
WRAP(int, fsync, FILES, EIO, -1, (int fd), (fd))
WRAP(int, renameat, FILES, ENOSPC, -1, (int a, const char *from, int b, const char *to),
	(a, from, b, to))
WRAP(int, linkat, FILES, ENOSPC, -1, (int a, const char *from, int b, const char *to, int flags),
	(a, from, b, to, flags))
WRAP(int, mkdirat, FILES, ENOSPC, -1, (int fd, const char *path, mode_t mode), (fd, path, mode))
WRAP(int, fchmod, FILES, EPERM, -1, (int fd, mode_t mode), (fd, mode))
WRAP(int, fchown, FILES, EPERM, -1, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
WRAP(int, fstat64, FILES, EIO, -1, (int fd, struct stat64 *st), (fd, st))
