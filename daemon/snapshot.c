#include "daemon/snapshot.h"

#include <fcntl.h>
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

int snapshot_write(struct snapshot *snapshot, const struct iovec iov[2], size_t max_bytes)
{
	size_t total = iov[0].iov_len + iov[1].iov_len, end;

	end = total - snapshot->written > max_bytes ? snapshot->written + max_bytes : total;
	while (snapshot->written < end) {
		struct iovec parts[2];
		int n_parts = slice(iov, snapshot->written, end, parts);
		ssize_t n = writev(snapshot->fd, parts, n_parts);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		snapshot->written += (size_t)n;
	}
	return snapshot->written < total;
}

int snapshot_seal(struct snapshot *snapshot, uint64_t generation)
{
	size_t size = snapshot->written;
	void *data;
	int r;

	/* A writable mapping would make F_SEAL_WRITE fail, so sealing comes before mapping; a
	 * private mapping, since kernels before 6.7 refuse a shared one of a write-sealed
	 * read-write fd. */
	if (fcntl(snapshot->fd, F_ADD_SEALS,
		    F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return -errno;
	data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, snapshot->fd, 0);
	if (data == MAP_FAILED)
		return -errno;
	/* Values are other people's secrets: not in core dumps. */
	(void)madvise(data, size, MADV_DONTDUMP);
	r = image_open(data, size, &snapshot->image);
	if (r < 0) {
		munmap(data, size);
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

struct snapshot *snapshot_unref(struct snapshot *snapshot)
{
	if (!snapshot || --snapshot->refs > 0)
		return NULL;
	if (snapshot->sealed)
		munmap((void *)(uintptr_t)snapshot->image.data, snapshot->image.size);
	if (snapshot->fd >= 0)
		close(snapshot->fd);
	free(snapshot);
	return NULL;
}

int snapshot_open_fd(const struct snapshot *snapshot)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", snapshot->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
