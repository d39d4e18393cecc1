#include "client/python/config.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "client/python/dispatch.h"
#include "client/python/errors.h"
#include "client/python/explain.h"
#include "client/python/watch.h"

#define SLICE_MS 1000 /* a wait looks this often whether it was closed or a signal came */

/* --- threads ----------------------------------------------------------------------------- */

/* In the child of a fork there is one thread, and that is here. */
static void notice_fork(struct config *c)
{
	pid_t pid = getpid();

	if (c->pid == pid)
		return;
	c->pid = pid;
	c->n_inside = 0;
	c->is_telling = false;
}

void config_enter(struct config *c)
{
	notice_fork(c);
	c->n_inside++;
}

static void close_handle(struct config *c)
{
	ccfg *handle = c->handle;

	c->handle = NULL;
	Py_BEGIN_ALLOW_THREADS
	ccfg_close(handle);
	Py_END_ALLOW_THREADS
}

static void finish(struct config *c)
{
	PyObject *parting = c->parting;

	if (parting && PyList_GET_SIZE(parting) > 0) {
		c->parting = NULL;
		Py_DECREF(parting);
	}
	if (!c->reader.cfg && c->handle)
		close_handle(c);
}

void config_leave(struct config *c)
{
	if (--c->n_inside == 0)
		finish(c);
}

void config_let_go(struct config *c, PyObject *watch)
{
	PyObject *kept = Py_NewRef(watch);
	Py_ssize_t i;

	notice_fork(c);
	if (c->n_inside > 0) {
		if (!c->parting)
			c->parting = PyList_New(0);
		if (!c->parting || PyList_Append(c->parting, watch) < 0) {
			PyErr_Clear();
			Py_INCREF(watch); /* for ever: better than freed too early */
		}
	}
	for (i = 0; i < PyList_GET_SIZE(c->watches); i++)
		if (PyList_GET_ITEM(c->watches, i) == watch)
			break;
	if (i < PyList_GET_SIZE(c->watches) && PyList_SetSlice(c->watches, i, i + 1, NULL) < 0)
		PyErr_Clear();
	Py_DECREF(kept);
}

static void close_config(struct config *c)
{
	if (!c->reader.cfg)
		return;
	notice_fork(c);
	while (PyList_GET_SIZE(c->watches) > 0) {
		PyObject *watch = PyList_GET_ITEM(c->watches, PyList_GET_SIZE(c->watches) - 1);

		watch_forget((struct watch *)watch);
		config_let_go(c, watch);
	}
	c->reader.cfg = NULL;
	reader_close(&c->reader);
	if (!c->is_telling)
		dispatch_forget(c);
	if (c->n_inside == 0)
		finish(c);
}

/* --- reads ------------------------------------------------------------------------------- */

int config_refresh(struct reader *r)
{
	struct config *c = (struct config *)r;
	struct pinned *before = r->pinned, *pinned;
	const ccfg_view *view;
	ccfg *cfg = r->cfg;

	config_enter(c);
	Py_BEGIN_ALLOW_THREADS
	view = ccfg_pin(cfg);
	Py_END_ALLOW_THREADS
	config_leave(c);
	if (!r->cfg) {
		ccfg_unpin(view);
		errors_closed(r->service);
		return -1;
	}
	/* Another thread's is as new. */
	if (r->pinned != before || ccfg_view_generation(view) == before->generation) {
		ccfg_unpin(view);
		return 0;
	}
	pinned = pinned_new(view);
	if (!pinned)
		return -1;
	pinned_unref(before);
	r->pinned = pinned;
	return 0;
}

/* --- opening ----------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What is left of a time, a slice at most; 0: nothing. timeout_ms -1: for ever. */
static int next_slice(int64_t began, long timeout_ms)
{
	int64_t left = SLICE_MS;

	if (timeout_ms >= 0)
		left = began + timeout_ms - now_ms();
	return left <= 0 ? 0 : left < SLICE_MS ? (int)left : SLICE_MS;
}

static bool may_come(int error)
{
	return error == -ETIMEDOUT || error == -ENOENT || error == -ECONNREFUSED ||
	       error == -ECONNRESET || error == -ENOTCONN;
}

/* One try: what is there must have data. */
static int open_at_once(const char *service, struct ccfg_options *options, ccfg **ret_cfg)
{
	struct ccfg_info info = { .size = sizeof(info) };
	ccfg *cfg;
	int r;

	options->flags |= CCFG_NOWAIT;
	r = ccfg_open(service, options, &cfg);
	if (r < 0)
		return r;
	(void)ccfg_info(cfg, &info);
	if (info.generation == 0) {
		ccfg_close(cfg);
		return info.error < 0 ? info.error : -ETIMEDOUT;
	}
	*ret_cfg = cfg;
	return 0;
}

