#include "daemon/service-pin.h"

#include <stdio.h>
#include <time.h>

#include "daemon/backup-pins.h"
#include "daemon/log.h"
#include "daemon/recall.h"
#include "daemon/service-backup.h"
#include "daemon/service-publish.h"
#include "daemon/services.h"

#define NOTE_TEXT (LIMIT_PIN_BY + 32 + LIMIT_PIN_REASON)

/* "uid 0 until 2026-01-31 12:00:00: why", as consulcfg-status has it. */
static const char *text_of(const struct pin_note *note, char buf[NOTE_TEXT])
{
	time_t end = (time_t)(note->until / USEC_PER_SEC);
	char until[32] = "";
	struct tm tm;

	if (note->until != 0 && localtime_r(&end, &tm))
		strftime(until, sizeof(until), " until %Y-%m-%d %H:%M:%S", &tm);
	snprintf(buf, NOTE_TEXT, "%s%s%s%s", note->by, until, note->reason[0] != '\0' ? ": " : "",
		note->reason);
	return buf;
}

/* --- on the disk ------------------------------------------------------------------------- */

static void save(struct service *service)
{
	void *data;
	size_t size;
	int r;

	if (!service->backups)
		return;
	if (pins_are_empty(service->pins)) {
		(void)backup_pins_put(service->backups, service->name, NULL, 0);
		return;
	}
	r = pins_encode(service->pins, &data, &size);
	if (r == 0)
		(void)backup_pins_put(service->backups, service->name, data, size);
	else
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_PIN_LOST, .service = service->name),
			"%s: what operators said of it cannot be kept: %s", service->name,
			strerror(-r));
}

/* --- ends -------------------------------------------------------------------------------- */

static void arm(struct service *service)
{
	uint64_t end = pins_next_end(service->pins), now = loop_realtime_usec();

	if (end == 0)
		loop_timer_disarm(service->pin_timer);
	else
		loop_timer_arm(
			service->pin_timer, end > now ? MIN(end - now, LIMIT_PIN_LOOK_USEC) : 0);
}

/* After a change of what operators want. */
static void take_effect(struct service *service, bool is_thawed)
{
	service->pins->version++;
	save(service);
	arm(service);
	service_publish_again(service, is_thawed);
}

static void on_timer(void *userdata)
{
	struct service *service = userdata;
	bool was_frozen = service->pins->is_frozen;

	if (!pins_expire(service->pins, loop_realtime_usec())) {
		arm(service);
		return;
	}
	if (was_frozen && !service->pins->is_frozen)
		log_event(LOG_LEVEL_WARNING, ABOUT(LOG_PIN_EXPIRED, .service = service->name),
			"%s: its freeze is over", service->name);
	else
		log_event(LOG_LEVEL_WARNING, ABOUT(LOG_PIN_EXPIRED, .service = service->name),
			"%s: overrides are over, %u are left", service->name,
			service->pins->n_overrides);
	take_effect(service, was_frozen && !service->pins->is_frozen);
}

bool service_pin_said(const struct service *service, uint64_t *ret_digest)
{
	const struct pins *pins = service->is_pinned ? service->pins : NULL;

	if (!service->snapshot || (pins && !pins->has_said))
		return false;
	*ret_digest = pins ? pins->said_digest : service->snapshot->image.digest;
	return true;
}

void service_pin_note(struct service *service, const struct snapshot *snapshot)
{
	service->pins->has_said = true;
	service->pins->said_digest = snapshot->image.digest;
}

/* Before operators say the first thing. */
static void note_served(struct service *service)
{
	if (service->snapshot && !service->is_pinned)
		service_pin_note(service, service->snapshot);
}

static int start(struct service *service)
{
	struct pins *pins;
	int r;

	if (service->pins) {
		note_served(service);
		return 0;
	}
	pins = malloc(sizeof(*pins));
	if (!pins)
		return -ENOMEM;
	r = loop_timer_new(service->services->loop, on_timer, service, &service->pin_timer);
	if (r < 0) {
		free(pins);
		return r;
	}
	pins_init(pins);
	service->pins = pins;
	note_served(service);
	return 0;
}

void service_pin_load(struct service *service)
{
	struct snapshot *snapshot = backup_pins_load(service->backups, service->name);
	char note[NOTE_TEXT];
	int r;

	if (!snapshot)
		return;
	r = start(service);
	if (r == 0)
		r = pins_decode(&snapshot->image, service->pins);
	snapshot_unref(snapshot);
	if (r < 0) {
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_PIN_LOST, .service = service->name),
			"%s: what operators said of it does not read: %s; it is not in force",
			service->name, strerror(-r));
		return;
	}
	if (pins_expire(service->pins, loop_realtime_usec()))
		save(service);
	if (service->pins->is_frozen)
		log_event(LOG_LEVEL_WARNING,
			ABOUT(LOG_SERVICE_FROZEN, .service = service->name,
				.state = wire_state_name(WIRE_FROZEN),
				.by = service->pins->frozen.by),
			"%s: frozen by %s", service->name, text_of(&service->pins->frozen, note));
	if (service->pins->n_overrides > 0)
		log_event(LOG_LEVEL_WARNING, ABOUT(LOG_SERVICE_OVERRIDE, .service = service->name),
			"%s: %u key%s of operators", service->name, service->pins->n_overrides,
			service->pins->n_overrides == 1 ? " has a value" : "s have values");
	arm(service);
}

