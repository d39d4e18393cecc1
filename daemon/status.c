#include "daemon/status.h"

#include <stdio.h>

#include "daemon/held.h"
#include "daemon/service-pin.h"
#include "daemon/service-state.h"

/* A loop_now() time as seconds since 1970, for people and other programs. */
static void put_time(struct json *json, uint64_t at)
{
	json_seconds(json, loop_realtime_usec() - (loop_now() - at));
}

static void put_null(struct json *json, const char *key)
{
	json_key(json, key);
	json_null(json);
}

static void put_string(struct json *json, const char *key, const char *text)
{
	json_key(json, key);
	json_string(json, text);
}

static void put_uint(struct json *json, const char *key, uint64_t value)
{
	json_key(json, key);
	json_uint(json, value);
}

static void put_age(struct json *json, const char *key, bool is_known, uint64_t since)
{
	uint64_t now = loop_now();

	json_key(json, key);
	if (is_known)
		json_seconds(json, now > since ? now - since : 0);
	else
		json_null(json);
}

static void put_held(
	struct json *json, const char *reason, uint64_t since, size_t n_keys, uint64_t digest)
{
	json_key(json, "held");
	json_begin_object(json);
	put_string(json, "reason", reason);
	json_key(json, "since");
	put_time(json, since);
	put_uint(json, "keys", n_keys);
	json_key(json, "digest");
	json_hex(json, digest);
	json_end_object(json);
}

static void put_layer(struct json *json, const struct service *service, const struct tree *tree)
{
	const struct kvset *content = tree->content;
	const struct tree_held *held = &tree->held;
	char prefix[LIMIT_KEY + 1];

	json_begin_object(json);
	put_string(json, "prefix", service_state_prefix(service, tree, prefix));
	put_uint(json, "keys", content ? content->records.n : 0);
	put_uint(json, "index", content ? content->index : 0);
	put_string(json, "state", wire_state_name(tree->state));
	json_key(json, "age_seconds");
	if (content)
		json_seconds(json, loop_now() - tree->confirmed_at);
	else
		json_null(json);
	if (held->set)
		put_held(json, held->reason, held->since, held->set->records.n, held->set->digest);
	else
		put_null(json, "held");
	json_end_object(json);
}

static void put_layers(struct json *json, const struct service *service)
{
	json_key(json, "layers");
	json_begin_array(json);
	for (unsigned i = 0; i < service->n_layers; i++)
		put_layer(json, service, service->layers[i].tree);
	json_end_array(json);
}

static void put_error(struct json *json, const struct tree_error *error)
{
	uint64_t now = loop_now();

	json_key(json, "last_error");
	if (!error) {
		json_null(json);
		return;
	}
	json_begin_object(json);
	put_string(json, "kind", tree_error_kind_name(error->kind));
	put_string(json, "message", tree_error_message(error));
	json_key(json, "since");
	put_time(json, error->since);
	json_key(json, "retry_in_seconds");
	json_seconds(json, error->retry_at > now ? error->retry_at - now : 0);
	json_end_object(json);
}

static void put_withheld(struct json *json, const struct withheld *withheld)
{
	if (withheld)
		put_held(json, withheld->reason, withheld->since, withheld->n_keys,
			withheld->digest);
	else
		put_null(json, "held");
}

static void put_content(struct json *json, const struct snapshot *snapshot)
{
	json_key(json, "digest");
	if (snapshot)
		json_hex(json, snapshot->image.digest);
	else
		json_null(json);
	put_uint(json, "keys", snapshot ? snapshot->image.n_entries : 0);
	put_uint(json, "bytes", snapshot ? snapshot->image.size : 0);
}

void status_daemon(const struct server *server, struct json *json)
{
	uint64_t worst = loop_worst_callback_usec(server->loop);

	json_begin_object(json);
	put_string(json, "version", CONSULCFGD_VERSION);
	put_uint(json, "pid", (uint64_t)getpid());
	put_age(json, "uptime_seconds", true, server->started_at);
	put_string(json, "source", server->source->name);
	put_uint(json, "source_connections", server->source->n_connections(server->source));
	put_uint(json, "clients", server->n_sessions);
	if (worst > 0) {
		put_uint(json, "loop_worst_callback_usec", worst);
		put_uint(json, "loop_worst_callback_lately_usec",
			loop_take_worst_callback_usec(server->loop));
	}
	json_end_object(json);
}

