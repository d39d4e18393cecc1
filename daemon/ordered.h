/*
 * Ordered tables: the only door to libbsd's red-black tree (header only). RB_HEAD, RB_ENTRY,
 * RB_INIT, RB_FIND, RB_NFIND, RB_INSERT, RB_REMOVE, RB_NEXT, RB_FOREACH as in tree(3bsd).
 */
#pragma once

#include <bsd/sys/tree.h>

/* RB_GENERATE_STATIC relies on a macro that glibc takes away again. */
#define ORDERED_GENERATE(name, type, field, compare)                                               \
	RB_GENERATE_INTERNAL(name, type, field, compare, __attribute__((unused)) static)
