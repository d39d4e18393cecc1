#include "client/python/settings.h"

#include "client/python/errors.h"

struct field {
	PyObject ob_base;
	Py_ssize_t index; /* of its cell */
	PyObject *name; /* of the attribute */
	PyObject *keys; /* tuple of str: tried one after the other */
};

struct cell {
	uint64_t generation; /* for which the value is known to be right; 0: none */
	PyObject *value; /* NULL: never converted */
	PyObject *raw; /* bytes it was made of, or None */
};

/*
 * Where an attribute's cell is: spares the lookup in the class and the call of the descriptor. Good
 * while the class has the version that it was written for.
 */
struct hint {
	PyObject *name; /* the field's own, which is interned; NULL: none */
	struct cell *cell;
	unsigned version;
};

struct settings {
	PyObject ob_base;
	struct reader *reader; /* NULL: of a mapping */
	PyObject *mapping; /* dict of str to bytes, or NULL */
	PyObject *fields; /* tuple: the field of each cell */
	struct cell *cells;
	struct hint *hints; /* by the address of the name; one too many for a place does without */
	size_t mask; /* their number, a power of two, minus 1 */
};

/* --- reads ------------------------------------------------------------------------------- */

/* A list or dict is the caller's to change; all else cannot be changed, or is a class's own affair.
 */
static inline PyObject *give(PyObject *value)
{
	if (UNLIKELY(PyList_CheckExact(value)))
		return PyList_GetSlice(value, 0, PyList_GET_SIZE(value));
	if (UNLIKELY(PyDict_CheckExact(value)))
		return PyDict_Copy(value);
	return Py_NewRef(value);
}

static PyObject *raw_of_mapping(PyObject *mapping, PyObject *keys)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keys); i++) {
		PyObject *raw = PyDict_GetItemWithError(mapping, PyTuple_GET_ITEM(keys, i));

		if (raw || PyErr_Occurred())
			return raw ? Py_NewRef(raw) : NULL;
	}
	return Py_NewRef(Py_None);
}

static PyObject *raw_of_pinned(struct pinned *pinned, PyObject *keys)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keys); i++) {
		Py_ssize_t len;
		const char *value = pinned_find(pinned, PyTuple_GET_ITEM(keys, i), &len);

		if (value)
			return PyBytes_FromStringAndSize(value, len);
		if (PyErr_Occurred())
			return NULL;
	}
	return Py_NewRef(Py_None);
}

/*
 * The bytes of a field's key, or None; and the generation that they are of. The cell's own object
 * where that is of this generation.
 */
static PyObject *read_raw(
	struct settings *s, struct field *field, const struct cell *cell, uint64_t *ret_generation)
{
	struct pinned *pinned;

	if (s->mapping) {
		*ret_generation = 1;
		return raw_of_mapping(s->mapping, field->keys);
	}
	pinned = reader_newest(s->reader);
	if (!pinned)
		return NULL;
	*ret_generation = pinned->generation;
	if (pinned->generation != 0 && pinned->generation == cell->generation)
		return Py_NewRef(cell->raw);
	return raw_of_pinned(pinned, field->keys);
}

static int is_same(PyObject *a, PyObject *b)
{
	if (a == b)
		return 1;
	if (!PyBytes_CheckExact(a) || !PyBytes_CheckExact(b))
		return 0;
	return PyBytes_GET_SIZE(a) == PyBytes_GET_SIZE(b) &&
	       memcmp(PyBytes_AS_STRING(a), PyBytes_AS_STRING(b), (size_t)PyBytes_GET_SIZE(a)) == 0;
}

/* Closed, of a view or a mapping: the slow way knows. */
static inline bool is_fresh(const struct settings *s, const struct cell *cell)
{
	return LIKELY(s->reader && s->reader->cfg && cell->generation != 0) &&
	       LIKELY(ccfg_current(s->reader->cfg) == cell->generation);
}

/* A value is made anew only where its bytes have changed. */
static PyObject *read_slowly(struct settings *s, struct field *field, struct cell *cell)
{
	uint64_t generation, before = cell->generation;
	PyObject *raw, *value;

	raw = read_raw(s, field, cell, &generation);
	if (!raw)
		return NULL;
	if (cell->value && is_same(raw, cell->raw)) {
		Py_DECREF(raw);
		cell->generation = generation;
		return give(cell->value);
	}
	value = PyObject_CallMethod((PyObject *)s, "_convert", "OOO", field, raw,
		cell->value ? cell->value : Py_Ellipsis);
	/* A conversion may run anything, another thread's read of this attribute too. */
	if (value && cell->generation == before) {
		Py_XSETREF(cell->value, Py_NewRef(value));
		Py_XSETREF(cell->raw, Py_NewRef(raw));
		cell->generation = generation;
	}
	Py_DECREF(raw);
	if (value)
		Py_SETREF(value, give(value));
	return value;
}

