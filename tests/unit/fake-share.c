#include "fake-share.h"

#include "test.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "proto/image-builder.h"
#include "proto/image.h"

#define LONGER 64 /* what a newer minor adds to headers and slots */
#define ALL_SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

static int file_of(const void *data, size_t size, int seals)
{
	int fd = memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), (ssize_t)size);
	if (seals != 0)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void fill(uint8_t *data, size_t size)
{
	uint32_t seed = 12345;

	for (size_t i = 0; i < size; i++) {
		seed = seed * 1103515245 + 12345;
		data[i] = (uint8_t)(seed >> 16);
	}
}

static int pipe_end(void)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	close(ends[1]);
	return ends[0];
}

int fake_share_image(enum fake_image kind, const struct records *records)
{
	AUTO_FREE void *bytes = NULL;
	struct image_header *h;
	int seals = ALL_SEALS;
	uint8_t *data;
	size_t size;

	assert_int_equal(image_build(records, 7, &bytes, &size), 0);
	h = bytes;
	data = bytes;
	switch (kind) {
	case FAKE_IMAGE_NONE:
	case FAKE_IMAGE_MISSING:
	case FAKE_IMAGES:
		return -1;
	case FAKE_IMAGE_PIPE:
		return pipe_end();
	case FAKE_IMAGE_GOOD:
		break;
	case FAKE_IMAGE_NEWER_MINOR:
		h->minor = le16_of(IMAGE_MINOR + 1);
		memset(h->unused, 0xff, sizeof(h->unused));
		break;
	case FAKE_IMAGE_OTHER_MAJOR:
		h->major = le16_of(IMAGE_MAJOR + 1);
		break;
	case FAKE_IMAGE_UNSEALED:
		seals = 0;
		break;
	case FAKE_IMAGE_HALF_SEALED:
		seals = F_SEAL_WRITE | F_SEAL_GROW;
		break;
	case FAKE_IMAGE_SHORT:
		size = sizeof(*h) - 1;
		break;
	case FAKE_IMAGE_CUT:
		size -= 8;
		break;
	case FAKE_IMAGE_GARBAGE:
		fill(data, size);
		break;
	case FAKE_IMAGE_CORRUPT:
		fill(data + sizeof(*h), size - sizeof(*h));
		break;
	case FAKE_IMAGE_EMPTY:
		size = 0;
		break;
	}
	return file_of(data, size, seals);
}

/* --- generation files -------------------------------------------------------------------- */

static size_t slot_off(enum fake_genfile kind)
{
	size_t more = kind == FAKE_GENFILE_NEWER_MINOR ? LONGER : 0;

	return sizeof(struct genfile_header) + more +
	       FAKE_SLOT * (sizeof(struct genfile_slot) + more);
}

int fake_share_genfile(enum fake_genfile kind)
{
	static const uint8_t magic[] = GENFILE_MAGIC_BYTES;
	uint32_t more = kind == FAKE_GENFILE_NEWER_MINOR ? LONGER : 0;
	uint8_t data[4096] = { 0 };
	struct genfile_header h = {
		.major = GENFILE_MAJOR,
		.minor = kind == FAKE_GENFILE_NEWER_MINOR ? GENFILE_MINOR + 1 : GENFILE_MINOR,
		.header_size = sizeof(h) + more,
		.slot_size = sizeof(struct genfile_slot) + more,
	};
	size_t size = sizeof(data);

	if (kind == FAKE_GENFILE_NONE)
		return -1;
	memcpy(h.magic, magic, sizeof(magic));
	if (kind == FAKE_GENFILE_OTHER_MAJOR)
		h.major++;
	atomic_init(&h.n_slots, 16);
	atomic_init(&h.alive_for, UINT64_MAX);
	memcpy(data, &h, sizeof(h));
	if (kind == FAKE_GENFILE_SHORT)
		size = sizeof(h) - 1;
	if (kind == FAKE_GENFILE_CUT)
		size = slot_off(kind) + 8;
	if (kind == FAKE_GENFILE_GARBAGE)
		fill(data, size);
	return file_of(data, size, 0);
}

uint64_t fake_share_change(int fd, enum fake_genfile kind)
{
	uint64_t change = 0;

	if (fd >= 0 && kind != FAKE_GENFILE_SHORT && kind != FAKE_GENFILE_CUT)
		assert_int_equal(
			pread(fd, &change, sizeof(change), (off_t)slot_off(kind)), sizeof(change));
	return change;
}

/* By write(): the pages are those that clients have mapped. */
uint64_t fake_share_raise(int fd, enum fake_genfile kind)
{
	uint64_t change = fake_share_change(fd, kind) + 1;

	if (fd >= 0 && kind != FAKE_GENFILE_SHORT && kind != FAKE_GENFILE_CUT)
		assert_int_equal(
			pwrite(fd, &change, sizeof(change), (off_t)slot_off(kind)), sizeof(change));
	return change;
}
