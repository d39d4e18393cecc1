#include "client/python/explain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/python/errors.h"

struct finding {
	struct finding *next;
	struct ccfg_layer layer; /* its pointers are into bytes */
	char bytes[]; /* prefix, NUL, value */
};

struct findings {
	struct finding *first;
	struct finding **end;
	bool has_memory;
};

static void on_layer(ccfg *cfg, const struct ccfg_layer *layer, void *userdata)
{
	size_t prefix_size = strlen(layer->prefix) + 1;
	struct findings *findings = userdata;
	struct finding *finding = malloc(sizeof(*finding) + prefix_size + layer->sent_len);

	(void)cfg;
	if (!finding) {
		findings->has_memory = false;
		return;
	}
	finding->next = NULL;
	finding->layer = *layer;
	finding->layer.prefix = memcpy(finding->bytes, layer->prefix, prefix_size);
	if (layer->value)
		finding->layer.value =
			memcpy(finding->bytes + prefix_size, layer->value, layer->sent_len);
	*findings->end = finding;
	findings->end = &finding->next;
}

static void free_all(struct findings *findings)
{
	while (findings->first) {
		struct finding *next = findings->first->next;

		free(findings->first);
		findings->first = next;
	}
}

static PyObject *tuple_of(const struct ccfg_layer *layer)
{
	PyObject *prefix =
		PyUnicode_DecodeUTF8(layer->prefix, (Py_ssize_t)strlen(layer->prefix), "replace");

	if (!prefix)
		return NULL;
	return Py_BuildValue("INy#niKKKNN", layer->number, prefix, layer->value,
		(Py_ssize_t)layer->sent_len, layer->value ? (Py_ssize_t)layer->value_len : 0,
		(int)layer->state, (unsigned long long)layer->index,
		(unsigned long long)layer->modify_index, (unsigned long long)layer->age_us,
		PyBool_FromLong(layer->wins), PyBool_FromLong(layer->is_locked));
}

static PyObject *list_of(const struct findings *findings)
{
	PyObject *list = PyList_New(0);

	for (const struct finding *finding = findings->first; list && finding;
		finding = finding->next) {
		PyObject *tuple = tuple_of(&finding->layer);

		if (!tuple || PyList_Append(list, tuple) < 0)
			Py_CLEAR(list);
		Py_XDECREF(tuple);
	}
	return list;
}

PyObject *explain_key(struct config *c, PyObject *key)
{
	struct findings findings = { .has_memory = true };
	PyObject *list = NULL;
	ccfg *cfg = c->reader.cfg;
	Py_ssize_t len;
	const char *text = PyUnicode_AsUTF8AndSize(key, &len);
	int r = -EINVAL;

	if (!text && !PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
		return NULL;
	PyErr_Clear();
	if (!cfg)
		return errors_closed(c->reader.service);
	findings.end = &findings.first;
	if (text && strlen(text) == (size_t)len) {
		config_enter(c);
		Py_BEGIN_ALLOW_THREADS
		r = ccfg_explain(cfg, text, on_layer, &findings);
		Py_END_ALLOW_THREADS
		config_leave(c);
	}
	if (r < 0)
		errors_explain(c->reader.service, key, r);
	else if (!findings.has_memory)
		PyErr_NoMemory();
	else
		list = list_of(&findings);
	free_all(&findings);
	return list;
}
