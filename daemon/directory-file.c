#include "daemon/directory-file.h"

#include <fcntl.h>

#define ATTEMPTS 3
#define READ_MORE 4096 /* room behind the size that a file is said to have */

void directory_file_init(struct directory_file *file, const struct directory_follower *follower,
	uint64_t max_len, bool is_patient)
{
	*file = (struct directory_file){
		.follower = follower,
		.max_len = max_len,
		.is_patient = is_patient,
	};
}

void directory_file_done(struct directory_file *file)
{
	free(file->data);
}

static int grow(struct directory_file *file, size_t size)
{
	char *data;

	if (size <= file->allocated)
		return 0;
	size = MAX(size, 2 * file->allocated);
	data = realloc(file->data, size);
	if (!data)
		return -ENOMEM;
	file->data = data;
	file->allocated = size;
	return 0;
}

/* To its end, wherever that is: the size of some files is a lie. */
static int read_to_end(struct directory_file *file, int fd, uint64_t size_hint)
{
	if (size_hint > file->max_len)
		return -EFBIG;
	file->len = 0;
	for (;;) {
		ssize_t n;

		if (grow(file, MAX(file->len, (size_t)size_hint) + READ_MORE) < 0)
			return -ENOMEM;
		n = read(fd, file->data + file->len, file->allocated - file->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		file->len += (size_t)n;
		if (file->len > file->max_len)
			return -EFBIG;
	}
}

static int open_file(int dir_fd, const char *name, bool is_link)
{
	/* O_NONBLOCK: should it have become a FIFO meanwhile. */
	int fd = openat(dir_fd, name,
		O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (is_link ? 0 : O_NOFOLLOW));

	if (fd >= 0)
		return fd;
	return errno == ENOENT || (errno == ELOOP && !is_link) ? -EAGAIN : -errno;
}

static int try_to_read(struct directory_file *file, int dir_fd, const char *name,
	const struct directory_place *place)
{
	AUTO_CLOSE int fd = open_file(dir_fd, name, place->is_link);
	struct stat before, after;
	int r;

	if (fd < 0)
		return fd;
	if (fstat(fd, &before) < 0)
		return -errno;
	if (!S_ISREG(before.st_mode))
		return -EAGAIN;
	file->wait_usec = file->is_patient
				  ? directory_notify_unsettled(file->follower, place->token,
					    place->name, &before, place->is_link)
				  : 0;
	if (file->wait_usec > 0)
		return -EBUSY;
	r = read_to_end(file, fd, (uint64_t)before.st_size);
	if (r < 0)
		return r;
	if (fstat(fd, &after) < 0)
		return -errno;
	if (!directory_file_is_same(&before, &after) ||
		(before.st_size > 0 && file->len != (size_t)before.st_size))
		return -EAGAIN;
	file->is_cut = file->len == 0 && after.st_blocks > 0;
	return 0;
}

int directory_file_read(struct directory_file *file, int dir_fd, const char *name,
	const struct directory_place *place)
{
	int r = -EAGAIN;

	for (int i = 0; i < ATTEMPTS && r == -EAGAIN; i++)
		r = try_to_read(file, dir_fd, name, place);
	return r;
}

bool directory_file_is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}