static struct cell *cell_of(struct settings *s, struct field *field)
{
	if (LIKELY(s->fields && field->index < PyTuple_GET_SIZE(s->fields) &&
		    PyTuple_GET_ITEM(s->fields, field->index) == (PyObject *)field))
		return &s->cells[field->index];
	PyErr_Format(PyExc_TypeError,
		"%.100s: attribute %R belongs to another class, or __init__ "
		"has not been called",
		Py_TYPE(s)->tp_name, field->name);
	return NULL;
}

static PyObject *field_get(PyObject *self, PyObject *object, PyObject *type)
{
	struct field *field = (struct field *)self;
	struct settings *s = (struct settings *)object;
	struct cell *cell;

	(void)type;
	if (UNLIKELY(!object || !PyObject_TypeCheck(object, &settings_type)))
		return Py_NewRef(self);
	cell = cell_of(s, field);
	if (UNLIKELY(!cell))
		return NULL;
	return is_fresh(s, cell) ? give(cell->value) : read_slowly(s, field, cell);
}

static int field_set(PyObject *self, PyObject *object, PyObject *value)
{
	struct field *field = (struct field *)self;

	(void)value;
	PyErr_Format(PyExc_AttributeError, "%.100s.%U is read-only: it is what the key %R says",
		Py_TYPE(object)->tp_name, field->name, PyTuple_GET_ITEM(field->keys, 0));
	return -1;
}

/* --- fields ------------------------------------------------------------------------------ */

static int field_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const keywords[] = { "index", "name", "keys", NULL };
	struct field *field = (struct field *)self;
	PyObject *name, *keys;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nUO!", KEYWORDS(keywords), &field->index,
		    &name, &PyTuple_Type, &keys))
		return -1;
	if (field->index < 0 || PyTuple_GET_SIZE(keys) == 0) {
		PyErr_SetString(PyExc_ValueError, "a field has an index and a key");
		return -1;
	}
	Py_XSETREF(field->name, Py_NewRef(name));
	PyUnicode_InternInPlace(&field->name);
	Py_XSETREF(field->keys, Py_NewRef(keys));
	return 0;
}

static int field_traverse(PyObject *self, visitproc visit, void *arg)
{
	(void)self, (void)visit, (void)arg; /* strings cannot be part of a cycle */
	return 0;
}

static void field_deallocate(PyObject *self)
{
	struct field *field = (struct field *)self;

	PyObject_GC_UnTrack(self);
	Py_CLEAR(field->name);
	Py_CLEAR(field->keys);
	Py_TYPE(self)->tp_free(self);
}

/* Without __init__() a field has neither name nor keys. */
static PyObject *field_get_name(PyObject *self, void *closure)
{
	PyObject *name = ((struct field *)self)->name;

	(void)closure;
	return Py_NewRef(name ? name : Py_None);
}

static PyObject *field_get_keys(PyObject *self, void *closure)
{
	PyObject *keys = ((struct field *)self)->keys;

	(void)closure;
	return Py_NewRef(keys ? keys : Py_None);
}

static PyGetSetDef field_attributes[] = {
	{ "name", field_get_name, NULL, "The attribute's name.", NULL },
	{ "keys", field_get_keys, NULL, "The keys that it is read from, tried in order.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

PyTypeObject field_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "consulcfg._consulcfg.Field",
	.tp_doc = "An attribute of a Settings class.",
	.tp_basicsize = sizeof(struct field),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.tp_new = PyType_GenericNew,
	.tp_init = field_init,
	.tp_dealloc = field_deallocate,
	.tp_traverse = field_traverse,
	.tp_descr_get = field_get,
	.tp_descr_set = field_set,
	.tp_getset = field_attributes,
};

/* --- settings ---------------------------------------------------------------------------- */

static int settings_clear(PyObject *self)
{
	struct settings *s = (struct settings *)self;
	Py_ssize_t n = s->fields ? PyTuple_GET_SIZE(s->fields) : 0;
	struct cell *cells = s->cells;

	PyMem_Free(s->hints);
	s->hints = NULL;
	s->cells = NULL;
	Py_CLEAR(s->fields);
	for (Py_ssize_t i = 0; cells && i < n; i++) {
		Py_CLEAR(cells[i].value);
		Py_CLEAR(cells[i].raw);
	}
	PyMem_Free(cells);
	Py_CLEAR(s->reader);
	Py_CLEAR(s->mapping);
	return 0;
}

/* 0: it has none now. */
static inline unsigned version_of(PyTypeObject *type)
{
	return PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG) ? type->tp_version_tag : 0;
}

