#include "client/python/reader.h"

#include <string.h>

#include "client/python/config.h"
#include "client/python/errors.h"
#include "client/python/values.h"

int reader_refresh(struct reader *r)
{
	if (r->cfg)
		return config_refresh(r);
	if (r->pinned)
		return 0;
	errors_closed(r->service);
	return -1;
}

void reader_close(struct reader *r)
{
	r->pinned = pinned_unref(r->pinned);
}

/* --- one key ----------------------------------------------------------------------------- */

static PyObject *text_of(struct reader *r, PyObject *key, const char *value, Py_ssize_t len)
{
	PyObject *text = PyUnicode_DecodeUTF8(value, len, NULL), *kind, *error, *trace;
	Py_ssize_t at = 0;

	if (LIKELY(text != NULL) || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
		return text;
	/* Python's own would carry the value along. */
	PyErr_Fetch(&kind, &error, &trace);
	PyErr_NormalizeException(&kind, &error, &trace);
	if (error)
		(void)PyUnicodeDecodeError_GetStart(error, &at);
	Py_XDECREF(kind);
	Py_XDECREF(error);
	Py_XDECREF(trace);
	return errors_not_text(r->service, key, at, len);
}

/* NULL without an exception: there is none. */
static const char *find(struct reader *r, PyObject *key, Py_ssize_t *ret_len)
{
	struct pinned *pinned = reader_newest(r);

	return LIKELY(pinned != NULL) ? pinned_find(pinned, key, ret_len) : NULL;
}

/* What a read gives where the key is absent: the default, or NotFound. */
static PyObject *absent(struct reader *r, PyObject *key, PyObject *fallback)
{
	if (PyErr_Occurred())
		return NULL;
	if (!fallback)
		return errors_not_found(r->service, key);
	return Py_NewRef(fallback);
}

static PyObject *subscript(PyObject *self, PyObject *key)
{
	struct reader *r = (struct reader *)self;
	Py_ssize_t len;
	const char *value = find(r, key, &len);

	return LIKELY(value != NULL) ? text_of(r, key, value, len) : absent(r, key, NULL);
}

static int contains(PyObject *self, PyObject *key)
{
	Py_ssize_t len;

	if (find((struct reader *)self, key, &len))
		return 1;
	return PyErr_Occurred() ? -1 : 0;
}

static const char *const keywords[] = { "key", "default", NULL };

static PyObject *method_get(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct reader *r = (struct reader *)self;
	PyObject *key, *fallback = Py_None;
	const char *value;
	Py_ssize_t len;

	if (!PyArg_ParseTupleAndKeywords(
		    args, kwargs, "O|O:get", KEYWORDS(keywords), &key, &fallback))
		return NULL;
	value = find(r, key, &len);
	return value ? text_of(r, key, value, len) : absent(r, key, fallback);
}

static PyObject *method_bytes(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct reader *r = (struct reader *)self;
	PyObject *key, *fallback = NULL;
	const char *value;
	Py_ssize_t len;

	if (!PyArg_ParseTupleAndKeywords(
		    args, kwargs, "O|O:bytes", KEYWORDS(keywords), &key, &fallback))
		return NULL;
	value = find(r, key, &len);
	return value ? PyBytes_FromStringAndSize(value, len) : absent(r, key, fallback);
}

static PyObject *get_typed(struct reader *r, PyObject *args, PyObject *kwargs, enum value_kind kind,
	const char *format)
{
	PyObject *key, *fallback = NULL, *object;
	const char *value;
	Py_ssize_t len;
	int error;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, KEYWORDS(keywords), &key, &fallback))
		return NULL;
	value = find(r, key, &len);
	if (!value)
		return absent(r, key, fallback);
	object = values_parse(kind, value, len, &error);
	if (!object && error < 0)
		return errors_not_a(r->service, key, value_names[kind], error);
	return object;
}

