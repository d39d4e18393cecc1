/*
 * Records in key order to the bytes of an image, in slices: a service of a million keys must not
 * stop the loop. Lives beside its reader so that the layout is known in one room.
 */
#pragma once

#include <sys/uio.h>

#include "proto/image.h"

struct image_builder;

/*
 * `records` (sorted, without duplicates) is borrowed until the builder is freed. -ENOMEM; -EFBIG:
 * more than an image can address.
 */
int image_builder_new(
	const struct records *records, uint64_t digest, struct image_builder **ret_builder);
struct image_builder *image_builder_free(struct image_builder *builder);

/* Indexes up to max_entries more; 1: more to do, 0: complete, -EBADMSG: records are no records. */
int image_builder_step(struct image_builder *builder, size_t max_entries);

/* After the last step: the image is iov[0] followed by iov[1]; both belong to builder/records. */
void image_builder_bytes(const struct image_builder *builder, struct iovec iov[2]);

/* All at once into memory of the caller's (free it), for the client's private images and tests. */
int image_build(const struct records *records, uint64_t digest, void **ret_data, size_t *ret_size);
