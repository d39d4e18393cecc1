#include "daemon/backup-load.h"

#include <sys/stat.h>

#include "daemon/memory.h"
#include "proto/hash.h"

struct backup_load {
	int fd;
	struct backup_format format;
	struct snapshot *snapshot;
	hash_stream *hash;
	uint8_t *slice;
	struct image_check check;
	uint8_t tail[BACKUP_TAIL];
};

static int read_at(int fd, void *buf, size_t size, off_t off)
{
	uint8_t *at = buf;

	while (size > 0) {
		ssize_t n = pread(fd, at, size, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EBADMSG;
		at += n;
		off += n;
		size -= (size_t)n;
	}
	return 0;
}

int backup_load_peek(int directory, const char *name, uint8_t buf[BACKUP_TAIL],
	struct backup_format *ret_backup, int *ret_fd)
{
	AUTO_CLOSE int fd = state_directory_open_file(directory, name);
	struct stat st;
	size_t n;
	int r;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	n = MIN((size_t)st.st_size, BACKUP_TAIL);
	r = read_at(fd, buf, n, st.st_size - (off_t)n);
	if (r == 0)
		r = backup_format_read(buf, n, (uint64_t)st.st_size, ret_backup);
	/* The suffix is of this major: what says otherwise is damaged. */
	if (r == -EPROTONOSUPPORT)
		r = -EBADMSG;
	if (r == 0 && ret_fd)
		*ret_fd = TAKE_FD(fd);
	return r;
}

int backup_load_new(int directory, const char *name, struct backup_load **ret_load)
{
	struct backup_load *load = calloc(1, sizeof(*load));
	uint64_t size;
	int r;

	if (!load)
		return -ENOMEM;
	load->fd = -1;
	r = backup_load_peek(directory, name, load->tail, &load->format, &load->fd);
	if (r == 0) {
		size = le64_get(load->format.footer.image_size);
		r = memory_take(size) ? snapshot_new(&load->snapshot)
				      : snapshot_new_unshared(size, &load->snapshot);
	}
	if (r == 0) {
		load->hash = hash_stream_new();
		load->slice = malloc(LIMIT_BACKUP_SLICE);
		r = load->hash && load->slice ? 0 : -ENOMEM;
	}
	if (r < 0) {
		backup_load_free(load);
		return r;
	}
	*ret_load = load;
	return 0;
}

struct backup_load *backup_load_free(struct backup_load *load)
{
	if (!load)
		return NULL;
	std_closep(&load->fd);
	snapshot_unref(load->snapshot);
	if (load->hash)
		hash_stream_free(load->hash);
	free(load->slice);
	free(load);
	return NULL;
}

const struct backup_format *backup_load_format(const struct backup_load *load)
{
	return &load->format;
}

static int finish(struct backup_load *load)
{
	const struct backup_footer *footer = &load->format.footer;
	int r;

	if (hash_stream_digest(load->hash) != le64_get(footer->image_hash))
		return -EBADMSG;
	r = snapshot_seal(load->snapshot, le64_get(footer->generation));
	load->snapshot->published_at = le64_get(footer->published_at);
	if (r < 0)
		return r == -EPROTONOSUPPORT ? -EBADMSG : r;
	return 1;
}

int backup_load_step(struct backup_load *load)
{
	uint64_t size = le64_get(load->format.footer.image_size), off = load->snapshot->written;
	size_t n = (size_t)MIN(size - off, (uint64_t)LIMIT_BACKUP_SLICE);
	int r;

	if (load->snapshot->sealed)
		return image_check_records(
			&load->snapshot->image, &load->check, LIMIT_SLICE_ENTRIES);
	r = read_at(load->fd, load->slice, n, (off_t)off);
	if (r == 0) {
		hash_stream_add(load->hash, load->slice, n);
		r = snapshot_append(load->snapshot, load->slice, n);
	}
	if (r < 0)
		return r;
	return load->snapshot->written < size ? 1 : finish(load);
}

struct snapshot *backup_load_take(struct backup_load *load)
{
	return TAKE_PTR(load->snapshot);
}
