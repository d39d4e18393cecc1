#include "client/python/errors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct {
	const char *name;
	PyObject *type;
} types[] = {
	{ "Error", NULL },
	{ "NotFound", NULL },
	{ "NoAttribute", NULL },
	{ "InvalidValue", NULL },
	{ "NotText", NULL },
	{ "InvalidName", NULL },
	{ "Unavailable", NULL },
	{ "TimedOut", NULL },
	{ "AccessDenied", NULL },
	{ "Closed", NULL },
};
enum type {
	ERROR,
	NOT_FOUND,
	NO_ATTRIBUTE,
	INVALID_VALUE,
	NOT_TEXT,
	INVALID_NAME,
	UNAVAILABLE,
	TIMED_OUT,
	DENIED,
	CLOSED
};

int errors_set_up(void)
{
	PyObject *module = PyImport_ImportModule("consulcfg.errors");

	if (!module)
		return -1;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		PyObject *type = PyObject_GetAttrString(module, types[i].name);

		if (!type) {
			Py_DECREF(module);
			return -1;
		}
		Py_XSETREF(types[i].type, type);
	}
	Py_DECREF(module);
	return 0;
}

static PyObject *raise_as(enum type type, int error, const char *format, ...)
{
	PyObject *message, *exception = NULL;
	va_list arguments;

	va_start(arguments, format);
	message = PyUnicode_FromFormatV(format, arguments);
	va_end(arguments);
	if (message)
		exception = PyObject_CallFunction(types[type].type, "Oi", message, error);
	Py_XDECREF(message);
	if (exception)
		PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
	Py_XDECREF(exception);
	return NULL;
}

PyObject *errors_closed(PyObject *service)
{
	return raise_as(CLOSED, EBADF, "%U: it was closed; open it again to read", service);
}

PyObject *errors_not_found(PyObject *service, PyObject *key)
{
	return raise_as(NOT_FOUND, ENOENT, "%U: there is no key %R", service, key);
}

PyObject *errors_no_attribute(PyObject *service, PyObject *key)
{
	return raise_as(
		NO_ATTRIBUTE, ENOENT, "%U: there is no key %R and none below it", service, key);
}

PyObject *errors_not_text(PyObject *service, PyObject *key, Py_ssize_t at, Py_ssize_t len)
{
	return raise_as(NOT_TEXT, EINVAL,
		"%U: the value of %R is not UTF-8 (byte %zd of %zd); read it with bytes(%R)",
		service, key, at + 1, len, key);
}

PyObject *errors_not_a(PyObject *service, PyObject *key, const char *type, int error)
{
	if (error == -ERANGE)
		return raise_as(INVALID_VALUE, ERANGE, "%U: the value of %R is too large for %s",
			service, key, type);
	return raise_as(INVALID_VALUE, -error, "%U: the value of %R is not %s", service, key, type);
}

/* Where the library looked, as consulcfg.h says it. */
static const char *socket_or_default(const char *socket)
{
	if (!socket)
		socket = secure_getenv("CONSULCFG_SOCKET");
	return socket && socket[0] != '\0' ? socket : "/run/consulcfgd/socket";
}

PyObject *errors_open(PyObject *service, const char *socket, int error)
{
	switch (error) {
	case -EINVAL:
		return raise_as(INVALID_NAME, EINVAL,
			"%R is not a service name: letters, digits, '.', '_' and '-', at most 64, "
			"the first a letter or a digit",
			service);
	case -EACCES:
	case -EPERM:
		return raise_as(DENIED, -error,
			"%U: access denied: run as root, as user %U, or in group %U or consulcfg",
			service, service, service);
	case -ETIMEDOUT:
		return raise_as(TIMED_OUT, ETIMEDOUT,
			"%U: no data in time: see consulcfg-status %U", service, service);
	case -ENOENT:
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -ENOTCONN:
		return raise_as(UNAVAILABLE, -error,
			"%U: no daemon at %s (%s): give socket= or CONSULCFG_SOCKET if it is "
			"another, or start consulcfgd",
			service, socket_or_default(socket), strerror(-error));
	case -ENOBUFS:
		return raise_as(UNAVAILABLE, ENOBUFS,
			"%U: the daemon is at a limit of services or connections", service);
	}
	return errors_other(service, "cannot be opened", error);
}

PyObject *errors_explain(PyObject *service, PyObject *key, int error)
{
	switch (error) {
	case -EINVAL:
		return raise_as(INVALID_NAME, EINVAL,
			"%R is not a key: UTF-8 without NUL, 1 to 4096 bytes", key);
	case -EOPNOTSUPP:
		return errors_other(
			service, "its layers cannot be told: an image, or an older daemon", error);
	case -ETIMEDOUT:
		return raise_as(TIMED_OUT, ETIMEDOUT,
			"%U: the daemon did not answer in time: ask again", service);
	case -ENOENT:
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -ENOTCONN:
		return raise_as(UNAVAILABLE, -error,
			"%U: no daemon that knows its layers (%s): start consulcfgd", service,
			strerror(-error));
	}
	return errors_open(service, NULL, error);
}

PyObject *errors_other(PyObject *service, const char *what, int error)
{
	if (error == -ENOMEM)
		return PyErr_NoMemory();
	return raise_as(ERROR, -error, "%U: %s: %s", service, what, strerror(-error));
}
