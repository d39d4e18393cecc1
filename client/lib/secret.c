#include "client/lib/secret.h"

#include <sys/mman.h>

int secret_map(size_t size, void **ret_data)
{
	void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (data == MAP_FAILED)
		return -ENOMEM;
	madvise(data, size, MADV_DONTDUMP);
	*ret_data = data;
	return 0;
}

int secret_remap(void **data, size_t old_size, size_t new_size)
{
	/* The mark against dumping belongs to the mapping and moves with it. */
	void *moved = mremap(*data, old_size, new_size, MREMAP_MAYMOVE);

	if (moved == MAP_FAILED)
		return -ENOMEM;
	*data = moved;
	return 0;
}

void secret_unmap(void *data, size_t size)
{
	if (data)
		munmap(data, size);
}
