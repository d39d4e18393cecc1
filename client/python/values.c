#include "client/python/values.h"

#include <datetime.h>
#include <errno.h>

#include "client/python/errors.h"

#define USEC_PER_SEC UINT64_C(1000000)
#define SEC_PER_DAY UINT64_C(86400)

const char *const value_names[] = {
	[VALUE_INT] = "an integer",
	[VALUE_FLOAT] = "a number",
	[VALUE_BOOL] = "a boolean (true false yes no on off 1 0)",
	[VALUE_DURATION] = "a duration (250ms 30s 15min 1h 7d, or seconds)",
};

int values_set_up(void)
{
	PyDateTime_IMPORT;
	return PyDateTimeAPI ? 0 : -1;
}

PyObject *values_text(PyObject *service, PyObject *key, const char *value, Py_ssize_t len)
{
	PyObject *text = PyUnicode_DecodeUTF8(value, len, NULL), *kind, *error, *trace;
	Py_ssize_t at = 0;

	if (LIKELY(text != NULL) || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
		return text;
	PyErr_Fetch(&kind, &error, &trace);
	PyErr_NormalizeException(&kind, &error, &trace);
	(void)PyUnicodeDecodeError_GetStart(error, &at);
	Py_XDECREF(kind);
	Py_XDECREF(error);
	Py_XDECREF(trace);
	return errors_not_text(service, key, at, len);
}

/* All of 64 bits fits: that is half a million years. */
static PyObject *delta_of(uint64_t us)
{
	uint64_t seconds = us / USEC_PER_SEC;

	return PyDelta_FromDSU((int)(seconds / SEC_PER_DAY), (int)(seconds % SEC_PER_DAY),
		(int)(us % USEC_PER_SEC));
}

PyObject *values_parse(enum value_kind kind, const char *text, Py_ssize_t len, int *ret_error)
{
	size_t n = (size_t)len;
	int64_t integer = 0;
	uint64_t us = 0;
	double real = 0;
	bool truth = false;
	int r = -EINVAL;

	switch (kind) {
	case VALUE_INT:
		r = ccfg_parse_int64(text, n, &integer);
		break;
	case VALUE_FLOAT:
		r = ccfg_parse_double(text, n, &real);
		break;
	case VALUE_BOOL:
		r = ccfg_parse_bool(text, n, &truth);
		break;
	case VALUE_DURATION:
		r = ccfg_parse_duration_us(text, n, &us);
		break;
	}
	*ret_error = r;
	if (r < 0)
		return NULL;
	switch (kind) {
	case VALUE_INT:
		return PyLong_FromLongLong(integer);
	case VALUE_FLOAT:
		return PyFloat_FromDouble(real);
	case VALUE_BOOL:
		return PyBool_FromLong(truth);
	case VALUE_DURATION:
		return delta_of(us);
	}
	return NULL;
}
