#include "client/python/dispatch.h"

#include "client/python/change.h"
#include "client/python/errors.h"
#include "client/python/watch.h"

/* Of the thread that is in ccfg_dispatch(). */
struct batch {
	struct change_record *first, **last;
	bool is_cut; /* no memory */
};
static _Thread_local struct batch *batch;

void dispatch_note(ccfg *cfg, const struct ccfg_change *change, void *userdata)
{
	struct change_record *record = change_record_new(change, userdata);

	(void)cfg;
	if (!record) {
		batch->is_cut = true;
		return;
	}
	*batch->last = record;
	batch->last = &record->next;
}

/* From the library into the config's queue; each record holds its watch from now on. */
static int collect(struct config *c)
{
	struct batch own = { .last = &own.first };
	struct change_record **end = &c->queue;
	ccfg *cfg = c->reader.cfg;
	int r;

	config_enter(c);
	Py_BEGIN_ALLOW_THREADS
	batch = &own;
	r = ccfg_dispatch(cfg);
	batch = NULL;
	Py_END_ALLOW_THREADS
	for (struct change_record *record = own.first; record; record = record->next)
		Py_INCREF((PyObject *)record->watch);
	while (*end)
		end = &(*end)->next;
	*end = own.first;
	config_leave(c);
	if (own.is_cut)
		PyErr_NoMemory();
	else if (r < 0)
		errors_other(c->reader.service, "changes cannot be taken", r);
	return own.is_cut || r < 0 ? -1 : 0;
}

struct failure {
	PyObject *type, *value, *trace;
};

/* One callback. What it raises is reported and no more; what is to end the program, kept. */
static void tell(struct config *c, struct change_record *record, struct failure *ret_failure)
{
	struct watch *watch = record->watch;
	PyObject *callback = Py_NewRef(watch->callback), *change, *result = NULL;

	change = change_new(record, c->reader.service);
	if (change)
		result = PyObject_CallOneArg(callback, change);
	if (!result && (PyErr_ExceptionMatches(PyExc_Exception) || ret_failure->type))
		PyErr_WriteUnraisable(callback);
	else if (!result)
		PyErr_Fetch(&ret_failure->type, &ret_failure->value, &ret_failure->trace);
	Py_XDECREF(result);
	Py_XDECREF(change);
	Py_DECREF(callback);
}

PyObject *dispatch_run(struct config *c)
{
	struct failure failure = { 0 };
	long n = 0;

	if (!c->reader.cfg)
		return errors_closed(c->reader.service);
	if (collect(c) < 0)
		return NULL;
	if (c->is_telling) /* another thread, or a callback calls us: that one goes on */
		return PyLong_FromLong(0);
	c->is_telling = true;
	while (c->queue) {
		struct change_record *record = c->queue;
		struct watch *watch = record->watch;

		c->queue = record->next;
		if (watch->config) {
			n++;
			tell(c, record, &failure);
		} else {
			change_record_free(record);
		}
		Py_DECREF(watch);
	}
	c->is_telling = false;
	if (failure.type) {
		PyErr_Restore(failure.type, failure.value, failure.trace);
		return NULL;
	}
	return PyLong_FromLong(n);
}

void dispatch_forget(struct config *c)
{
	while (c->queue) {
		struct change_record *record = c->queue;
		struct watch *watch = record->watch;

		c->queue = record->next;
		change_record_free(record);
		Py_DECREF(watch);
	}
}
