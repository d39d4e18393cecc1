/*
 * The client's end of the generation file (proto/genfile.h): the mapping, and the words in it.
 *
 * A mapping stays for the life of its handle, also when a newer file has taken its place: readers
 * look at it without a lock.
 */
#pragma once

#include "proto/genfile.h"

struct genmap {
	const struct genfile_header *header; /* not trusted after it was checked */
	size_t size;
	size_t header_size, slot_size;
	uint32_t n_slots;
	dev_t dev; /* of the file */
	ino_t ino;
	struct genmap *older;
	unsigned n_older;
};

/*
 * Maps the file behind a descriptor, which the caller closes; when it is what `older` maps, that is
 * given back. `older` (NULL is fine) then belongs to the new one. 0; -EBADMSG: no generation file;
 * -EPROTONOSUPPORT: another major version; -EMFILE: it was replaced too often; -errno.
 */
int genmap_new(int fd, struct genmap *older, struct genmap **ret_map);
struct genmap *genmap_free(struct genmap *map);

/* NULL: not in this mapping. Lives as long as the map. */
const struct genfile_slot *genmap_slot(const struct genmap *map, uint32_t slot);

/* Whether the daemon has shown a sign of life lately. */
bool genmap_is_alive(const struct genmap *map, uint64_t boottime_nsec);
