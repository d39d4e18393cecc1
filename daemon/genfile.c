#include "daemon/genfile.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define NAME "generations"
/* Not the file itself: whoever has a descriptor of a file, as all clients have, can lock it. */
#define LOCK_NAME "generations.lock"

struct genfile {
	int fd;
	int lock; /* of the runtime directory; -1: none */
	size_t size;
	struct genfile_header *header;
	struct genfile_slot *slots;
	uint32_t n_slots;
	uint32_t *free_slots; /* given back: the last one is taken first */
	uint32_t n_free;
	uint32_t n_taken; /* of the slots never used by this daemon */
};

static uint64_t boottime_nsec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* A file of an earlier daemon, or a new one; the directory belongs to us, but a link in it may not.
 */
static int open_in(int directory, const char *name)
{
	AUTO_CLOSE int fd = openat(
		directory, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) && st.st_uid == geteuid() ? TAKE_FD(fd) : -EPERM;
}

static int open_lasting(struct genfile *genfile, const char *runtime_directory)
{
	AUTO_CLOSE int directory = -1;

	if (mkdir(runtime_directory, 0755) < 0 && errno != EEXIST)
		return -errno;
	directory = open(runtime_directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return -errno;
	genfile->lock = open_in(directory, LOCK_NAME);
	if (genfile->lock < 0)
		return genfile->lock;
	if (flock(genfile->lock, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
	genfile->fd = open_in(directory, NAME);
	return genfile->fd < 0 ? genfile->fd : 0;
}

/* A memfd is made with a mode by which a client could open its descriptor anew, to write. */
static int open_anonymous(void)
{
	AUTO_CLOSE int fd = memfd_create("consulcfg-generations", MFD_CLOEXEC);

	if (fd < 0 || fchmod(fd, 0600) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* Longer, never shorter: clients have it mapped. No hole is left: on a full tmpfs it is SIGBUS. */
static int reserve(struct genfile *genfile, uint32_t n_slots)
{
	struct stat st;
	int r;

	if (fstat(genfile->fd, &st) < 0)
		return -errno;
	genfile->size = MAX(genfile_size(n_slots), (size_t)st.st_size);
	r = posix_fallocate(genfile->fd, 0, (off_t)genfile->size);
	return -r;
}

static bool is_readable(const struct genfile_header *h, size_t size)
{
	static const uint8_t magic[] = GENFILE_MAGIC_BYTES;

	return memcmp(h->magic, magic, sizeof(magic)) == 0 && h->major == GENFILE_MAJOR &&
	       h->header_size == sizeof(*h) && h->slot_size == sizeof(struct genfile_slot) &&
	       atomic_load(&h->n_used) <= atomic_load(&h->n_slots) &&
	       genfile_size(atomic_load(&h->n_slots)) <= size;
}

/* Of a daemon before us, or of nobody: whatever stands there is raised, not trusted. */
static void take_over(struct genfile *genfile)
{
	struct genfile_header *h = genfile->header;
	void *at = h;
	uint32_t n_used = genfile->n_slots;
	struct genfile_header fresh = {
		.magic = GENFILE_MAGIC_BYTES,
		.major = GENFILE_MAJOR,
		.minor = GENFILE_MINOR,
		.header_size = sizeof(*h),
		.slot_size = sizeof(struct genfile_slot),
	};

	if (is_readable(h, genfile->size))
		n_used = atomic_load(&h->n_used);
	else if (h->header_size == 0)
		n_used = 0; /* a new file is zeros */
	for (uint32_t i = 0; i < n_used; i++)
		genfile_raise(genfile, i);
	atomic_store(&h->n_slots, genfile->n_slots);
	atomic_store(&h->n_used, n_used);
	memcpy(at, &fresh, offsetof(struct genfile_header, n_slots));
}

static int map(struct genfile *genfile)
{
	void *data = mmap(NULL, genfile->size, PROT_READ | PROT_WRITE, MAP_SHARED, genfile->fd, 0);

	if (data == MAP_FAILED)
		return -errno;
	genfile->header = data;
	genfile->slots = (struct genfile_slot *)(genfile->header + 1);
	genfile->n_slots = (uint32_t)MIN(
		(genfile->size - sizeof(struct genfile_header)) / sizeof(struct genfile_slot),
		(size_t)GENFILE_NO_SLOT - 1);
	take_over(genfile);
	return 0;
}

int genfile_new(const char *runtime_directory, uint32_t n_slots, struct genfile **ret_genfile,
	bool *ret_is_lasting)
{
	struct genfile *genfile = calloc(1, sizeof(*genfile));
	bool is_lasting = true;
	int r;

	if (!genfile)
		return -ENOMEM;
	genfile->fd = genfile->lock = -1;
	r = open_lasting(genfile, runtime_directory);
	if (r == 0)
		r = reserve(genfile, n_slots);
	if (r < 0 && r != -EADDRINUSE) {
		std_closep(&genfile->fd);
		is_lasting = false;
		genfile->fd = open_anonymous();
		r = genfile->fd < 0 ? genfile->fd : reserve(genfile, n_slots);
	}
	if (r == 0)
		r = map(genfile);
	if (r < 0) {
		genfile_free(genfile);
		return r;
	}
	*ret_genfile = genfile;
	*ret_is_lasting = is_lasting;
	return 0;
}

struct genfile *genfile_free(struct genfile *genfile)
{
	if (!genfile)
		return NULL;
	if (genfile->header)
		munmap(genfile->header, genfile->size);
	std_closep(&genfile->fd);
	std_closep(&genfile->lock);
	free(genfile->free_slots);
	free(genfile);
	return NULL;
}

int genfile_open_fd(const struct genfile *genfile)
{
	char path[32];
	int fd;

	if (!genfile)
		return -ENODEV;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", genfile->fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool is_slot(const struct genfile *genfile, uint32_t slot)
{
	return genfile && slot < genfile->n_slots;
}

uint32_t genfile_take_slot(struct genfile *genfile)
{
	uint32_t slot;

	if (!genfile)
		return GENFILE_NO_SLOT;
	if (genfile->n_free > 0)
		return genfile->free_slots[--genfile->n_free];
	if (genfile->n_taken == genfile->n_slots)
		return GENFILE_NO_SLOT;
	slot = genfile->n_taken++;
	if (genfile->n_taken > atomic_load(&genfile->header->n_used))
		atomic_store(&genfile->header->n_used, genfile->n_taken);
	return slot;
}

void genfile_free_slot(struct genfile *genfile, uint32_t slot)
{
	if (!is_slot(genfile, slot))
		return;
	genfile_raise(genfile, slot);
	if (!genfile->free_slots) {
		genfile->free_slots = calloc(genfile->n_slots, sizeof(*genfile->free_slots));
		if (!genfile->free_slots)
			return; /* the slot is lost until the next start */
	}
	genfile->free_slots[genfile->n_free++] = slot;
}

void genfile_raise(struct genfile *genfile, uint32_t slot)
{
	if (is_slot(genfile, slot))
		atomic_fetch_add(&genfile->slots[slot].change, 1);
}

uint64_t genfile_change(const struct genfile *genfile, uint32_t slot)
{
	return is_slot(genfile, slot) ? atomic_load(&genfile->slots[slot].change) : 0;
}

void genfile_set(struct genfile *genfile, uint32_t slot, uint64_t confirmed_age_usec,
	uint64_t index, uint32_t state)
{
	uint64_t now = boottime_nsec(), age = confirmed_age_usec * NSEC_PER_USEC;
	struct genfile_slot *at;

	if (!is_slot(genfile, slot))
		return;
	at = &genfile->slots[slot];
	atomic_store_explicit(&at->confirmed_at, age < now ? now - age : 0, memory_order_relaxed);
	atomic_store_explicit(&at->index, index, memory_order_relaxed);
	atomic_store_explicit(&at->state, state, memory_order_relaxed);
}

void genfile_beat(struct genfile *genfile, uint64_t alive_for_usec)
{
	if (!genfile)
		return;
	atomic_store(&genfile->header->alive_for, alive_for_usec * NSEC_PER_USEC);
	atomic_store(&genfile->header->alive_at, boottime_nsec());
}