static PyObject *method_get_int(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return get_typed((struct reader *)self, args, kwargs, VALUE_INT, "O|O:get_int");
}

static PyObject *method_get_float(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return get_typed((struct reader *)self, args, kwargs, VALUE_FLOAT, "O|O:get_float");
}

static PyObject *method_get_bool(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return get_typed((struct reader *)self, args, kwargs, VALUE_BOOL, "O|O:get_bool");
}

static PyObject *method_get_duration(PyObject *self, PyObject *args, PyObject *kwargs)
{
	return get_typed((struct reader *)self, args, kwargs, VALUE_DURATION, "O|O:get_duration");
}

/* --- all keys ---------------------------------------------------------------------------- */

static Py_ssize_t length(PyObject *self)
{
	struct pinned *pinned = reader_newest((struct reader *)self);

	return pinned ? pinned_count(pinned) : -1;
}

static PyObject *keys_below(struct reader *r, const char *prefix)
{
	struct pinned *pinned = reader_newest(r);
	PyObject *keys;

	if (!pinned)
		return NULL;
	pinned = pinned_ref(pinned);
	keys = pinned_keys(pinned, prefix);
	pinned_unref(pinned);
	return keys;
}

static PyObject *iterate(PyObject *self)
{
	PyObject *keys = keys_below((struct reader *)self, ""), *iterator;

	if (!keys)
		return NULL;
	iterator = PyObject_GetIter(keys);
	Py_DECREF(keys);
	return iterator;
}

/* NULL with an exception, or without: no key begins so. */
static const char *prefix_of(PyObject *prefix)
{
	const char *text;
	Py_ssize_t len;

	if (!PyUnicode_Check(prefix)) {
		PyErr_Format(
			PyExc_TypeError, "a prefix is str, not %.100s", Py_TYPE(prefix)->tp_name);
		return NULL;
	}
	text = PyUnicode_AsUTF8AndSize(prefix, &len);
	return text && strlen(text) == (size_t)len ? text : NULL;
}

static PyObject *method_below(PyObject *self, PyObject *prefix)
{
	const char *text = prefix_of(prefix);

	if (!text)
		return PyErr_Occurred() ? NULL : PyList_New(0);
	return keys_below((struct reader *)self, text);
}

static PyObject *method_has_below(PyObject *self, PyObject *prefix)
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	const char *text = prefix_of(prefix);
	struct pinned *pinned;
	size_t cursor = 0;

	if (!text)
		return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
	pinned = reader_newest((struct reader *)self);
	if (!pinned)
		return NULL;
	return PyBool_FromLong(ccfg_view_next(pinned->view, text, &cursor, &entry));
}

/* --- about it ---------------------------------------------------------------------------- */

static PyObject *get_generation(PyObject *self, void *closure)
{
	struct pinned *pinned = reader_newest((struct reader *)self);

	(void)closure;
	return pinned ? PyLong_FromUnsignedLongLong(pinned->generation) : NULL;
}

/* Takes nothing newer. */
static PyObject *get_held(PyObject *self, void *closure)
{
	struct reader *r = (struct reader *)self;

	(void)closure;
	return r->pinned ? PyLong_FromUnsignedLongLong(r->pinned->generation)
			 : errors_closed(r->service);
}

static PyObject *get_service(PyObject *self, void *closure)
{
	(void)closure;
	return Py_NewRef(((struct reader *)self)->service);
}

static PyObject *get_closed(PyObject *self, void *closure)
{
	(void)closure;
	return PyBool_FromLong(!((struct reader *)self)->pinned);
}

/* Keys and numbers, never a value. */
static PyObject *represent(PyObject *self)
{
	struct reader *r = (struct reader *)self;
	const char *name = strrchr(Py_TYPE(self)->tp_name, '.');

	name = name ? name + 1 : Py_TYPE(self)->tp_name;
	if (!r->pinned)
		return PyUnicode_FromFormat("<consulcfg.%s %R, closed>", name, r->service);
	return PyUnicode_FromFormat("<consulcfg.%s %R, generation %llu, %zd keys>", name,
		r->service, (unsigned long long)r->pinned->generation, pinned_count(r->pinned));
}

