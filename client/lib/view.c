#include "client/lib/view.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "client/lib/secret.h"
#include "proto/image-builder.h"

static void builder_freep(struct image_builder **builder)
{
	image_builder_free(*builder);
}

/* The image in pages of its own. */
static int build(const struct records *records, uint64_t digest, void **ret_data, size_t *ret_size)
{
	CLEANUP(builder_freep) struct image_builder *builder = NULL;
	struct iovec iov[2];
	void *data;
	int r;

	r = image_builder_new(records, digest, &builder);
	if (r < 0)
		return r;
	do
		r = image_builder_step(builder, SIZE_MAX);
	while (r > 0);
	if (r < 0)
		return r;
	image_builder_bytes(builder, iov);
	r = secret_map(iov[0].iov_len + iov[1].iov_len, &data);
	if (r < 0)
		return r;
	memcpy(data, iov[0].iov_base, iov[0].iov_len);
	if (iov[1].iov_len > 0)
		memcpy((uint8_t *)data + iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
	*ret_data = data;
	*ret_size = iov[0].iov_len + iov[1].iov_len;
	return 0;
}

/* Takes the memory on every path. */
static int open_view(void *data, size_t size, uint64_t generation, struct ccfg_view **ret_view)
{
	struct ccfg_view *view = calloc(1, sizeof(*view));
	int r = view ? image_open(data, size, &view->image) : -ENOMEM;

	if (r < 0) {
		secret_unmap(data, size);
		free(view);
		return r;
	}
	atomic_init(&view->refs, 1);
	view->generation = generation;
	view->data = data;
	*ret_view = view;
	return 0;
}

int view_new(const struct records *records, uint64_t digest, uint64_t generation,
	struct ccfg_view **ret_view)
{
	void *data;
	size_t size;
	int r = build(records, digest, &data, &size);

	return r < 0 ? r : open_view(data, size, generation, ret_view);
}

int view_map(int fd, uint64_t generation, struct ccfg_view **ret_view)
{
	const int needed = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *data;

	/* Without seals it could change, or shrink, under our feet: SIGBUS. */
	if (seals < 0 || (seals & needed) != needed)
		return -EBADMSG;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < (off_t)sizeof(struct image_header) || st.st_size > (off_t)IMAGE_MAX_SIZE)
		return -EBADMSG;
	data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	/* Kernels before 6.7 refuse it for a descriptor that could write. */
	if (data == MAP_FAILED && errno == EPERM)
		data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		return -errno;
	madvise(data, (size_t)st.st_size, MADV_DONTDUMP);
	return open_view(data, (size_t)st.st_size, generation, ret_view);
}

static int read_all(int fd, uint8_t *data, size_t size, off_t off)
{
	while (size > 0) {
		ssize_t n = pread(fd, data, size, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EBADMSG;
		data += n;
		off += n;
		size -= (size_t)n;
	}
	return 0;
}

/* The image, which is the first `size` bytes. */
static int read_image(int fd, size_t size, void **ret_data)
{
	void *data;
	int r = secret_map(size, &data);

	if (r < 0)
		return r;
	r = read_all(fd, data, size, 0);
	if (r < 0) {
		secret_unmap(data, size);
		return r;
	}
	*ret_data = data;
	return 0;
}

/* Of a regular file: -EBADMSG when it is something else. */
static int measure(int fd, size_t *ret_size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(struct image_header) ||
		st.st_size > (off_t)(IMAGE_MAX_SIZE + BACKUP_TAIL))
		return -EBADMSG;
	*ret_size = (size_t)st.st_size;
	return 0;
}

/* As strict as a daemon is with it. */
static int check_records(struct ccfg_view **view)
{
	struct image_check check = { 0 };

	if (image_check_records(&(*view)->image, &check, UINT32_MAX) == 0)
		return 0;
	*view = view_unref(*view);
	return -EBADMSG;
}

int view_read_backup(
	int fd, const char *service, struct ccfg_view **ret_view, struct backup_footer *ret_footer)
{
	uint8_t tail[BACKUP_TAIL];
	struct backup_format backup = { .names = NULL };
	struct ccfg_view *view;
	size_t size = 0, n;
	void *data;
	int r = measure(fd, &size);

	if (r < 0)
		return r;
	n = MIN(size, sizeof(tail));
	r = read_all(fd, tail, n, (off_t)(size - n));
	if (r == 0)
		r = backup_format_read(tail, n, size, &backup);
	if (r < 0)
		return r;
	if (service && !backup_format_is_of(&backup, service))
		return -EBADMSG;
	size = le64_get(backup.footer.image_size);
	r = read_image(fd, size, &data);
	if (r < 0)
		return r;
	if (hash_key(data, size, 0) != le64_get(backup.footer.image_hash)) {
		secret_unmap(data, size);
		return -EBADMSG;
	}
	r = open_view(data, size, le64_get(backup.footer.generation), &view);
	if (r == 0)
		r = check_records(&view);
	if (r < 0)
		return r;
	*ret_footer = backup.footer;
	*ret_view = view;
	return 0;
}

int view_read(const char *path, struct ccfg_view **ret_view)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct backup_footer footer;
	size_t size = 0;
	void *data = NULL;
	int r;

	if (fd < 0)
		return -errno;
	r = view_read_backup(fd, NULL, ret_view, &footer);
	if (r != -EBADMSG)
		return r;
	r = measure(fd, &size);
	if (r == 0)
		r = read_image(fd, size, &data);
	return r < 0 ? r : open_view(data, size, 1, ret_view);
}

struct ccfg_view *view_ref(struct ccfg_view *view)
{
	atomic_fetch_add_explicit(&view->refs, 1, memory_order_relaxed);
	return view;
}

struct ccfg_view *view_unref(struct ccfg_view *view)
{
	if (view && atomic_fetch_sub_explicit(&view->refs, 1, memory_order_acq_rel) == 1) {
		secret_unmap(view->data, view->image.size);
		free(view);
	}
	return NULL;
}
