/*
 * A pinned view of the library, counted: who reads keeps it, whatever others replace meanwhile.
 * Under the interpreter's lock. Turns values into Python objects.
 */
#pragma once

#include "client/python/module.h"

struct pinned {
	const ccfg_view *view;
	uint64_t generation;
	Py_ssize_t n_refs;
	Py_ssize_t n_entries; /* -1: not counted yet */
};

/* Takes the view over, also in failure. NULL with MemoryError. */
struct pinned *pinned_new(const ccfg_view *view);
struct pinned *pinned_ref(struct pinned *pinned);
struct pinned *pinned_unref(struct pinned *pinned);

/* The value of a key, NULL: none, or not a key at all; an exception only where key is no str. */
const char *pinned_find(struct pinned *pinned, PyObject *key, Py_ssize_t *ret_len);

Py_ssize_t pinned_count(struct pinned *pinned);

/* Text of a prefix. NULL: no str, with TypeError; or, without an exception, no key begins so. */
const char *pinned_prefix(PyObject *prefix);

/* Whether any key begins so: 1, 0, or -1 with TypeError. */
int pinned_has(struct pinned *pinned, PyObject *prefix);

/* A list of keys that begin with a prefix, in the order of their bytes. */
PyObject *pinned_keys(struct pinned *pinned, const char *prefix);
