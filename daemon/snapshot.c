#include "daemon/snapshot.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

int snapshot_new(struct snapshot **ret_snapshot)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));

	if (!snapshot)
		return -ENOMEM;
	snapshot->refs = 1;
	snapshot->fd = memfd_create("consulcfg", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	/* Linux before 6.3 does not know the flag, and makes a memfd that anybody could execute. */
	if (snapshot->fd < 0 && errno == EINVAL) {
		snapshot->fd = memfd_create("consulcfg", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (snapshot->fd >= 0 && fchmod(snapshot->fd, 0444) < 0) {
			std_closep(&snapshot->fd);
			snapshot->fd = -1;
		}
	}
	if (snapshot->fd < 0) {
		int r = -errno;

		free(snapshot);
		return r;
	}
	*ret_snapshot = snapshot;
	return 0;
}

int snapshot_new_unshared(size_t size, struct snapshot **ret_snapshot)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
	void *data;

	if (!snapshot)
		return -ENOMEM;
	data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED) {
		free(snapshot);
		return -ENOMEM;
	}
	(void)madvise(data, size, MADV_DONTDUMP);
	snapshot->refs = 1;
	snapshot->fd = -1;
	snapshot->own = data;
	snapshot->own_size = size;
	*ret_snapshot = snapshot;
	return 0;
}

/* What of the two parts lies in [start, end). */
static int slice(const struct iovec iov[2], size_t start, size_t end, struct iovec ret_slice[2])
{
	size_t off = 0;
	int n = 0;

	for (int i = 0; i < 2; i++) {
		size_t from = MAX(start, off), to = MIN(end, off + iov[i].iov_len);

		if (from < to)
			ret_slice[n++] = (struct iovec){
				.iov_base = (uint8_t *)iov[i].iov_base + (from - off),
				.iov_len = to - from,
			};
		off += iov[i].iov_len;
	}
	return n;
}

static ssize_t put(struct snapshot *snapshot, const struct iovec *parts, int n_parts)
{
	size_t n = 0;

	if (!snapshot->own)
		return writev(snapshot->fd, parts, n_parts);
	for (int i = 0; i < n_parts; i++) {
		if (parts[i].iov_len > snapshot->own_size - snapshot->written - n)
			return errno = EFBIG, -1;
		memcpy(snapshot->own + snapshot->written + n, parts[i].iov_base, parts[i].iov_len);
		n += parts[i].iov_len;
	}
	return (ssize_t)n;
}

int snapshot_write(struct snapshot *snapshot, const struct iovec iov[2], size_t max_bytes)
{
	size_t total = iov[0].iov_len + iov[1].iov_len, end;

	end = total - snapshot->written > max_bytes ? snapshot->written + max_bytes : total;
	while (snapshot->written < end) {
		struct iovec parts[2];
		int n_parts = slice(iov, snapshot->written, end, parts);
		ssize_t n = put(snapshot, parts, n_parts);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		snapshot->written += (size_t)n;
	}
	return snapshot->written < total;
}

int snapshot_append(struct snapshot *snapshot, const void *data, size_t len)
{
	struct iovec part = { (void *)(uintptr_t)data, len };

	while (part.iov_len > 0) {
		ssize_t n = put(snapshot, &part, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		snapshot->written += (size_t)n;
		part.iov_base = (uint8_t *)part.iov_base + n;
		part.iov_len -= (size_t)n;
	}
	return 0;
}

/* Immutable, and readable at *ret_data. */
static int close_for_writing(struct snapshot *snapshot, void **ret_data)
{
	void *data;

	if (snapshot->own) {
		if (mprotect(snapshot->own, snapshot->own_size, PROT_READ) < 0)
			return -errno;
		*ret_data = snapshot->own;
		return 0;
	}
	/* A writable mapping would make F_SEAL_WRITE fail, so sealing comes before mapping; a
	 * private mapping, since kernels before 6.7 refuse a shared one of a write-sealed
	 * read-write fd. */
	if (fcntl(snapshot->fd, F_ADD_SEALS,
		    F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return -errno;
	data = mmap(NULL, snapshot->written, PROT_READ, MAP_PRIVATE, snapshot->fd, 0);
	if (data == MAP_FAILED)
		return -errno;
	/* Values are other people's secrets: not in core dumps. */
	(void)madvise(data, snapshot->written, MADV_DONTDUMP);
	*ret_data = data;
	return 0;
}

int snapshot_seal(struct snapshot *snapshot, uint64_t generation)
{
	void *data = NULL;
	int r = close_for_writing(snapshot, &data);

	if (r < 0)
		return r;
	r = image_open(data, snapshot->written, &snapshot->image);
	if (r < 0) {
		if (!snapshot->own)
			munmap(data, snapshot->written);
		return r;
	}
	snapshot->generation = generation;
	snapshot->sealed = true;
	return 0;
}

struct snapshot *snapshot_ref(struct snapshot *snapshot)
{
	snapshot->refs++;
	return snapshot;
}

static void dispose(struct snapshot *snapshot)
{
	if (snapshot->own)
		munmap(snapshot->own, snapshot->own_size);
	else if (snapshot->sealed)
		munmap((void *)(uintptr_t)snapshot->image.data, snapshot->image.size);
	if (snapshot->fd >= 0)
		close(snapshot->fd);
	free(snapshot);
}

static void *run(void *userdata)
{
	dispose(userdata);
	return NULL;
}

/* The kernel frees page by page: 64 MB take 14 ms, which the loop does not have. */
static bool dispose_apart(struct snapshot *snapshot)
{
	pthread_t thread;
	sigset_t all, old;
	int r;

	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = pthread_create(&thread, NULL, run, snapshot);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return false;
	pthread_detach(thread);
	return true;
}

struct snapshot *snapshot_unref(struct snapshot *snapshot)
{
	if (!snapshot || --snapshot->refs > 0)
		return NULL;
	if (snapshot->written < LIMIT_SNAPSHOT_FREE || !dispose_apart(snapshot))
		dispose(snapshot);
	return NULL;
}

void snapshot_give_back(void *snapshot)
{
	snapshot_unref(snapshot);
}

int snapshot_open_fd(const struct snapshot *snapshot)
{
	char path[32];
	int fd;

	if (snapshot->fd < 0)
		return -ENOMEM;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", snapshot->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
