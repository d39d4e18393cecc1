/*
 * Globs of the configuration: '*' is any run of bytes, '?' any one. Matched here, not by
 * fnmatch(3), whose time on a chosen name may grow without bound.
 */
#pragma once

#include "proto/std.h"

/* len bytes of text. */
bool glob_matches(const char *glob, const char *text, size_t len);

struct glob_list {
	char **globs;
	unsigned n;
};

bool glob_list_matches(const struct glob_list *list, const char *text, size_t len);
bool glob_list_is_same(const struct glob_list *a, const struct glob_list *b);
/* 0, -ENOMEM; release it in both cases. */
int glob_list_copy(const struct glob_list *list, struct glob_list *ret_list);
void glob_list_done(struct glob_list *list);
