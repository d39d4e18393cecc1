/*
 * What a fake daemon hands out as descriptors: images and generation files, good ones and the kinds
 * of bad ones that a client must survive.
 */
#pragma once

#include "proto/genfile.h"
#include "proto/record.h"

enum fake_image {
	FAKE_IMAGE_NONE, /* a daemon that hands out no descriptors */
	FAKE_IMAGE_GOOD,
	FAKE_IMAGE_NEWER_MINOR, /* and a longer header */
	FAKE_IMAGE_OTHER_MAJOR,
	FAKE_IMAGE_UNSEALED,
	FAKE_IMAGE_HALF_SEALED, /* could shrink */
	FAKE_IMAGE_SHORT, /* less than a header */
	FAKE_IMAGE_CUT, /* its header is that of a longer one */
	FAKE_IMAGE_GARBAGE,
	FAKE_IMAGE_CORRUPT, /* a good header, then noise */
	FAKE_IMAGE_EMPTY,
	FAKE_IMAGE_PIPE, /* no file at all */
	FAKE_IMAGE_MISSING, /* a reply that should carry one, and does not */
	FAKE_IMAGES,
};

enum fake_genfile {
	FAKE_GENFILE_NONE,
	FAKE_GENFILE_GOOD,
	FAKE_GENFILE_NEWER_MINOR, /* longer header, longer slots */
	FAKE_GENFILE_OTHER_MAJOR,
	FAKE_GENFILE_SHORT,
	FAKE_GENFILE_GARBAGE,
	FAKE_GENFILE_CUT, /* the slot is behind its end, whatever its header says */
	FAKE_GENFILES,
};

#define FAKE_SLOT 3

/* A descriptor, -1 for those without one. */
int fake_share_image(enum fake_image kind, const struct records *records);
int fake_share_genfile(enum fake_genfile kind);

/* Raises or reads the slot of a generation file, as the daemon does. */
uint64_t fake_share_raise(int fd, enum fake_genfile kind);
uint64_t fake_share_change(int fd, enum fake_genfile kind);