static void end_freeze(struct service *service, int error)
{
	log_error("%s: what it is frozen at is gone (%s): it is frozen no more", service->name,
		error == -EXDEV ? "it is of another cluster or other prefixes" : strerror(-error));
	service->pins->is_frozen = false;
	service->pins->version++;
	save(service);
	arm(service);
}

/* Memory, descriptors or the disk may be there again soon. */
static bool may_pass(int error)
{
	return error != -ENOENT && error != -EXDEV && error != -EBADMSG && error != -EPERM &&
	       error != -EINVAL;
}

static void say_unreadable(const struct service *service, int error)
{
	log_error("%s: what it is frozen at cannot be read: %s; it is tried again", service->name,
		strerror(-error));
}

/* The generation that it is frozen at. */
static int find_frozen(const struct service *service, uint64_t *ret_generation)
{
	char target[32];

	snprintf(target, sizeof(target), "digest:%016llx",
		(unsigned long long)service->pins->frozen_digest);
	return service_backup_find(service, target, ret_generation);
}

static void on_frozen(void *userdata, struct snapshot *snapshot, int error)
{
	struct service *service = userdata;
	uint64_t confirmed_at = recall_confirmed_at(service->recall);

	service->recall = recall_free(service->recall);
	if (snapshot && service_publish_is_possible(service)) {
		service_publish_instead(service, snapshot);
	} else if (snapshot) {
		service_publish_restored(service, snapshot, confirmed_at);
	} else if (may_pass(error)) {
		say_unreadable(service, error);
		service_publish_later(service);
	} else {
		end_freeze(service, error);
		service_publish_again(service, true);
	}
	service_publish_quiet(service);
}

bool service_pin_is_other(struct service *service, const struct snapshot *snapshot)
{
	uint64_t generation;
	int r;

	if (!service_pin_is_frozen(service) ||
		service->pins->frozen_digest == snapshot->image.digest)
		return false;
	r = find_frozen(service, &generation);
	if (r < 0 && !may_pass(r))
		end_freeze(service, r);
	return service_pin_is_frozen(service);
}

int service_pin_restore(struct service *service)
{
	uint64_t generation;
	int r;

	if (!service_pin_is_frozen(service) || service->snapshot || service->recall)
		return 0;
	r = find_frozen(service, &generation);
	if (r == 0)
		r = recall_new(service->services->loop, service->backups, service->name, generation,
			on_frozen, service, &service->recall);
	if (r == 0)
		return 0;
	if (may_pass(r)) {
		say_unreadable(service, r);
		return r;
	}
	end_freeze(service, r);
	return 0;
}

void service_pin_done(struct service *service)
{
	loop_timer_free(service->pin_timer);
	if (service->pins)
		pins_done(service->pins);
	free(service->pins);
	service->pins = NULL;
}

/* --- orders ------------------------------------------------------------------------------ */

int service_pin_freeze(
	struct service *service, struct snapshot *snapshot, const struct pin_note *note)
{
	uint64_t generation = snapshot->generation;
	char text[NOTE_TEXT];
	int r = start(service);

	if (r < 0) {
		snapshot_unref(snapshot);
		return r;
	}
	service->pins->is_frozen = true;
	service->pins->frozen = *note;
	service->pins->frozen_digest = snapshot->image.digest;
	service->pins->version++;
	log_event(LOG_LEVEL_WARNING,
		ABOUT(LOG_SERVICE_FROZEN, .service = service->name,
			.state = wire_state_name(WIRE_FROZEN), .by = note->by,
			.generation = generation),
		"%s: frozen at generation %llu by %s", service->name,
		(unsigned long long)generation, text_of(note, text));
	save(service);
	arm(service);
	service_publish_instead(service, snapshot);
	return 0;
}

int service_pin_thaw(struct service *service, const char *by)
{
	if (!service_pin_is_frozen(service))
		return -ENOENT;
	service->pins->is_frozen = false;
	log_event(LOG_LEVEL_WARNING, ABOUT(LOG_SERVICE_THAWED, .service = service->name, .by = by),
		"%s: thawed by %s", service->name, by);
	take_effect(service, true);
	return 0;
}

int service_pin_override(struct service *service, const char *key, size_t key_len,
	const char *value, size_t value_len, const struct pin_note *note)
{
	char text[NOTE_TEXT];
	int r = start(service);

	if (r == 0)
		r = pins_override(service->pins, key, key_len, value, value_len, note);
	if (r < 0)
		return r;
	log_event(LOG_LEVEL_WARNING,
		ABOUT(LOG_SERVICE_OVERRIDE, .service = service->name, .by = note->by, .key = key,
			.key_len = key_len),
		"%s: %.*s has another value by %s", service->name, (int)key_len, key,
		text_of(note, text));
	take_effect(service, false);
	return 0;
}

int service_pin_clear(struct service *service, const char *key, size_t key_len, const char *by)
{
	unsigned n = service->pins ? pins_clear(service->pins, key, key_len) : 0;

	if (n == 0)
		return -ENOENT;
	log_event(LOG_LEVEL_WARNING,
		ABOUT(LOG_SERVICE_OVERRIDE_ENDED, .service = service->name, .by = by, .key = key,
			.key_len = key_len),
		"%s: %u key%s the source's value again by %s", service->name, n,
		n == 1 ? " has" : "s have", by);
	take_effect(service, false);
	return 0;
}
