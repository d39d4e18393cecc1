#include "client/python/change.h"

#include <stdlib.h>
#include <string.h>

#include "client/python/values.h"

struct change {
	PyObject ob_base;
	struct change_record *record;
	PyObject *service;
};

struct change_record *change_record_new(const struct ccfg_change *change, struct watch *watch)
{
	struct change_record *record =
		malloc(sizeof(*record) + change->key_len + change->old_len + change->new_len);
	char *at;

	if (!record)
		return NULL;
	*record = (struct change_record){
		.watch = watch,
		.generation = change->generation,
		.key_len = change->key_len,
		.old_len = change->old_len,
		.new_len = change->new_len,
		.has_old = change->old_value != NULL,
		.has_new = change->new_value != NULL,
	};
	at = record->bytes;
	memcpy(at, change->key, change->key_len);
	if (change->old_value)
		memcpy(at + change->key_len, change->old_value, change->old_len);
	if (change->new_value)
		memcpy(at + change->key_len + change->old_len, change->new_value, change->new_len);
	return record;
}

void change_record_free(struct change_record *record)
{
	free(record);
}

PyObject *change_new(struct change_record *record, PyObject *service)
{
	struct change *change = PyObject_New(struct change, &change_type);

	if (!change) {
		change_record_free(record);
		return NULL;
	}
	change->record = record;
	change->service = Py_NewRef(service);
	return (PyObject *)change;
}

static PyObject *key_of(const struct change_record *record)
{
	return PyUnicode_DecodeUTF8(record->bytes, (Py_ssize_t)record->key_len, "replace");
}

static PyObject *get_key(PyObject *self, void *closure)
{
	(void)closure;
	return key_of(((struct change *)self)->record);
}

static const char *old_of(const struct change_record *record)
{
	return record->bytes + record->key_len;
}

static const char *new_of(const struct change_record *record)
{
	return old_of(record) + record->old_len;
}

static PyObject *text_of(struct change *c, bool is_there, const char *value, size_t len)
{
	PyObject *text, *key;

	if (!is_there)
		Py_RETURN_NONE;
	key = key_of(c->record);
	text = key ? values_text(c->service, key, value, (Py_ssize_t)len) : NULL;
	Py_XDECREF(key);
	return text;
}

static PyObject *get_old(PyObject *self, void *closure)
{
	struct change *c = (struct change *)self;

	(void)closure;
	return text_of(c, c->record->has_old, old_of(c->record), c->record->old_len);
}

static PyObject *get_new(PyObject *self, void *closure)
{
	struct change *c = (struct change *)self;

	(void)closure;
	return text_of(c, c->record->has_new, new_of(c->record), c->record->new_len);
}

static PyObject *bytes_of(bool is_there, const char *value, size_t len)
{
	if (!is_there)
		Py_RETURN_NONE;
	return PyBytes_FromStringAndSize(value, (Py_ssize_t)len);
}

static PyObject *get_old_bytes(PyObject *self, void *closure)
{
	const struct change_record *record = ((struct change *)self)->record;

	(void)closure;
	return bytes_of(record->has_old, old_of(record), record->old_len);
}

static PyObject *get_new_bytes(PyObject *self, void *closure)
{
	const struct change_record *record = ((struct change *)self)->record;

	(void)closure;
	return bytes_of(record->has_new, new_of(record), record->new_len);
}

static PyObject *get_generation(PyObject *self, void *closure)
{
	(void)closure;
	return PyLong_FromUnsignedLongLong(((struct change *)self)->record->generation);
}

static bool has_same_ends(const struct change_record *a)
{
	return a->has_old == a->has_new && a->old_len == a->new_len &&
	       memcmp(old_of(a), new_of(a), a->new_len) == 0;
}

/* _since(earlier): both as one; None where the value is again what it was. */
static PyObject *method_since(PyObject *self, PyObject *earlier)
{
	const struct change_record *new = ((struct change *)self)->record, *old;
	struct change_record *record;

	if (!Py_IS_TYPE(earlier, &change_type))
		return PyErr_Format(PyExc_TypeError, "that is no Change");
	old = ((struct change *)earlier)->record;
	record = change_record_new(
		&(struct ccfg_change){
			.key = new->bytes,
			.key_len = new->key_len,
			.old_value = old->has_old ? old_of(old) : NULL,
			.old_len = old->old_len,
			.new_value = new->has_new ? new_of(new) : NULL,
			.new_len = new->new_len,
			.generation = new->generation,
		},
		NULL);
	if (!record)
		return PyErr_NoMemory();
	if (has_same_ends(record)) {
		change_record_free(record);
		Py_RETURN_NONE;
	}
	return change_new(record, ((struct change *)self)->service);
}

/* Never a value. */
static PyObject *represent(PyObject *self)
{
	const struct change_record *record = ((struct change *)self)->record;
	PyObject *key = key_of(record), *text;

	if (!key)
		return NULL;
	text = PyUnicode_FromFormat("<consulcfg.Change %R %s, generation %llu>", key,
		!record->has_old   ? "added"
		: !record->has_new ? "deleted"
				   : "replaced",
		(unsigned long long)record->generation);
	Py_DECREF(key);
	return text;
}

static void deallocate(PyObject *self)
{
	struct change *c = (struct change *)self;

	change_record_free(c->record);
	Py_XDECREF(c->service);
	PyObject_Free(self);
}

static PyGetSetDef attributes[] = {
	{ "key", get_key, NULL, "The key.", NULL },
	{ "old", get_old, NULL,
		"What it was, str; None: there was none. NotText where it is not UTF-8.", NULL },
	{ "new", get_new, NULL,
		"What it is, str; None: it was deleted. NotText where it is not UTF-8.", NULL },
	{ "old_bytes", get_old_bytes, NULL, "What it was, bytes or None.", NULL },
	{ "new_bytes", get_new_bytes, NULL, "What it is, bytes or None.", NULL },
	{ "generation", get_generation, NULL, "The generation with the new value.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyMethodDef methods[] = {
	{ "_since", method_since, METH_O, NULL },
	{ NULL, NULL, 0, NULL },
};

PyTypeObject change_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "consulcfg.Change",
	.tp_doc = "A key whose value has changed: key, old, new, old_bytes, new_bytes, generation.",
	.tp_basicsize = sizeof(struct change),
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_dealloc = deallocate,
	.tp_repr = represent,
	.tp_methods = methods,
	.tp_getset = attributes,
};
