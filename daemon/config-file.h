/*
 * One INI file, read strictly. The only door to inih, which cuts long lines and section names,
 * takes indented lines for more of the value above, a ':' for '=' and skips what follows a ']':
 * each line is judged here before inih sees it, and one that would be misread is refused.
 *
 *   [section]
 *   key=value        ; a comment: white space and ';'
 *   # a comment: first in its line
 */
#pragma once

#include "proto/std.h"

/*
 * Told of each section (key and value NULL), then of its entries; the strings live as long as the
 * call. Anything but 0 ends the reading and is passed up.
 */
typedef int (*config_file_fn)(const char *section, const char *key, const char *value,
	const char *file, unsigned line, void *userdata);

/*
 * 0; -ENOENT: there is no such file, and no message; else -errno, of the file or of `fn`; for an
 * error of the file *ret_message is "FILE: …" or "FILE:LINE: …", the caller frees it, NULL when
 * there was no memory for it.
 */
int config_file_read(const char *path, config_file_fn fn, void *userdata, char **ret_message);