static inline struct hint *hint_of(const struct settings *s, PyObject *name)
{
	return &s->hints[((uintptr_t)name >> 4) & s->mask];
}

/* Whether the class gives this field for the name: tests patch classes. */
static bool is_of_class(PyTypeObject *type, PyObject *name, PyObject *field)
{
	PyObject *found = PyObject_GetAttr((PyObject *)type, name);

	if (!found)
		PyErr_Clear();
	Py_XDECREF(found);
	return found == field;
}

/* After a read that went well. */
static void write_hint(struct settings *s, PyObject *name)
{
	unsigned version = version_of(Py_TYPE(s));
	struct hint *hint = hint_of(s, name);

	if (version == 0 || (hint->name && hint->version == version))
		return;
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(s->fields); i++) {
		PyObject *field = PyTuple_GET_ITEM(s->fields, i);

		if (((struct field *)field)->name != name || !is_of_class(Py_TYPE(s), name, field))
			continue;
		*hint = (struct hint){ name, &s->cells[i], version };
		return;
	}
}

static PyObject *settings_get_attribute(PyObject *self, PyObject *name)
{
	struct settings *s = (struct settings *)self;
	PyObject *value;

	if (LIKELY(s->hints != NULL)) {
		const struct hint *hint = hint_of(s, name);

		if (LIKELY(hint->name == name && hint->version == version_of(Py_TYPE(self))) &&
			is_fresh(s, hint->cell))
			return give(hint->cell->value);
	}
	value = PyObject_GenericGetAttr(self, name);
	if (value && s->hints)
		write_hint(s, name);
	return value;
}

static int make_cells(struct settings *s, size_t n)
{
	size_t n_hints = 8;

	while (n_hints < 8 * n)
		n_hints *= 2;
	s->cells = PyMem_Calloc(n + 1, sizeof(*s->cells));
	s->hints = PyMem_Calloc(n_hints, sizeof(*s->hints));
	s->mask = n_hints - 1;
	if (s->cells && s->hints)
		return 0;
	PyMem_Free(s->cells);
	PyMem_Free(s->hints);
	s->cells = NULL;
	s->hints = NULL;
	PyErr_NoMemory();
	return -1;
}

/* _attach(source, fields): a Reader, or a dict of str to bytes. Once. */
static PyObject *settings_attach(PyObject *self, PyObject *args)
{
	struct settings *s = (struct settings *)self;
	PyObject *source, *fields;

	if (!PyArg_ParseTuple(args, "OO!:_attach", &source, &PyTuple_Type, &fields))
		return NULL;
	if (s->fields) {
		PyErr_SetString(PyExc_TypeError, "settings are opened once");
		return NULL;
	}
	if (!PyDict_CheckExact(source) && !PyObject_TypeCheck(source, &reader_type))
		return PyErr_Format(PyExc_TypeError,
			"settings are read from a Config, a View or a mapping, not %.100s",
			Py_TYPE(source)->tp_name);
	if (make_cells(s, (size_t)PyTuple_GET_SIZE(fields)) < 0)
		return NULL;
	s->fields = Py_NewRef(fields);
	if (PyDict_CheckExact(source))
		s->mapping = Py_NewRef(source);
	else
		s->reader = (struct reader *)Py_NewRef(source);
	Py_RETURN_NONE;
}

static int settings_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct settings *s = (struct settings *)self;

	Py_VISIT((PyObject *)s->reader);
	Py_VISIT(s->fields);
	for (Py_ssize_t i = 0; s->cells && i < PyTuple_GET_SIZE(s->fields); i++)
		Py_VISIT(s->cells[i].value);
	return 0;
}

static void settings_deallocate(PyObject *self)
{
	PyObject_GC_UnTrack(self);
	(void)settings_clear(self);
	Py_TYPE(self)->tp_free(self);
}

static PyMethodDef settings_methods[] = {
	{ "_attach", settings_attach, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyObject *settings_get_source(PyObject *self, void *closure)
{
	struct settings *s = (struct settings *)self;

	(void)closure;
	return Py_NewRef(s->reader ? (PyObject *)s->reader : Py_None);
}

static PyGetSetDef settings_attributes[] = {
	{ "_source", settings_get_source, NULL, NULL, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

PyTypeObject settings_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "consulcfg._consulcfg.Settings",
	.tp_doc = "Objects with live typed attributes.",
	.tp_basicsize = sizeof(struct settings),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.tp_new = PyType_GenericNew,
	.tp_dealloc = settings_deallocate,
	.tp_traverse = settings_traverse,
	.tp_clear = settings_clear,
	.tp_getattro = settings_get_attribute,
	.tp_methods = settings_methods,
	.tp_getset = settings_attributes,
};
