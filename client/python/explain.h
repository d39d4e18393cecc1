/*
 * What each layer says of a key: written down while the library calls, without the interpreter's
 * lock, and made Python's later.
 */
#pragma once

#include "client/python/config.h"

/* A list of tuples, for the package's Layer, the lowest layer first. NULL with an exception. */
PyObject *explain_key(struct config *config, PyObject *key);
