#include "client/python/pinned.h"

#include <string.h>

struct pinned *pinned_new(const ccfg_view *view)
{
	struct pinned *pinned = PyMem_Malloc(sizeof(*pinned));

	if (!pinned) {
		ccfg_unpin(view);
		PyErr_NoMemory();
		return NULL;
	}
	*pinned = (struct pinned){
		.view = view,
		.generation = ccfg_view_generation(view),
		.n_refs = 1,
		.n_entries = -1,
	};
	return pinned;
}

struct pinned *pinned_ref(struct pinned *pinned)
{
	pinned->n_refs++;
	return pinned;
}

struct pinned *pinned_unref(struct pinned *pinned)
{
	if (pinned && --pinned->n_refs == 0) {
		ccfg_unpin(pinned->view);
		PyMem_Free(pinned);
	}
	return NULL;
}

const char *pinned_find(struct pinned *pinned, PyObject *key, Py_ssize_t *ret_len)
{
	const char *text, *value;
	Py_ssize_t len;
	size_t value_len;

	if (UNLIKELY(!PyUnicode_Check(key))) {
		PyErr_Format(PyExc_TypeError, "a key is str, not %.100s", Py_TYPE(key)->tp_name);
		return NULL;
	}
	text = PyUnicode_AsUTF8AndSize(key, &len);
	if (UNLIKELY(!text)) {
		/* Lone surrogates: keys are UTF-8, so there is none like this. */
		if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
			PyErr_Clear();
		return NULL;
	}
	value = ccfg_view_get(pinned->view, text, (size_t)len, &value_len);
	if (value)
		*ret_len = (Py_ssize_t)value_len;
	return value;
}

Py_ssize_t pinned_count(struct pinned *pinned)
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	size_t cursor = 0;
	Py_ssize_t n = 0;

	if (pinned->n_entries < 0) {
		while (ccfg_view_next(pinned->view, "", &cursor, &entry))
			n++;
		pinned->n_entries = n;
	}
	return pinned->n_entries;
}

const char *pinned_prefix(PyObject *prefix)
{
	const char *text;
	Py_ssize_t len;

	if (!PyUnicode_Check(prefix)) {
		PyErr_Format(
			PyExc_TypeError, "a prefix is str, not %.100s", Py_TYPE(prefix)->tp_name);
		return NULL;
	}
	text = PyUnicode_AsUTF8AndSize(prefix, &len);
	if (!text && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
		PyErr_Clear(); /* lone surrogates */
	return text && strlen(text) == (size_t)len ? text : NULL;
}

int pinned_has(struct pinned *pinned, PyObject *prefix)
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	const char *text = pinned_prefix(prefix);
	size_t cursor = 0;

	if (!text)
		return PyErr_Occurred() ? -1 : 0;
	return ccfg_view_next(pinned->view, text, &cursor, &entry);
}

PyObject *pinned_keys(struct pinned *pinned, const char *prefix)
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	PyObject *keys = PyList_New(0);
	size_t cursor = 0;

	if (!keys)
		return NULL;
	while (ccfg_view_next(pinned->view, prefix, &cursor, &entry)) {
		PyObject *key = PyUnicode_DecodeUTF8(entry.key, (Py_ssize_t)entry.key_len, NULL);

		if (!key || PyList_Append(keys, key) < 0) {
			Py_XDECREF(key);
			Py_DECREF(keys);
			return NULL;
		}
		Py_DECREF(key);
	}
	return keys;
}
