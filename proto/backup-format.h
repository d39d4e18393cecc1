/*
 * A backup: an image as a file, with what the daemon knows of it behind. consulcfg-image(5)
 * describes it for strangers.
 *
 *   image | names | footer (320 bytes)
 *
 * Names are NUL-terminated texts: the service, the source, datacenter, namespace, partition, and
 * the prefix of each layer, lowest first. Behind the service they are the identity: what a daemon
 * that reads from elsewhere must not take for its own. The footer stands last and has a checksum of
 * itself and of the names, so that a thousand backups are known without reading their images; the
 * image's checksum is in it.
 *
 * The file of a service is called NAME followed by BACKUP_SUFFIX, in which the major version is:
 * daemons of two versions do not write over each other's.
 */
#pragma once

#include "proto/image.h"

#define BACKUP_SUFFIX ".1"
#define HISTORY_NAME "%020llu" BACKUP_SUFFIX /* in name order generations are in order */
#define BACKUP_MAJOR 1 /* another major: another layout, another suffix */
#define BACKUP_MINOR 0 /* a higher minor only adds what readers may ignore */
#define BACKUP_MAGIC_BYTES                                                                         \
	{                                                                                          \
		'C', 'C', 'F', 'G', 'B', 'A', 'K', '\n'                                            \
	}
#define BACKUP_TAIL ((size_t)LIMIT_BACKUP_NAMES + sizeof(struct backup_footer))
#define BACKUP_NAME (LIMIT_SERVICE_NAME + sizeof(BACKUP_SUFFIX)) /* of a file, with its NUL */

struct backup_footer {
	le64 image_size; /* the image is the first bytes of the file */
	le64 image_hash;
	le64 names_size;
	le64 generation;
	le64 index; /* Consul's, the highest of the layers */
	le64 flags_digest; /* of entries that have flags; of one layer alone */
	le64 published_at; /* usec since 1970 */
	le64 confirmed_at; /* by the source, usec since 1970 */
	le64 confirmed_boottime; /* the same, usec of CLOCK_BOOTTIME */
	uint8_t boot_id[16]; /* of the boot that clock belongs to */
	le64 layer_index[LIMIT_LAYERS]; /* Consul's */
	uint8_t unused[80];
	le32 size; /* of the footer: a higher minor may grow it at its front */
	le16 major;
	le16 minor;
	le64 hash; /* of the names and the footer up to here */
	uint8_t magic[8];
};

_Static_assert(sizeof(struct backup_footer) == 320, "backup layout");
_Static_assert(offsetof(struct backup_footer, layer_index) == 88, "backup layout");
_Static_assert(offsetof(struct backup_footer, hash) == 304, "backup layout");

/* What the end of a file says. */
struct backup_format {
	struct backup_footer footer;
	const char *names; /* into the bytes that were read */
	size_t names_size;
};

/* Names that a backup must have, the service's aside. */
struct backup_identity {
	char names[LIMIT_BACKUP_NAMES];
	size_t size;
};

/* The clocks of this moment, and which boot it is. */
struct backup_clock {
	uint64_t realtime_usec, boottime_usec;
	uint8_t boot_id[16]; /* zeros: not known */
};
void backup_format_clock(struct backup_clock *ret_clock);

/*
 * Reads names and footer; `tail` is the end of a file of file_size bytes, BACKUP_TAIL of them or
 * all. 0; -EBADMSG: damaged, or no backup; -EPROTONOSUPPORT: of another major version.
 */
int backup_format_read(
	const void *tail, size_t tail_len, uint64_t file_size, struct backup_format *ret_backup);

/* Fills in what makes a footer whole: sizes, hashes, versions. */
void backup_format_finish(struct backup_footer *footer, const void *image, size_t image_size,
	const char *names, size_t names_size);

/* Names from parts; NULL parts are empty ones. 0 and a size, -ENAMETOOLONG. */
int backup_format_names(const char *const parts[], unsigned n_parts,
	char ret_names[LIMIT_BACKUP_NAMES], size_t *ret_size);

bool backup_format_is_of(const struct backup_format *backup, const char *service);
/* Whether all names but the service's are those. */
bool backup_format_has_identity(
	const struct backup_format *backup, const char *names, size_t names_size);

/* Since the source confirmed it. On the boot that wrote it, whatever the wall clock does. */
uint64_t backup_format_age_usec(
	const struct backup_footer *footer, const struct backup_clock *clock);
