/*
 * The exceptions of the package (consulcfg/errors.py), raised from errno values. No message and no
 * argument ever holds a value.
 */
#pragma once

#include "client/python/module.h"

/* Looks them up in consulcfg.errors. -1 with an exception. */
int errors_set_up(void);

/* All set an exception and return NULL. `service` is a str. */
PyObject *errors_closed(PyObject *service);
PyObject *errors_not_found(PyObject *service, PyObject *key);
PyObject *errors_no_attribute(PyObject *service, PyObject *key);
PyObject *errors_not_text(PyObject *service, PyObject *key, Py_ssize_t at, Py_ssize_t len);

/* error: -EINVAL or -ERANGE, what the parser said; type: "an integer". */
PyObject *errors_not_a(PyObject *service, PyObject *key, const char *type, int error);

/* Of ccfg_open(); socket may be NULL. */
PyObject *errors_open(PyObject *service, const char *socket, int error);

/* Of ccfg_explain(). */
PyObject *errors_explain(PyObject *service, PyObject *key, int error);

/* Of anything else. */
PyObject *errors_other(PyObject *service, const char *what, int error);
