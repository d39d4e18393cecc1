#include "daemon/order.h"

#include <stdio.h>

#include "daemon/backup-history.h"
#include "daemon/backup-pins.h"
#include "daemon/errand.h"
#include "daemon/recall.h"
#include "daemon/service-backup.h"
#include "daemon/service-pin.h"
#include "daemon/service-publish.h"
#include "proto/key.h"

struct order {
	struct errand errand;
	struct list link; /* service::orders, until it is in force */
	char name[LIMIT_SERVICE_NAME + 1];
	struct service *service; /* NULL: a FORGET, which needs none */
	enum wire_pin_what what;
	struct pin_note note;
	char *key, *value;
	size_t key_len, value_len;
	struct recall *recall; /* FREEZE: of the generation, under way; or NULL */
	/* In force; waiting for the disk: */
	struct backup_waiter written;
	struct service_waiter quiet;
	struct loop_timer *timer;
	bool has_pins; /* on the disk */
	bool has_tried; /* to write the contents */
	/* The outcome: */
	int error; /* it was refused */
	char trouble[160]; /* why it is not on the disk; "": it is */
};

static struct server *server_of(const struct order *order)
{
	return order->errand.reply.session->server;
}

/* --- the reply --------------------------------------------------------------------------- */

static void refuse(const struct reply *reply, const char *service, int error)
{
	switch (error) {
	case -ENOENT:
		reply_text(reply, WIRE_NO_KEY,
			"%s: nothing like that; consulcfg-history and consulcfg-status show what "
			"there is",
			service);
		break;
	case -EBUSY:
		reply_text(reply, WIRE_INTERNAL,
			"%s: that generation is what is served now: it stays", service);
		break;
	case -EXDEV:
		reply_text(reply, WIRE_NO_KEY,
			"%s: that generation is of another cluster or other prefixes", service);
		break;
	case -EINVAL:
		reply_text(reply, WIRE_BAD_NAME,
			"not a generation, \"previous\", \"before:TIME\" or \"digest:HEX\"");
		break;
	case -E2BIG:
		reply_text(reply, WIRE_LIMIT, "a reason has at most %d bytes", LIMIT_PIN_REASON);
		break;
	case -ENOBUFS:
		reply_text(reply, WIRE_LIMIT, "%s has %d overrides: they belong into the source",
			service, LIMIT_PINS);
		break;
	case -ENODATA:
		reply_text(reply, WIRE_NO_DATA, "%s has no data yet", service);
		break;
	default:
		reply_text(reply, WIRE_INTERNAL, "%s: %s", service, strerror(-error));
	}
}

static void answer(struct errand *errand)
{
	struct order *order = CONTAINER_OF(errand, struct order, errand);

	if (order->error < 0)
		refuse(&errand->reply, order->name, order->error);
	else if (order->trouble[0] == '\0')
		reply_bytes(&errand->reply, WIRE_OK, NULL, 0);
	else if (order->what == WIRE_PIN_FORGET)
		reply_text(&errand->reply, WIRE_INTERNAL, "%s: not everything is removed: %s",
			order->name, order->trouble);
	else
		reply_text(&errand->reply, WIRE_INTERNAL,
			"%s: it is in force, but only until the daemon ends: %s; the write is "
			"tried again",
			order->name, order->trouble);
}

static void finish(struct order *order)
{
	list_unlink(&order->written.link);
	list_unlink(&order->quiet.link);
	if (order->timer)
		loop_timer_disarm(order->timer);
	if (!order->errand.is_done)
		errand_done(&order->errand);
}

/* --- until it lasts ---------------------------------------------------------------------- */

static void look(struct order *order)
{
	struct service *service = order->service;
	const char *step;
	int error;

	if (!order->has_pins || service_publish_is_busy(service))
		return;
	error = backup_error(service->backup, &step);
	/* What failed before is tried once for this order. */
	if (error < 0 && order->has_tried) {
		snprintf(order->trouble, sizeof(order->trouble), "%s: %s", step, strerror(-error));
		finish(order);
		return;
	}
	if (backup_settle(service->backup))
		finish(order);
	else
		order->has_tried = true;
}

static void on_quiet(struct service *service, void *userdata)
{
	(void)service;
	look(userdata);
}

static void on_written(struct backup_waiter *waiter, int error, const char *step)
{
	struct order *order = CONTAINER_OF(waiter, struct order, written);

	if (error == -ENOENT && order->what == WIRE_PIN_FORGET)
		order->error = error;
	else if (error < 0)
		snprintf(order->trouble, sizeof(order->trouble), "%s: %s", step, strerror(-error));
	if (error < 0 || !order->service) {
		finish(order);
		return;
	}
	order->has_pins = true;
	look(order);
}

static void on_timer(void *userdata)
{
	struct order *order = userdata;

	snprintf(order->trouble, sizeof(order->trouble), "the disk does not answer");
	finish(order);
}

static void wait_for_disk(struct order *order)
{
	loop_timer_arm(order->timer, LIMIT_ORDER_USEC);
	if (order->service)
		list_append(&order->service->quiet, &order->quiet.link);
	if (order->service)
		backup_pins_wait(order->service->backups, order->name, &order->written);
}

/* --- until it is in force ---------------------------------------------------------------- */

static void run_next(struct service *service);

static void come_into_force(struct order *order, int r)
{
	list_unlink(&order->link);
	order->error = r;
	if (r < 0)
		finish(order);
	else
		wait_for_disk(order);
}