static void put_usec(struct json *json, const char *key, uint64_t usec)
{
	json_key(json, key);
	if (usec != 0)
		json_seconds(json, usec);
	else
		json_null(json);
}

static void put_note(struct json *json, const struct pin_note *note)
{
	put_string(json, "by", note->by);
	put_usec(json, "since", note->since);
	put_usec(json, "until", note->until);
	put_string(json, "reason", note->reason);
}

static void put_frozen(struct json *json, const struct service *service)
{
	if (!service_pin_is_frozen(service)) {
		put_null(json, "frozen");
		return;
	}
	json_key(json, "frozen");
	json_begin_object(json);
	put_note(json, &service->pins->frozen);
	json_end_object(json);
}

/* How many there are, and the first ones: without their values, as all that is said here. */
static void put_overrides(struct json *json, const struct pins *pins)
{
	size_t end = json_size(json) + LIMIT_STATUS_OVERRIDES;

	put_uint(json, "overrides", pins ? pins->n_overrides : 0);
	json_key(json, "overridden");
	json_begin_array(json);
	if (pins)
		LIST_FOREACH (node, &pins->overrides) {
			const struct pin *pin = LIST_ENTRY(node, struct pin, link);

			if (json_size(json) >= end)
				break;
			json_begin_object(json);
			put_string(json, "key", pin->key);
			put_note(json, &pin->note);
			json_end_object(json);
		}
	json_end_array(json);
}

static void put_backup(struct json *json, const struct backup *backup)
{
	const char *step;
	int error = backup_error(backup, &step);
	uint64_t confirmed_at;
	char text[128];

	json_key(json, "backup");
	json_begin_object(json);
	json_key(json, "age_seconds");
	if (backup_is_known(backup, &confirmed_at))
		json_seconds(json, loop_now() - confirmed_at);
	else
		json_null(json);
	if (error < 0)
		snprintf(text, sizeof(text), "%s: %s", step, strerror(-error));
	put_string(json, "error", error < 0 ? text : NULL);
	json_end_object(json);
}

void status_service(const struct service *service, struct json *json)
{
	struct held held;

	json_begin_object(json);
	put_string(json, "name", service_shown_name(service));
	put_string(json, "state", wire_state_name(service_state(service)));
	put_uint(json, "generation", service->generation);
	put_content(json, service->snapshot);
	put_uint(json, "index", service_state_index(service));
	json_key(json, "age_seconds");
	if (service->snapshot)
		json_seconds(json, service_state_age_usec(service));
	else
		json_null(json);
	put_uint(json, "clients", service->n_users - (service->is_preloaded ? 1 : 0));
	put_layers(json, service);
	if (held_find(service, &held))
		put_held(json, held.reason, held.since, held.n_keys, held.digest);
	else
		put_withheld(json, service->withheld);
	put_frozen(json, service);
	put_overrides(json, service->pins);
	put_error(json, service_state_error(service));
	put_backup(json, service->backup);
	json_end_object(json);
}

static void put_change_keys(const struct change *change, struct json *json)
{
	static const char *const kinds[CHANGE_N_KINDS] = { NULL, "added", "changed", "removed" };
	const char *at = change->keys;

	json_key(json, "keys");
	json_begin_array(json);
	for (unsigned i = 0; change->is_compared && i < change->n_keys; i++) {
		json_begin_object(json);
		put_string(json, "key", at + 1);
		put_string(json, "change", kinds[(unsigned char)at[0]]);
		json_end_object(json);
		at += 1 + strlen(at + 1) + 1;
	}
	json_end_array(json);
}

static void put_count(
	struct json *json, const char *key, const struct change *change, enum change_kind kind)
{
	if (change->is_compared)
		put_uint(json, key, change->n[kind]);
	else
		put_null(json, key);
}

void status_change(const struct change *change, struct json *json)
{
	json_begin_object(json);
	put_string(json, "service", change->service);
	json_key(json, "at");
	json_seconds(json, change->at);
	put_uint(json, "generation", change->generation);
	put_uint(json, "index", change->index);
	put_count(json, "added", change, CHANGE_ADDED);
	put_count(json, "changed", change, CHANGE_CHANGED);
	put_count(json, "removed", change, CHANGE_REMOVED);
	put_change_keys(change, json);
	json_end_object(json);
}
