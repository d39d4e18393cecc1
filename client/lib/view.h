/*
 * A view: one generation of a service as an image in memory, immutable, shared by reference
 * between any number of threads. It is what ccfg_pin() hands out.
 */
#pragma once

#include <stdatomic.h>

#include "client/lib/consulcfg.h"
#include "proto/backup-format.h"

struct ccfg_view {
	_Atomic unsigned refs;
	uint64_t generation; /* 0: the empty view before the first data */
	struct image image;
	void *data; /* of the image; out of core dumps */
	struct ccfg_view *next_retired; /* ccfg::retired */
};

/* Builds the image from records in key order; they are copied. 0, -ENOMEM, -EFBIG, -EBADMSG. */
int view_new(const struct records *records, uint64_t digest, uint64_t generation,
	struct ccfg_view **ret_view);

/*
 * Maps the image behind a descriptor, which the caller closes. Costs the same for any number of
 * entries: seals, size and header are checked here, each offset when it is followed.
 * 0; -EBADMSG: not sealed, or no image; -EPROTONOSUPPORT: another major version; any other -errno:
 * it cannot be mapped here.
 */
int view_map(int fd, uint64_t generation, struct ccfg_view **ret_view);

/*
 * Reads a backup, which must be of that service (NULL: of any), and checks all of it. 0; -EBADMSG;
 * -EPROTONOSUPPORT: of another major version; other -errno.
 */
int view_read_backup(
	int fd, const char *service, struct ccfg_view **ret_view, struct backup_footer *ret_footer);

/* Reads an image, alone or in a backup, from a regular file into memory of its own: files can be
 * cut while mapped. */
int view_read(const char *path, struct ccfg_view **ret_view);

struct ccfg_view *view_ref(struct ccfg_view *view);
struct ccfg_view *view_unref(struct ccfg_view *view); /* NULL is fine; returns NULL */