static void on_recalled(void *userdata, struct snapshot *snapshot, int error)
{
	struct order *order = userdata;
	struct service *service = order->service;

	order->recall = recall_free(order->recall);
	come_into_force(
		order, snapshot ? service_pin_freeze(service, snapshot, &order->note) : error);
	run_next(service);
}

/* 1: it goes on in on_recalled(). */
static int freeze(struct order *order)
{
	struct service *service = order->service;
	uint64_t generation;
	int r;

	if (!service->snapshot)
		return -ENODATA;
	r = service_backup_find(service, order->key, &generation);
	if (r == 0)
		r = recall_new(server_of(order)->loop, service->backups, service->name, generation,
			on_recalled, order, &order->recall);
	return r < 0 ? r : 1;
}

static int override(struct order *order)
{
	if (key_check(order->key, order->key_len) < 0)
		return -EINVAL;
	return service_pin_override(order->service, order->key, order->key_len, order->value,
		order->value_len, &order->note);
}

static int obey(struct order *order)
{
	switch (order->what) {
	case WIRE_PIN_FREEZE:
		return freeze(order);
	case WIRE_PIN_THAW:
		return service_pin_thaw(order->service, order->note.by);
	case WIRE_PIN_OVERRIDE:
		return override(order);
	case WIRE_PIN_CLEAR:
		return service_pin_clear(
			order->service, order->key, order->key_len, order->note.by);
	case WIRE_PIN_FORGET:
		break;
	}
	return -EOPNOTSUPP;
}

static void run_next(struct service *service)
{
	while (!list_is_empty(&service->orders)) {
		struct order *order = LIST_ENTRY(service->orders.next, struct order, link);
		int r = order->recall ? 1 : obey(order);

		if (r > 0)
			return;
		come_into_force(order, r);
	}
}

/* Also under a later number than it was recorded under. */
static bool is_served(const struct service *service, uint64_t generation)
{
	return service->generation == generation ||
	       (service->snapshot && backup_history_is_sole(service->backups, service->name,
					     generation, service->snapshot->image.digest));
}

static int forget(struct order *order)
{
	struct server *server = server_of(order);
	const struct service *running =
		services_find(server->services, order->name, strlen(order->name));
	uint64_t only = order->key_len > 0 ? strtoull(order->key, NULL, 10) : 0;

	if (order->key_len > 0 && only == 0)
		return -EINVAL;
	if (!server->backups)
		return -ENOENT;
	if (running && only != 0 && is_served(running, only))
		return -EBUSY;
	/* It is about to be served. */
	if (running && !running->snapshot && (running->restore || running->recall))
		return -ENODATA;
	wait_for_disk(order);
	backups_forget(server->backups, order->name, running ? running->snapshot : NULL, only,
		&order->written);
	return 0;
}

/* --- orders ------------------------------------------------------------------------------ */

static void free_order(struct errand *errand)
{
	struct order *order = CONTAINER_OF(errand, struct order, errand);
	bool was_under_way = order->recall;

	list_unlink(&order->link);
	list_unlink(&order->written.link);
	list_unlink(&order->quiet.link);
	recall_free(order->recall);
	loop_timer_free(order->timer);
	if (was_under_way)
		run_next(order->service);
	if (order->service)
		service_unwant(order->service);
	free(order->key);
	free(order->value);
	free(order);
}

static int make_note(
	const struct reply *reply, const struct wire_request *request, struct pin_note *ret_note)
{
	struct pin_note note = { .since = loop_realtime_usec() };

	if (request->reason_len > LIMIT_PIN_REASON)
		return -E2BIG;
	if (request->duration_usec != 0 &&
		__builtin_add_overflow(note.since, request->duration_usec, &note.until))
		return -ERANGE;
	snprintf(note.by, sizeof(note.by), "uid %u", (unsigned)reply->session->peer.uid);
	/* It is shown on terminals and in logs. */
	key_escape(request->reason, request->reason_len, note.reason, sizeof(note.reason));
	*ret_note = note;
	return 0;
}

/* The request is gone when the turn ends. */
static int keep(struct order *order, const struct wire_request *request)
{
	struct server *server = server_of(order);
	int r = make_note(&order->errand.reply, request, &order->note);

	if (r < 0)
		return r;
	order->key = pin_copy(request->key, request->key_len);
	order->value = pin_copy(request->value, request->value_len);
	if (!order->key || !order->value)
		return -ENOMEM;
	order->key_len = request->key_len;
	order->value_len = request->value_len;
	r = loop_timer_new(server->loop, on_timer, order, &order->timer);
	if (r == 0 && order->what != WIRE_PIN_FORGET)
		r = services_want(
			server->services, order->name, strlen(order->name), &order->service);
	return r;
}

void order_take(const struct reply *reply, const char *name, const struct wire_request *request)
{
	struct order *order = calloc(1, sizeof(*order));
	int r;

	if (!order) {
		refuse(reply, name, -ENOMEM);
		return;
	}
	strcpy(order->name, name);
	order->what = request->what;
	order->errand.answer = answer;
	order->errand.free = free_order;
	list_init(&order->link);
	list_init(&order->written.link);
	list_init(&order->quiet.link);
	order->written.fn = on_written;
	order->quiet.fn = on_quiet;
	order->quiet.userdata = order;
	errand_begin(&order->errand, reply);
	r = keep(order, request);
	if (r == 0 && order->service) {
		list_append(&order->service->orders, &order->link);
		run_next(order->service);
		return;
	}
	if (r == 0)
		r = forget(order);
	order->error = r;
	if (r < 0)
		finish(order);
}
