#include "client/python/reader.h"

#include <string.h>

#include "client/python/attributes.h"
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

	return LIKELY(value != NULL) ? values_text(r->service, key, value, len)
				     : absent(r, key, NULL);
}

static int contains(PyObject *self, PyObject *key)
{
	Py_ssize_t len;

	if (find((struct reader *)self, key, &len))
		return 1;
	return PyErr_Occurred() ? -1 : 0;
}

/* (key[, default]) */
struct arguments {
	PyObject *key, *fallback;
};

/* A read is so short that Python's own way of taking arguments would take as long again. */
static bool take_arguments(const char *name, PyObject *const *args, Py_ssize_t n, PyObject *names,
	struct arguments *ret)
{
	Py_ssize_t n_names = names ? PyTuple_GET_SIZE(names) : 0;
	PyObject *given[2] = { n > 0 ? args[0] : NULL, n > 1 ? args[1] : ret->fallback };
	bool is_wrong = n > 2;

	for (Py_ssize_t i = 0; i < n_names && !is_wrong; i++) {
		PyObject *keyword = PyTuple_GET_ITEM(names, i);
		int which = PyUnicode_CompareWithASCIIString(keyword, "default") == 0;

		is_wrong = which < n ||
			   (!which && PyUnicode_CompareWithASCIIString(keyword, "key") != 0);
		given[which] = args[n + i];
	}
	if (is_wrong || !given[0]) {
		PyErr_Format(PyExc_TypeError, "%s() takes a key and a default", name);
		return false;
	}
	*ret = (struct arguments){ given[0], given[1] };
	return true;
}

static PyObject *method_get(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
	struct reader *r = (struct reader *)self;
	struct arguments a = { .fallback = Py_None };
	const char *value;
	Py_ssize_t len;

	if (!take_arguments("get", args, n, names, &a))
		return NULL;
	value = find(r, a.key, &len);
	return value ? values_text(r->service, a.key, value, len) : absent(r, a.key, a.fallback);
}

static PyObject *method_bytes(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
	struct reader *r = (struct reader *)self;
	struct arguments a = { 0 };
	const char *value;
	Py_ssize_t len;

	if (!take_arguments("bytes", args, n, names, &a))
		return NULL;
	value = find(r, a.key, &len);
	return value ? PyBytes_FromStringAndSize(value, len) : absent(r, a.key, a.fallback);
}

static PyObject *get_typed(struct reader *r, const struct arguments *a, enum value_kind kind)
{
	PyObject *object;
	const char *value;
	Py_ssize_t len;
	int error;

	value = find(r, a->key, &len);
	if (!value)
		return absent(r, a->key, a->fallback);
	object = values_parse(kind, value, len, &error);
	if (!object && error < 0)
		return errors_not_a(r->service, a->key, value_names[kind], error);
	return object;
}

#define DEFINE_TYPED(name, kind)                                                                   \
	static PyObject *method_##name(                                                            \
		PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)              \
	{                                                                                          \
		struct arguments a = { 0 };                                                        \
                                                                                                   \
		if (!take_arguments(#name, args, n, names, &a))                                    \
			return NULL;                                                               \
		return get_typed((struct reader *)self, &a, kind);                                 \
	}

DEFINE_TYPED(get_int, VALUE_INT)
DEFINE_TYPED(get_float, VALUE_FLOAT)
DEFINE_TYPED(get_bool, VALUE_BOOL)
DEFINE_TYPED(get_duration, VALUE_DURATION)

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

static PyObject *method_below(PyObject *self, PyObject *prefix)
{
	const char *text = pinned_prefix(prefix);

	if (!text)
		return PyErr_Occurred() ? NULL : PyList_New(0);
	return keys_below((struct reader *)self, text);
}

static PyObject *method_has_below(PyObject *self, PyObject *prefix)
{
	struct pinned *pinned = reader_newest((struct reader *)self);
	int has = pinned ? pinned_has(pinned, prefix) : -1;

	return has < 0 ? NULL : PyBool_FromLong(has);
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

static PyObject *get_attrs(PyObject *self, void *closure)
{
	(void)closure;
	return attributes_new((struct reader *)self);
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
#name, (PyCFunction)(void (*)(void))method_##name, METH_FASTCALL | METH_KEYWORDS,  \
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
	{ "attrs", get_attrs, NULL,
		"Attribute path = key path: cfg.attrs.db.url is cfg[\"db/url\"]; see Attributes.",
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