static PyObject *refuse_to_pickle(PyObject *self, PyObject *protocol)
{
	(void)protocol;
	return PyErr_Format(PyExc_TypeError,
		"%.100s cannot be pickled: it is this process's connection to the daemon; open service %R "
		"in the other process (children of a fork can use it as it is)",
		Py_TYPE(self)->tp_name, ((struct reader *)self)->service);
}

static void deallocate(PyObject *self)
{
	struct reader *r = (struct reader *)self;

	reader_close(r);
	Py_CLEAR(r->service);
	Py_TYPE(self)->tp_free(self);
}

#define METHOD(name)                                                                               \
	{                                                                                          \
#name, (PyCFunction)(void (*)(void))method_##name, METH_VARARGS | METH_KEYWORDS,   \
			doc_##name                                                                 \
	}

PyDoc_STRVAR(doc_get, "get(key, default=None)\n--\n\n"
		      "The value of a key as str, or the default where there is no such key.\n\n"
		      "Raises NotText where the value is not UTF-8.");
PyDoc_STRVAR(doc_bytes,
	"bytes(key[, default])\n--\n\n"
	"The value of a key as bytes, whatever they are. NotFound where there is neither.");
PyDoc_STRVAR(doc_get_int,
	"get_int(key[, default])\n--\n\n"
	"An integer of 64 bits: -?[0-9]+ (one newline at the end is ignored).\n\n"
	"The default is for a key that is absent; NotFound without one. A value that is there and\n"
	"does not parse raises InvalidValue.");
PyDoc_STRVAR(doc_get_float, "get_float(key[, default])\n--\n\n"
			    "A number: 1.5, -2, .5, 1e-3; no inf, no nan. Errors as of get_int().");
PyDoc_STRVAR(doc_get_bool, "get_bool(key[, default])\n--\n\n"
			   "true false yes no on off 1 0, in any case. Errors as of get_int().");
PyDoc_STRVAR(doc_get_duration,
	"get_duration(key[, default])\n--\n\n"
	"A datetime.timedelta: number and unit (us ms s min h d w: 250ms, 1.5h), a bare number is\n"
	"seconds. Rounded down to microseconds. Errors as of get_int().");
PyDoc_STRVAR(doc_below,
	"below(prefix)\n--\n\n"
	"A list of the keys that begin with a prefix, in byte order; \"\" for all.");

static PyMethodDef methods[] = {
	METHOD(get),
	METHOD(bytes),
	METHOD(get_int),
	METHOD(get_float),
	METHOD(get_bool),
	METHOD(get_duration),
	{ "below", method_below, METH_O, doc_below },
	{ "has_below", method_has_below, METH_O,
		"has_below(prefix)\n--\n\nWhether any key begins with a prefix." },
	{ "__reduce_ex__", refuse_to_pickle, METH_O, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef attributes[] = {
	{ "generation", get_generation, NULL,
		"The number of what a read answers from; another number, other contents. 0: no data.",
		NULL },
	{ "_held", get_held, NULL, NULL, NULL },
	{ "service", get_service, NULL, "The service's name.", NULL },
	{ "closed", get_closed, NULL, "Whether it was closed.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyMappingMethods mapping = {
	.mp_length = length,
	.mp_subscript = subscript,
};

static PySequenceMethods sequence = {
	.sq_contains = contains,
};

PyTypeObject reader_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "consulcfg._consulcfg.Reader",
	.tp_doc = "Reads of one service.",
	.tp_basicsize = sizeof(struct reader),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.tp_dealloc = deallocate,
	.tp_repr = represent,
	.tp_iter = iterate,
	.tp_as_mapping = &mapping,
	.tp_as_sequence = &sequence,
	.tp_methods = methods,
	.tp_getset = attributes,
};
