#include "client/python/view.h"

#include "client/python/errors.h"

static PyObject *new (PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static const char *const keywords[] = { "config", NULL };
	struct reader *from, *view;

	if (!PyArg_ParseTupleAndKeywords(
		    args, kwargs, "O!:View", KEYWORDS(keywords), &reader_type, &from))
		return NULL;
	if (!reader_newest(from))
		return NULL;
	view = (struct reader *)type->tp_alloc(type, 0);
	if (!view)
		return NULL;
	/* The allocation may have collected garbage, and that have run anything. */
	if (!from->pinned) {
		Py_DECREF(view);
		return errors_closed(from->service);
	}
	view->pinned = pinned_ref(from->pinned);
	view->service = Py_NewRef(from->service);
	return (PyObject *)view;
}

static PyObject *method_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	reader_close((struct reader *)self);
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{ "close", method_close, METH_NOARGS,
		"close()\n--\n\nGives the generation's memory back; reads raise Closed from now on." },
	{ NULL, NULL, 0, NULL },
};

PyTypeObject view_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "consulcfg._consulcfg.View",
	.tp_doc = "One generation of a service.",
	.tp_basicsize = sizeof(struct reader),
	.tp_base = &reader_type,
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.tp_new = new,
	.tp_methods = methods,
};
