#include "client/python/attributes.h"

#include "client/python/errors.h"
#include "client/python/values.h"

struct attributes {
	PyObject ob_base;
	struct reader *reader;
	PyObject *path; /* str: "" or a prefix that ends in a slash */
};

/* Takes the path over, also in failure; NULL passes. */
static PyObject *new_below(struct reader *reader, PyObject *path)
{
	struct attributes *attributes;

	if (!path)
		return NULL;
	attributes = PyObject_GC_New(struct attributes, &attributes_type);
	if (!attributes) {
		Py_DECREF(path);
		return NULL;
	}
	attributes->reader = (struct reader *)Py_NewRef((PyObject *)reader);
	attributes->path = path;
	PyObject_GC_Track((PyObject *)attributes);
	return (PyObject *)attributes;
}

PyObject *attributes_new(struct reader *reader)
{
	return new_below(reader, PyUnicode_FromString(""));
}

/* Names like __this__ are Python's. */
static bool is_dunder(PyObject *name)
{
	Py_ssize_t len = PyUnicode_GET_LENGTH(name);

	return len > 4 && PyUnicode_READ_CHAR(name, 0) == '_' &&
	       PyUnicode_READ_CHAR(name, 1) == '_' && PyUnicode_READ_CHAR(name, len - 1) == '_' &&
	       PyUnicode_READ_CHAR(name, len - 2) == '_';
}

/* The value of the key where no keys are below it, else what leads to those. */
static PyObject *step(struct attributes *a, PyObject *key)
{
	struct pinned *pinned = reader_newest(a->reader);
	PyObject *below;
	const char *value;
	Py_ssize_t len;
	int has;

	if (!pinned)
		return NULL;
	below = PyUnicode_FromFormat("%U/", key);
	has = below ? pinned_has(pinned, below) : -1;
	if (has > 0)
		return new_below(a->reader, below);
	Py_XDECREF(below);
	if (has < 0)
		return NULL;
	value = pinned_find(pinned, key, &len);
	if (value)
		return values_text(a->reader->service, key, value, len);
	return PyErr_Occurred() ? NULL : errors_no_attribute(a->reader->service, key);
}

static PyObject *get_attribute(PyObject *self, PyObject *name)
{
	struct attributes *a = (struct attributes *)self;
	PyObject *key, *found;

	if (is_dunder(name))
		return PyObject_GenericGetAttr(self, name);
	key = PyUnicode_Concat(a->path, name);
	found = key ? step(a, key) : NULL;
	Py_XDECREF(key);
	return found;
}

static int set_attribute(PyObject *self, PyObject *name, PyObject *value)
{
	(void)name, (void)value;
	PyErr_Format(PyExc_AttributeError, "%U: configuration is read-only",
		((struct attributes *)self)->reader->service);
	return -1;
}

/* The value of a key that has keys below it as well. */
static PyObject *call(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct attributes *a = (struct attributes *)self;
	Py_ssize_t len = PyUnicode_GET_LENGTH(a->path);
	PyObject *key, *value;

	if (PyTuple_GET_SIZE(args) > 0 || kwargs)
		return PyErr_Format(PyExc_TypeError, "keys are called without arguments");
	key = PyUnicode_Substring(a->path, 0, len > 0 ? len - 1 : 0);
	value = key ? PyObject_GetItem((PyObject *)a->reader, key) : NULL;
	Py_XDECREF(key);
	return value;
}

/* What can follow: the keys' next words. */
static PyObject *method_dir(PyObject *self, PyObject *unused)
{
	struct attributes *a = (struct attributes *)self;
	Py_ssize_t begin = PyUnicode_GET_LENGTH(a->path);
	PyObject *keys = PyObject_CallMethod((PyObject *)a->reader, "below", "O", a->path);
	PyObject *words = keys ? PySet_New(NULL) : NULL;

	(void)unused;
	for (Py_ssize_t i = 0; words && i < PyList_GET_SIZE(keys); i++) {
		PyObject *key = PyList_GET_ITEM(keys, i), *word;
		Py_ssize_t len = PyUnicode_GET_LENGTH(key);
		Py_ssize_t end = PyUnicode_FindChar(key, '/', begin, len, 1);

		word = PyUnicode_Substring(key, begin, end < 0 ? len : end);
		if (!word || PySet_Add(words, word) < 0)
			Py_CLEAR(words);
		Py_XDECREF(word);
	}
	Py_XDECREF(keys);
	return words;
}

static PyObject *represent(PyObject *self)
{
	struct attributes *a = (struct attributes *)self;

	return PyUnicode_FromFormat(
		"<consulcfg.Attributes %R below %R>", a->reader->service, a->path);
}

static PyObject *refuse_to_pickle(PyObject *self, PyObject *protocol)
{
	return PyObject_CallMethod(
		(PyObject *)((struct attributes *)self)->reader, "__reduce_ex__", "O", protocol);
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT((PyObject *)((struct attributes *)self)->reader);
	return 0;
}

static void deallocate(PyObject *self)
{
	PyObject_GC_UnTrack(self);
	Py_DECREF((PyObject *)((struct attributes *)self)->reader);
	Py_DECREF(((struct attributes *)self)->path);
	PyObject_GC_Del(self);
}

static PyMethodDef methods[] = {
	{ "__dir__", method_dir, METH_NOARGS, NULL },
	{ "__reduce_ex__", refuse_to_pickle, METH_O, NULL },
	{ NULL, NULL, 0, NULL },
};

PyDoc_STRVAR(doc,
	"Keys as attributes: cfg.attrs.db.url is cfg[\"db/url\"], live, as str.\n\n"
	"It has no methods, so that no key is hidden; what is no identifier is read with\n"
	"getattr(cfg.attrs, \"cache-ttl\"). Names like __this__ are Python's. Where a key has keys\n"
	"below it as well, the attribute leads to those, and calling it gives the key's own value:\n"
	"cfg.attrs.db.url, cfg.attrs.db(). NoAttribute (an AttributeError and a KeyError) where\n"
	"there is neither.");

PyTypeObject attributes_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "consulcfg.Attributes",
	.tp_doc = doc,
	.tp_basicsize = sizeof(struct attributes),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.tp_dealloc = deallocate,
	.tp_repr = represent,
	.tp_call = call,
	.tp_getattro = get_attribute,
	.tp_setattro = set_attribute,
	.tp_traverse = traverse,
	.tp_methods = methods,
};
