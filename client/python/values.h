/*
 * Values as Python's types, by the library's grammar.
 */
#pragma once

#include "client/python/module.h"

enum value_kind { VALUE_INT, VALUE_FLOAT, VALUE_BOOL, VALUE_DURATION };

/* What messages call one: "an integer". */
extern const char *const value_names[];

int values_set_up(void);

/* A str; NotText where it is not UTF-8, which does not carry the value along as Python's own does.
 */
PyObject *values_text(PyObject *service, PyObject *key, const char *value, Py_ssize_t len);

/*
 * An int (64 bits), float, bool or datetime.timedelta. NULL with *ret_error -EINVAL (does not
 * parse) or -ERANGE (does not fit), or 0 where an exception is set.
 */
PyObject *values_parse(enum value_kind kind, const char *text, Py_ssize_t len, int *ret_error);
