/*
 * A backup: what the library reads of it where there is no daemon, and what a daemon restores from
 * it, publishes again, or takes for the words of operators. They believe the same files. Each input
 * is read as it is and once more with true sizes and checksums, as bytes by chance have none; the
 * corpus is tests/corpus/backup.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "client/lib/view.h"
#include "daemon/pin.h"
#include "daemon/publication.h"
#include "daemon/restore.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- in the place of backup.c and state-directory.c: one file, without a directory ------------ */

struct backup {
	int fd;
};

int state_directory_open_file(int directory, const char *name)
{
	int fd = fcntl(directory, F_DUPFD_CLOEXEC, 3);

	(void)name;
	return fd < 0 ? -errno : fd;
}

int backup_load(
	struct backup *backup, const char *names, size_t names_size, struct backup_load **ret_load)
{
	(void)names;
	(void)names_size;
	return backup_load_new(backup->fd, "billing" BACKUP_SUFFIX, ret_load);
}

void backup_refuse(struct backup *backup, int error)
{
	assert(backup->fd >= 0 && error < 0);
}

/* --- the library ----------------------------------------------------------------------------- */

/* Every lookup; whether all is as it should be. */
static bool walk(const struct image *image)
{
	size_t cursor = 0;
	struct record record, found;
	unsigned sum = 0;

	while (image_next(image, "", 0, &cursor, &record))
		if (image_find(image, record.key, record.key_len, &found) && found.value_len > 0)
			sum += (unsigned char)found.value[found.value_len - 1];
	assert(sum < UINT32_MAX);
	return image_verify(image) == 0;
}

static bool library_takes(int fd, bool *ret_is_perfect)
{
	struct ccfg_view *view = NULL;
	struct backup_footer footer;
	struct backup_clock clock = { .realtime_usec = 1, .boottime_usec = 1 };

	if (view_read_backup(fd, NULL, &view, &footer) < 0)
		return false;
	(void)backup_format_age_usec(&footer, &clock);
	*ret_is_perfect = walk(&view->image);
	view_unref(view);
	return true;
}

/* --- the daemon ------------------------------------------------------------------------------ */

/* What was restored is published once more, as it is when the first answer changes a layer. */
static void publish(struct kvset *const sets[], unsigned n)
{
	struct publication *publication;
	struct snapshot *snapshot;
	int r;

	if (publication_new(sets, n, 1 << 20, &publication) < 0)
		return;
	do
		r = publication_step(publication);
	while (r > 0);
	if (r == 0 && publication_take(publication, 1, &snapshot) == 0) {
		(void)walk(&snapshot->image);
		snapshot_unref(snapshot);
	}
	publication_free(publication);
}

static void read_pins(const struct image *image)
{
	struct pins pins;
	struct kvset *layer;

	pins_init(&pins);
	if (pins_decode(image, &pins) == 0) {
		(void)pins_next_end(&pins);
		if (pins_layer(&pins, &layer) == 0)
			kvset_unref(layer);
		(void)pins_expire(&pins, UINT64_MAX);
	}
	pins_done(&pins);
}

static bool daemon_takes(int fd, unsigned n_layers)
{
	struct backup backup = { fd };
	struct restore *restore;
	struct snapshot *snapshot;
	struct kvset *layers[LIMIT_LAYERS];
	unsigned n = 0;
	int r;

	if (restore_new(&backup, NULL, 0, n_layers, &restore) < 0)
		return false;
	do
		r = restore_step(restore);
	while (r > 0);
	snapshot = restore_take(restore);
	while (r == 0 && n < n_layers && (layers[n] = restore_take_layer(restore, n)))
		n++;
	if (r == 0)
		assert(n == n_layers);
	restore_free(restore);
	if (n > 0)
		publish(layers, n);
	while (n > 0)
		kvset_unref(layers[--n]);
	if (!snapshot)
		return false;
	(void)walk(&snapshot->image);
	read_pins(&snapshot->image);
	snapshot_unref(snapshot);
	return true;
}

/* --- both ------------------------------------------------------------------------------------ */

static void use(const uint8_t *data, size_t size)
{
	AUTO_CLOSE int fd = memfd_create("backup", MFD_CLOEXEC);
	bool is_perfect = false, library, daemon;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		return;
	library = library_takes(fd, &is_perfect);
	daemon = daemon_takes(fd, 1);
	assert(daemon_takes(fd, 3) == daemon);
	assert(library == daemon);
	assert(daemon || !is_perfect);
}

/* The header of the image, then names and footer around what is there. */
static void mend(uint8_t *data, size_t size)
{
	struct image_header header;
	struct backup_footer footer;
	uint8_t *end = data + size - sizeof(footer);
	size_t room = size - sizeof(footer) - sizeof(header), names_size, image_size;

	memcpy(&footer, end, sizeof(footer));
	names_size = (size_t)(le64_get(footer.names_size) % (room + 1));
	image_size = sizeof(header) + room - names_size;
	if (names_size > 0)
		end[-1] = '\0';
	memcpy(&header, data, sizeof(header));
	memcpy(header.magic, IMAGE_MAGIC, sizeof(header.magic));
	header.major = le16_of(IMAGE_MAJOR);
	header.size = le64_of(image_size);
	memcpy(data, &header, sizeof(header));
	backup_format_finish(
		&footer, data, image_size, (const char *)data + image_size, names_size);
	memcpy(end, &footer, sizeof(footer));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_FREE uint8_t *copy = NULL;

	use(data, size);
	if (size < sizeof(struct image_header) + sizeof(struct backup_footer))
		return 0;
	copy = malloc(size);
	if (!copy)
		return 0;
	memcpy(copy, data, size);
	mend(copy, size);
	use(copy, size);
	return 0;
}
