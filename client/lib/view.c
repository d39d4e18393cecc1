#include "client/lib/view.h"

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

int view_new(const struct records *records, uint64_t digest, uint64_t generation,
	struct ccfg_view **ret_view)
{
	AUTO_FREE struct ccfg_view *view = calloc(1, sizeof(*view));
	size_t size;
	int r;

	if (!view)
		return -ENOMEM;
	atomic_init(&view->refs, 1);
	view->generation = generation;
	r = build(records, digest, &view->data, &size);
	if (r < 0)
		return r;
	r = image_open(view->data, size, &view->image);
	if (r < 0) {
		secret_unmap(view->data, size);
		return r;
	}
	*ret_view = TAKE_PTR(view);
	return 0;
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
