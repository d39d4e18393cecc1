#include "client/lib/genmap.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "proto/limits.h"

static int check(struct genmap *map)
{
	static const uint8_t magic[] = GENFILE_MAGIC_BYTES;
	const struct genfile_header *h = map->header;

	if (memcmp(h->magic, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	if (h->major != GENFILE_MAJOR)
		return -EPROTONOSUPPORT;
	map->header_size = h->header_size;
	map->slot_size = h->slot_size;
	if (map->header_size < sizeof(*h) || map->header_size > map->size ||
		map->header_size % sizeof(uint64_t) != 0 ||
		map->slot_size < sizeof(struct genfile_slot) ||
		map->slot_size % sizeof(uint64_t) != 0)
		return -EBADMSG;
	map->n_slots = (uint32_t)MIN(
		(map->size - map->header_size) / map->slot_size, (size_t)atomic_load(&h->n_slots));
	return 0;
}

static bool is_same(const struct genmap *map, const struct stat *st)
{
	return map && map->dev == st->st_dev && map->ino == st->st_ino &&
	       map->size == (size_t)st->st_size;
}

int genmap_new(int fd, struct genmap *older, struct genmap **ret_map)
{
	struct genmap *map;
	struct stat st;
	void *data;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (is_same(older, &st)) {
		*ret_map = older;
		return 0;
	}
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(struct genfile_header))
		return -EBADMSG;
	if (older && older->n_older >= LIMIT_OLDER_GENFILES)
		return -EMFILE;
	map = calloc(1, sizeof(*map));
	if (!map)
		return -ENOMEM;
	map->size = (size_t)st.st_size;
	map->dev = st.st_dev;
	map->ino = st.st_ino;
	data = mmap(NULL, map->size, PROT_READ, MAP_SHARED, fd, 0);
	map->header = data;
	r = data == MAP_FAILED ? -errno : check(map);
	if (r < 0) {
		if (data != MAP_FAILED)
			munmap(data, map->size);
		free(map);
		return r;
	}
	map->older = older;
	map->n_older = older ? older->n_older + 1 : 0;
	*ret_map = map;
	return 0;
}

struct genmap *genmap_free(struct genmap *map)
{
	while (map) {
		struct genmap *older = map->older;

		munmap((void *)(uintptr_t)map->header, map->size);
		free(map);
		map = older;
	}
	return NULL;
}

const struct genfile_slot *genmap_slot(const struct genmap *map, uint32_t slot)
{
	if (!map || slot >= map->n_slots)
		return NULL;
	return (const struct genfile_slot *)(const void *)((const uint8_t *)map->header +
							   map->header_size +
							   (size_t)slot * map->slot_size);
}

bool genmap_is_alive(const struct genmap *map, uint64_t boottime_nsec)
{
	uint64_t at = atomic_load(&map->header->alive_at);

	return at >= boottime_nsec || boottime_nsec - at <= atomic_load(&map->header->alive_for);
}
