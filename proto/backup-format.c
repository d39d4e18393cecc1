#include "proto/backup-format.h"

#include <fcntl.h>
#include <time.h>

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

static uint64_t usec_of(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_USEC;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void read_boot_id(uint8_t ret_id[16])
{
	AUTO_CLOSE int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
	char text[37] = "";
	unsigned n = 0;

	if (fd < 0 || read(fd, text, sizeof(text) - 1) != (ssize_t)sizeof(text) - 1)
		return;
	for (const char *c = text; *c != '\0' && n < 32; c++) {
		int digit = hex_digit(*c);

		if (digit < 0)
			continue;
		ret_id[n / 2] = (uint8_t)(ret_id[n / 2] << 4 | digit);
		n++;
	}
}

void backup_format_clock(struct backup_clock *ret_clock)
{
	*ret_clock = (struct backup_clock){
		.realtime_usec = usec_of(CLOCK_REALTIME),
		.boottime_usec = usec_of(CLOCK_BOOTTIME),
	};
	read_boot_id(ret_clock->boot_id);
}

/* Of a footer that may be longer than ours. */
static uint64_t hash_of(
	const void *footer, size_t footer_size, const char *names, size_t names_size)
{
	size_t unhashed = sizeof(struct backup_footer) - offsetof(struct backup_footer, hash);

	return hash_chain(hash_chain(0, names, names_size), footer, footer_size - unhashed);
}

/* Whole texts, and those of a backup: at least a layer's. */
static bool are_names(const char *names, size_t size)
{
	unsigned n = 0;

	if (size == 0 || names[size - 1] != '\0')
		return false;
	for (size_t i = 0; i < size; i++)
		n += names[i] == '\0';
	return n > 5 && n <= 5 + LIMIT_LAYERS;
}

int backup_format_read(
	const void *tail, size_t tail_len, uint64_t file_size, struct backup_format *ret_backup)
{
	static const uint8_t magic[] = BACKUP_MAGIC_BYTES;
	struct backup_footer footer;
	uint64_t footer_size, names_size, image_size;
	const char *names;

	if (tail_len < sizeof(footer) || tail_len > file_size)
		return -EBADMSG;
	memcpy(&footer, (const uint8_t *)tail + tail_len - sizeof(footer), sizeof(footer));
	if (memcmp(footer.magic, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	if (le16_get(footer.major) != BACKUP_MAJOR)
		return -EPROTONOSUPPORT;
	footer_size = le32_get(footer.size);
	names_size = le64_get(footer.names_size);
	image_size = le64_get(footer.image_size);
	if (image_size < sizeof(struct image_header) || image_size > IMAGE_MAX_SIZE ||
		footer_size < sizeof(footer) || footer_size > tail_len ||
		names_size > tail_len - footer_size ||
		file_size - footer_size - names_size != image_size)
		return -EBADMSG;
	names = (const char *)tail + tail_len - footer_size - names_size;
	if (hash_of(names + names_size, footer_size, names, names_size) != le64_get(footer.hash) ||
		!are_names(names, names_size))
		return -EBADMSG;
	*ret_backup = (struct backup_format){ footer, names, names_size };
	return 0;
}

void backup_format_finish(struct backup_footer *footer, const void *image, size_t image_size,
	const char *names, size_t names_size)
{
	static const uint8_t magic[] = BACKUP_MAGIC_BYTES;

	footer->image_size = le64_of(image_size);
	footer->image_hash = le64_of(hash_key(image, image_size, 0));
	footer->names_size = le64_of(names_size);
	footer->size = le32_of(sizeof(*footer));
	footer->major = le16_of(BACKUP_MAJOR);
	footer->minor = le16_of(BACKUP_MINOR);
	memcpy(footer->magic, magic, sizeof(magic));
	footer->hash = le64_of(hash_of(footer, sizeof(*footer), names, names_size));
}

int backup_format_names(const char *const parts[], unsigned n_parts,
	char ret_names[LIMIT_BACKUP_NAMES], size_t *ret_size)
{
	size_t size = 0;

	for (unsigned i = 0; i < n_parts; i++) {
		const char *part = parts[i] ? parts[i] : "";
		size_t n = strlen(part) + 1;

		if (n > LIMIT_BACKUP_NAMES - size)
			return -ENAMETOOLONG;
		memcpy(ret_names + size, part, n);
		size += n;
	}
	*ret_size = size;
	return 0;
}

bool backup_format_is_of(const struct backup_format *backup, const char *service)
{
	return std_streq(backup->names, service);
}

bool backup_format_has_identity(
	const struct backup_format *backup, const char *names, size_t names_size)
{
	return backup->names_size == names_size && memcmp(backup->names, names, names_size) == 0;
}

uint64_t backup_format_age_usec(
	const struct backup_footer *footer, const struct backup_clock *clock)
{
	static const uint8_t unknown[sizeof(footer->boot_id)];
	uint64_t then = le64_get(footer->confirmed_at), now = clock->realtime_usec;

	if (memcmp(footer->boot_id, clock->boot_id, sizeof(footer->boot_id)) == 0 &&
		memcmp(footer->boot_id, unknown, sizeof(unknown)) != 0) {
		then = le64_get(footer->confirmed_boottime);
		now = clock->boottime_usec;
	}
	return now > then ? now - then : 0;
}
