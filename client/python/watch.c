#include "client/python/watch.h"

#include <string.h>

#include "client/python/dispatch.h"
#include "client/python/errors.h"

PyObject *watch_open(struct config *c, PyObject *prefix, PyObject *callback)
{
	Py_ssize_t len;
	const char *text = PyUnicode_AsUTF8AndSize(prefix, &len);
	struct watch *watch;
	int r;

	if (!text)
		return NULL;
	if (strlen(text) != (size_t)len) {
		PyErr_SetString(PyExc_ValueError, "a prefix holds no NUL, as keys hold none");
		return NULL;
	}
	watch = PyObject_GC_New(struct watch, &watch_type);
	if (!watch)
		return NULL;
	watch->config = NULL;
	watch->watch = NULL;
	watch->prefix = Py_NewRef(prefix);
	watch->callback = Py_NewRef(callback);
	PyObject_GC_Track((PyObject *)watch);
	if (!c->reader.cfg) {
		Py_DECREF(watch);
		return errors_closed(c->reader.service);
	}
	r = ccfg_on_change(c->reader.cfg, text, dispatch_note, watch, &watch->watch);
	if (r < 0) {
		Py_DECREF(watch);
		return errors_other(c->reader.service, "cannot be watched", r);
	}
	if (PyList_Append(c->watches, (PyObject *)watch) < 0) {
		ccfg_watch_close(watch->watch);
		Py_DECREF(watch);
		return NULL;
	}
	watch->config = c;
	return (PyObject *)watch;
}

void watch_forget(struct watch *watch)
{
	watch->config = NULL;
	watch->watch = NULL;
}

static void close_watch(struct watch *watch)
{
	struct config *c = watch->config;

	if (!c)
		return;
	ccfg_watch_close(watch->watch);
	watch_forget(watch);
	config_let_go(c, (PyObject *)watch);
}

static PyObject *method_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	close_watch((struct watch *)self);
	Py_RETURN_NONE;
}

static PyObject *method_enter(PyObject *self, PyObject *unused)
{
	(void)unused;
	return Py_NewRef(self);
}

static PyObject *method_exit(PyObject *self, PyObject *unused)
{
	(void)unused;
	close_watch((struct watch *)self);
	Py_RETURN_NONE;
}

static PyObject *get_prefix(PyObject *self, void *closure)
{
	(void)closure;
	return Py_NewRef(((struct watch *)self)->prefix);
}

static PyObject *get_closed(PyObject *self, void *closure)
{
	(void)closure;
	return PyBool_FromLong(!((struct watch *)self)->config);
}

static PyObject *represent(PyObject *self)
{
	const struct watch *watch = (struct watch *)self;

	return PyUnicode_FromFormat(
		"<consulcfg.Watch %R%s>", watch->prefix, watch->config ? "" : ", closed");
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(((struct watch *)self)->callback);
	return 0;
}

static int clear(PyObject *self)
{
	Py_CLEAR(((struct watch *)self)->callback);
	return 0;
}

/* An open one is never here: its config holds it. */
static void deallocate(PyObject *self)
{
	PyObject_GC_UnTrack(self);
	(void)clear(self);
	Py_CLEAR(((struct watch *)self)->prefix);
	PyObject_GC_Del(self);
}

static PyMethodDef methods[] = {
	{ "close", method_close, METH_NOARGS,
		"close()\n--\n\nNo call begins any more. Any number of times." },
	{ "__enter__", method_enter, METH_NOARGS, NULL },
	{ "__exit__", method_exit, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef attributes[] = {
	{ "prefix", get_prefix, NULL, "What its keys begin with.", NULL },
	{ "closed", get_closed, NULL, "Whether it, or its config, was closed.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

PyTypeObject watch_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "consulcfg.Watch",
	.tp_doc = "What Config.on_change() gives: close() ends the calls; a context manager.",
	.tp_basicsize = sizeof(struct watch),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.tp_dealloc = deallocate,
	.tp_repr = represent,
	.tp_traverse = traverse,
	.tp_clear = clear,
	.tp_methods = methods,
	.tp_getset = attributes,
};
