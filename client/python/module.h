/*
 * What all files of _consulcfg share: Python's header, and this process's exceptions.
 *
 * The module is for the main interpreter alone: callbacks of the library find their way back to
 * it, and types are static.
 */
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <consulcfg.h>

/* Python before 3.13 wants them writable, and does not write. */
#define KEYWORDS(list) ((char **)(uintptr_t)(list))

#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define LIKELY(x) __builtin_expect(!!(x), 1)

#if PY_VERSION_HEX < 0x030A0000
static inline PyObject *Py_NewRef(PyObject *object)
{
	Py_INCREF(object);
	return object;
}
#endif