/* In slices, between which signals have their turn. 0, -errno, or 1 with an exception. */
static int open_handle(
	const char *service, struct ccfg_options *options, long timeout_ms, ccfg **ret_cfg)
{
	int64_t began = now_ms();
	int r;

	for (;;) {
		/* To the library 0 is its default. */
		options->timeout_ms = next_slice(began, timeout_ms);
		if (options->timeout_ms == 0)
			options->timeout_ms = 1;
		Py_BEGIN_ALLOW_THREADS
		if (timeout_ms == 0 && !(options->flags & CCFG_NOWAIT))
			r = open_at_once(service, options, ret_cfg);
		else
			r = ccfg_open(service, options, ret_cfg);
		Py_END_ALLOW_THREADS
		if (!may_come(r) || options->flags & CCFG_NOWAIT)
			return r;
		if (PyErr_CheckSignals() < 0)
			return 1;
		if (next_slice(began, timeout_ms) == 0)
			return r;
	}
}

/* Takes cfg over, also in failure. */
static PyObject *wrap(PyTypeObject *type, ccfg *cfg, PyObject *service)
{
	struct config *c = (struct config *)type->tp_alloc(type, 0);

	if (!c) {
		ccfg_close(cfg);
		return NULL;
	}
	c->reader.cfg = c->handle = cfg;
	c->reader.service = Py_NewRef(service);
	c->pid = getpid();
	c->watches = PyList_New(0);
	if (c->watches) {
		const ccfg_view *view;

		Py_BEGIN_ALLOW_THREADS
		view = ccfg_pin(cfg);
		Py_END_ALLOW_THREADS
		c->reader.pinned = pinned_new(view);
	}
	if (!c->reader.pinned)
		Py_CLEAR(c);
	return (PyObject *)c;
}

static PyObject *new (PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static const char *const keywords[] = { "service", "timeout_ms", "flags", "socket", "image",
		NULL };
	struct ccfg_options options = { .size = sizeof(options) };
	const char *name, *image = NULL;
	PyObject *service;
	long timeout_ms = 5000;
	Py_ssize_t len;
	ccfg *cfg;
	int r;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|lIyy:Config", KEYWORDS(keywords),
		    &service, &timeout_ms, &options.flags, &options.socket_path, &image))
		return NULL;
	name = PyUnicode_AsUTF8AndSize(service, &len);
	if (!name)
		return NULL;
	if (image) {
		Py_BEGIN_ALLOW_THREADS
		r = ccfg_open_image(image, &cfg);
		Py_END_ALLOW_THREADS
		return r < 0 ? errors_other(service, "the image cannot be read", r)
			     : wrap(type, cfg, service);
	}
	r = strlen(name) == (size_t)len ? open_handle(name, &options, timeout_ms, &cfg) : -EINVAL;
	if (r < 0)
		return errors_open(service, options.socket_path, r);
	return r > 0 ? NULL : wrap(type, cfg, service);
}

/* --- methods ----------------------------------------------------------------------------- */

static PyObject *method_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	close_config((struct config *)self);
	Py_RETURN_NONE;
}

static PyObject *method_on_change(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const keywords[] = { "prefix", "callback", NULL };
	PyObject *prefix, *callback;

	if (!PyArg_ParseTupleAndKeywords(
		    args, kwargs, "UO:on_change", KEYWORDS(keywords), &prefix, &callback))
		return NULL;
	if (!PyCallable_Check(callback))
		return PyErr_Format(PyExc_TypeError,
			"a callback is called with a Change: %.100s "
			"cannot be called",
			Py_TYPE(callback)->tp_name);
	return watch_open((struct config *)self, prefix, callback);
}

static PyObject *method_dispatch(PyObject *self, PyObject *unused)
{
	(void)unused;
	return dispatch_run((struct config *)self);
}

static PyObject *method_fileno(PyObject *self, PyObject *unused)
{
	struct reader *r = (struct reader *)self;
	int fd;

	(void)unused;
	if (!r->cfg)
		return errors_closed(r->service);
	fd = ccfg_fd(r->cfg);
	return fd < 0 ? errors_other(r->service, "no descriptor", fd) : PyLong_FromLong(fd);
}

