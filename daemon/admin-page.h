/*
 * The files of the page that the admin port shows to people; they are built into the program.
 */
#pragma once

#include "proto/std.h"

struct admin_page {
	const char *path;
	const char *type;
	const char *text;
	size_t len;
};

/* NULL: there is no such file. */
const struct admin_page *admin_page_find(const char *path);
