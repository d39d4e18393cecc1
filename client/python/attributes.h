/*
 * Attributes: keys as attributes, cfg.attrs.db.url. No methods, so that no key is hidden.
 */
#pragma once

#include "client/python/reader.h"

extern PyTypeObject attributes_type;

/* Those of all keys. */
PyObject *attributes_new(struct reader *reader);