/* _wait(after, timeout_ms): whether there is another generation. */
static PyObject *method_wait(PyObject *self, PyObject *args)
{
	struct config *c = (struct config *)self;
	int64_t began = now_ms();
	unsigned long long after;
	long timeout_ms;
	int r;

	if (!PyArg_ParseTuple(args, "Kl:_wait", &after, &timeout_ms))
		return NULL;
	for (;;) {
		int slice = next_slice(began, timeout_ms);
		ccfg *cfg = c->reader.cfg;

		if (!cfg)
			return errors_closed(c->reader.service);
		config_enter(c);
		Py_BEGIN_ALLOW_THREADS
		r = ccfg_wait(cfg, after, slice);
		Py_END_ALLOW_THREADS
		config_leave(c);
		if (PyErr_CheckSignals() < 0)
			return NULL;
		if (r == 0 && c->reader.cfg)
			Py_RETURN_TRUE;
		if (c->reader.cfg && next_slice(began, timeout_ms) == 0)
			Py_RETURN_FALSE;
	}
}

/* _info(): a tuple, for the package's Info. */
static PyObject *method_info(PyObject *self, PyObject *unused)
{
	struct ccfg_info info = { .size = sizeof(info) };
	struct config *c = (struct config *)self;
	ccfg *cfg = c->reader.cfg;
	int r;

	(void)unused;
	if (!cfg)
		return errors_closed(c->reader.service);
	config_enter(c);
	Py_BEGIN_ALLOW_THREADS
	r = ccfg_info(cfg, &info);
	Py_END_ALLOW_THREADS
	config_leave(c);
	if (r < 0)
		return errors_other(c->reader.service, "its state cannot be told", r);
	return Py_BuildValue("iiKKKKKKK", (int)info.state, -info.error,
		(unsigned long long)info.generation, (unsigned long long)info.digest,
		(unsigned long long)info.n_entries, (unsigned long long)info.n_bytes,
		(unsigned long long)info.age_us, (unsigned long long)info.index,
		(unsigned long long)info.n_unparsable);
}

/* _explain(key): a list of tuples, for the package's Layer. */
static PyObject *method_explain(PyObject *self, PyObject *key)
{
	if (!PyUnicode_Check(key))
		return PyErr_Format(
			PyExc_TypeError, "a key is str, not %.100s", Py_TYPE(key)->tp_name);
	return explain_key((struct config *)self, key);
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
	Py_VISIT(((struct config *)self)->watches);
	Py_VISIT(((struct config *)self)->parting);
	return 0;
}

static int clear(PyObject *self)
{
	if (((struct config *)self)->watches)
		close_config((struct config *)self);
	return 0;
}

static void deallocate(PyObject *self)
{
	struct config *c = (struct config *)self;

	PyObject_GC_UnTrack(self);
	if (c->weak_references)
		PyObject_ClearWeakRefs(self);
	(void)clear(self);
	Py_CLEAR(c->watches);
	Py_CLEAR(c->parting);
	if (c->handle)
		close_handle(c);
	reader_close(&c->reader);
	Py_CLEAR(c->reader.service);
	Py_TYPE(self)->tp_free(self);
}

static PyMethodDef methods[] = {
	{ "close", method_close, METH_NOARGS,
		"close()\n--\n\n"
		"Ends it: reads and waits, also those of other threads, raise Closed. Views stay." },
	{ "on_change", (PyCFunction)(void (*)(void))method_on_change, METH_VARARGS | METH_KEYWORDS,
		"on_change(prefix, callback)\n--\n\n"
		"Calls callback(change) for each key that begins with prefix (\"\": all) and whose value\n"
		"has changed between two dispatches. Nothing is called but by dispatch(): see\n"
		"dispatch_in(). Gives a Watch; it stays on without being kept." },
	{ "dispatch", method_dispatch, METH_NOARGS,
		"dispatch()\n--\n\n"
		"Takes what has arrived and runs the callbacks, in this thread. Never waits. How many\n"
		"ran. An exception in one goes to sys.unraisablehook; the others still run." },
	{ "fileno", method_fileno, METH_NOARGS,
		"fileno()\n--\n\n"
		"A descriptor for any event loop: when it is readable (level-triggered), call dispatch().\n"
		"It stays the same over restarts of the daemon. A child of a fork asks for its own." },
	{ "_wait", method_wait, METH_VARARGS, NULL },
	{ "_info", method_info, METH_NOARGS, NULL },
	{ "_explain", method_explain, METH_O, NULL },
	{ NULL, NULL, 0, NULL },
};

PyTypeObject config_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "consulcfg._consulcfg.Config",
	.tp_doc = "An open service.",
	.tp_basicsize = sizeof(struct config),
	.tp_base = &reader_type,
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.tp_new = new,
	.tp_dealloc = deallocate,
	.tp_traverse = traverse,
	.tp_clear = clear,
	.tp_weaklistoffset = offsetof(struct config, weak_references),
	.tp_methods = methods,
};
