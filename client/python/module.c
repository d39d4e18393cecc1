/*
 * The module consulcfg._consulcfg: types, and the grammar for the package's converters.
 */
#include "client/python/module.h"

#include "client/python/attributes.h"
#include "client/python/change.h"
#include "client/python/config.h"
#include "client/python/errors.h"
#include "client/python/settings.h"
#include "client/python/values.h"
#include "client/python/view.h"
#include "client/python/watch.h"

/* parse(kind, bytes): ValueError says why not, without the value. */
static PyObject *parse(PyObject *self, PyObject *args)
{
	static const char kinds[] = "ifbd";
	const char *kind, *text;
	Py_ssize_t len, kind_len;
	PyObject *object;
	const char *at;
	int error;

	(void)self;
	if (!PyArg_ParseTuple(args, "s#y#:parse", &kind, &kind_len, &text, &len))
		return NULL;
	at = kind_len == 1 ? strchr(kinds, kind[0]) : NULL;
	if (!at)
		return PyErr_Format(PyExc_TypeError, "no kind of value: %s", kind);
	object = values_parse((enum value_kind)(at - kinds), text, len, &error);
	if (!object && error < 0)
		PyErr_Format(PyExc_ValueError, error == -ERANGE ? "too large for %s" : "not %s",
			value_names[at - kinds]);
	return object;
}

static const struct {
	const char *name;
	PyTypeObject *type;
} types[] = {
	{ "Reader", &reader_type },
	{ "Config", &config_type },
	{ "View", &view_type },
	{ "Attributes", &attributes_type },
	{ "Watch", &watch_type },
	{ "Change", &change_type },
	{ "Field", &field_type },
	{ "Settings", &settings_type },
};

static int execute(PyObject *module)
{
	if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
		PyErr_SetString(PyExc_ImportError,
			"consulcfg works in the main interpreter only, not in subinterpreters");
		return -1;
	}
	if (errors_set_up() < 0 || values_set_up() < 0)
		return -1;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (PyType_Ready(types[i].type) < 0)
			return -1;
		Py_INCREF((PyObject *)types[i].type);
		if (PyModule_AddObject(module, types[i].name, (PyObject *)types[i].type) < 0) {
			Py_DECREF((PyObject *)types[i].type);
			return -1;
		}
	}
	if (PyModule_AddIntMacro(module, CCFG_NOWAIT) < 0 ||
		PyModule_AddIntMacro(module, CCFG_REQUIRE_LIVE) < 0 ||
		PyModule_AddIntMacro(module, CCFG_NO_BACKUP) < 0 ||
		PyModule_AddIntMacro(module, CCFG_MANUAL) < 0)
		return -1;
	return 0;
}

static PyMethodDef functions[] = {
	{ "parse", parse, METH_VARARGS, "parse(kind, text): kind i, f, b or d" },
	{ NULL, NULL, 0, NULL },
};

static PyModuleDef_Slot slots[] = {
	{ Py_mod_exec, execute },
#ifdef Py_mod_multiple_interpreters
	{ Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED },
#endif
	{ 0, NULL },
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "consulcfg._consulcfg",
	.m_doc = "What consulcfg is made of.",
	.m_methods = functions,
	.m_slots = slots,
};

PyMODINIT_FUNC PyInit__consulcfg(void);

PyMODINIT_FUNC PyInit__consulcfg(void)
{
	return PyModuleDef_Init(&definition);
}
