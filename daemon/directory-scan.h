/*
 * One reading of a tree of files: PATH/config/billing/db/url is the key db/url of the prefix
 * config/billing/. Works in slices, names every directory it looks into to directory-notify, and
 * says when the files were not at rest. Knows no tree and no timer.
 *
 * Names that are not visible, and files that are not regular, are no keys. Links are followed.
 * With `flat`, "__" in a file's name stands for "/", also above the prefix: PATH/config__billing__x
 * is the key x of config/billing/. Of two files with one key the deeper one counts.
 */
#pragma once

#include <sys/types.h>

#include "daemon/directory-notify.h"
#include "daemon/kvset.h"

struct directory_scan;

struct directory_scan_settings {
	char *root;
	bool keep_newline; /* else one newline at the end of a value is dropped */
	bool flat;
	uint64_t max_value;
	uint64_t max_bytes; /* of records */
};

/*
 * Settings, prefix and follower are borrowed. is_patient: files that are being written end the
 * scan with -EBUSY; else they are taken as they are.
 */
int directory_scan_new(const struct directory_scan_settings *settings, const char *prefix,
	struct directory_follower *follower, bool is_patient, struct directory_scan **ret_scan);
struct directory_scan *directory_scan_free(struct directory_scan *scan);

/*
 * One slice. 1: more to do; 0: complete; -EBUSY: a file is being written, see
 * directory_scan_wait_usec(); other -errno: see directory_scan_message(). After 0 or an error the
 * scan is over.
 *
 *   -ENOENT, -ENOTDIR  the root is missing, or a link leads nowhere
 *   -EAGAIN            a file or a directory went away or changed while it was read
 *   -EACCES, -EPERM    something is not readable
 *   -ELOOP             links lead to each other
 *   -E2BIG             too deep, too many directories
 *   -EFBIG             a value or the whole is too large
 */
int directory_scan_step(struct directory_scan *scan);

/* After 0: the contents, finished; the caller's. */
struct kvset *directory_scan_take(struct directory_scan *scan);
/* After 0: directories changed meanwhile, the contents may be partly old and partly new. */
bool directory_scan_is_mixed(const struct directory_scan *scan);
/* After 0: which values are empty, as a number that is the same for the same keys; 0: none. */
uint64_t directory_scan_empties(const struct directory_scan *scan);
/* After 0: an empty file still has blocks: most likely it is just being cut. */
bool directory_scan_is_cutting(const struct directory_scan *scan);
/* After 0: the file system of the root, and whether the root has no visible entry at all. */
dev_t directory_scan_device(const struct directory_scan *scan);
bool directory_scan_is_bare(const struct directory_scan *scan);

uint64_t directory_scan_wait_usec(const struct directory_scan *scan);
/* "PATH: reason", printable. */
const char *directory_scan_message(const struct directory_scan *scan);
