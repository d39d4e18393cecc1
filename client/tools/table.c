#include "client/tools/table.h"

#include <stdarg.h>
#include <stdio.h>

#include "client/tools/json.h"
#include "client/tools/message.h"
#include "proto/key.h"
#include "proto/wire.h"

#define TEXT_SIZE 256
#define CELL_SIZE 32

struct daemon {
	char version[CELL_SIZE], pid[CELL_SIZE], uptime[CELL_SIZE];
	char source[TEXT_SIZE], connections[CELL_SIZE], clients[CELL_SIZE];
};

struct service {
	char name[LIMIT_SERVICE_NAME + 1];
	unsigned state; /* enum wire_state, or above */
	char state_name[CELL_SIZE];
	char keys[CELL_SIZE], age[CELL_SIZE], clients[CELL_SIZE];
	char held_reason[TEXT_SIZE], held_keys[CELL_SIZE];
	char frozen_by[TEXT_SIZE], frozen_reason[TEXT_SIZE];
	char error_kind[CELL_SIZE], error_message[TEXT_SIZE], retry[CELL_SIZE];
	char backup_error[TEXT_SIZE];
	char overrides[CELL_SIZE];
};

struct services {
	struct service *all;
	size_t n, allocated;
	bool has_failed;
};

/* Which member goes where. */
struct field {
	const char *path;
	size_t off;
	size_t size;
};

#define FIELD(type, path, member)                                                                  \
	{                                                                                          \
		path, offsetof(struct type, member), sizeof(((struct type *)NULL)->member)         \
	}

static const struct field daemon_fields[] = {
	FIELD(daemon, "version", version),
	FIELD(daemon, "pid", pid),
	FIELD(daemon, "uptime_seconds", uptime),
	FIELD(daemon, "source", source),
	FIELD(daemon, "source_connections", connections),
	FIELD(daemon, "clients", clients),
};

static const struct field service_fields[] = {
	FIELD(service, "name", name),
	FIELD(service, "state", state_name),
	FIELD(service, "keys", keys),
	FIELD(service, "age_seconds", age),
	FIELD(service, "clients", clients),
	FIELD(service, "held.reason", held_reason),
	FIELD(service, "held.keys", held_keys),
	FIELD(service, "frozen.by", frozen_by),
	FIELD(service, "frozen.reason", frozen_reason),
	FIELD(service, "last_error.kind", error_kind),
	FIELD(service, "last_error.message", error_message),
	FIELD(service, "last_error.retry_in_seconds", retry),
	FIELD(service, "backup.error", backup_error),
	FIELD(service, "overrides", overrides),
};

/* Escaped: names and messages come from elsewhere and go to a terminal. */
static void take(const struct field *fields, size_t n_fields, void *object, const char *path,
	const char *text, size_t len)
{
	for (size_t i = 0; i < n_fields; i++)
		if (text && std_streq(fields[i].path, path))
			key_escape(text, len, (char *)object + fields[i].off, fields[i].size);
}

static void on_daemon_member(
	void *userdata, size_t item, const char *path, const char *text, size_t len)
{
	(void)item;
	take(daemon_fields, ARRAY_SIZE(daemon_fields), userdata, path, text, len);
}

static bool grow(struct services *services, size_t n)
{
	size_t allocated = MAX(services->allocated, (size_t)16);
	struct service *all;

	while (allocated < n)
		allocated *= 2;
	if (allocated > services->allocated) {
		all = realloc(services->all, allocated * sizeof(*all));
		if (!all)
			return false;
		services->all = all;
		services->allocated = allocated;
	}
	memset(services->all + services->n, 0, (n - services->n) * sizeof(*services->all));
	services->n = n;
	return true;
}

static void on_service_member(
	void *userdata, size_t item, const char *path, const char *text, size_t len)
{
	struct services *services = userdata;

	if (item >= services->n && !grow(services, item + 1)) {
		services->has_failed = true;
		return;
	}
	take(service_fields, ARRAY_SIZE(service_fields), &services->all[item], path, text, len);
}

static bool has_overrides(const struct service *service)
{
	return strtoul(service->overrides, NULL, 10) > 0;
}

/* The order of lines: what needs somebody first. */
static unsigned urgency(const struct service *service)
{
	static const enum wire_state order[] = { WIRE_LIVE, WIRE_STALE, WIRE_BACKUP, WIRE_LOADING,
		WIRE_HELD, WIRE_FROZEN };
	bool is_troubled = service->error_message[0] != '\0' || service->backup_error[0] != '\0' ||
			   has_overrides(service);

	for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
		if (service->state == (unsigned)order[i])
			return 2 * i + is_troubled;
	return 2 * ARRAY_SIZE(order);
}

static int compare_services(const void *a, const void *b)
{
	const struct service *x = a, *y = b;

	if (urgency(x) != urgency(y))
		return urgency(x) < urgency(y) ? 1 : -1;
	return strcmp(x->name, y->name);
}

static void finish_service(struct service *service)
{
	service->state = 0;
	while (!std_streq(wire_state_name(service->state), service->state_name) &&
		service->state <= WIRE_FROZEN)
		service->state++;
}

/* "12.5" to "12 s"; "-" when it is not known. */
static const char *duration_cell(const char *seconds, char *buf, size_t size)
{
	if (seconds[0] == '\0')
		return "-";
	return message_duration(
		(uint64_t)(strtod(seconds, NULL) * (double)USEC_PER_SEC), buf, size);
}

PRINTF_FORMAT(2, 3)
static void print_format(struct output *output, const char *format, ...)
{
	char line[4 * TEXT_SIZE];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	output_text(output, line);
}

static void print_daemon(struct output *output, const struct daemon *daemon)
{
	char uptime[CELL_SIZE];

	print_format(output,
		"consulcfgd %s, pid %s, up %s, source: %s, connections to it: %s, clients: %s\n",
		daemon->version, daemon->pid, duration_cell(daemon->uptime, uptime, sizeof(uptime)),
		daemon->source, daemon->connections, daemon->clients);
}

/* What is the matter, and what to do. */
static void print_trouble(struct output *output, const struct service *service)
{
	char retry[CELL_SIZE];

	if (service->frozen_by[0] != '\0' || service->frozen_reason[0] != '\0')
		print_format(output, "    frozen by %s: %s\n", service->frozen_by,
			service->frozen_reason);
	if (service->state == WIRE_HELD)
		print_format(output,
			"    an answer with %s keys is withheld: %s; check the keys and the token's "
			"policy in Consul, or take it: consulcfg-accept %s\n",
			service->held_keys, service->held_reason, service->name);
	if (service->error_message[0] != '\0') {
		print_format(output, "    %s: %s", service->error_kind, service->error_message);
		if (strtod(service->retry, NULL) > 0)
			print_format(output, "; asked again in %s",
				duration_cell(service->retry, retry, sizeof(retry)));
		output_text(output, "\n");
	} else if (service->state == WIRE_LOADING) {
		output_text(output, "    the first answer of the source is on its way\n");
	}
	if (service->state == WIRE_STALE || service->state == WIRE_BACKUP)
		print_format(output,
			"    the source is away, clients read the copy %s: check the "
			"source; nothing is lost meanwhile\n",
			service->state == WIRE_STALE ? "in memory" : "from disk");
	if (has_overrides(service))
		print_format(output,
			"    %s keys have values of operators: consulcfg-override --clear %s "
			"takes the source's\n",
			service->overrides, service->name);
	if (service->backup_error[0] != '\0')
		print_format(output, "    no backup: %s: check the state directory\n",
			service->backup_error);
}

static int width(const struct services *services)
{
	size_t widest = strlen("SERVICE");

	for (size_t i = 0; i < services->n; i++)
		widest = MAX(widest, strlen(services->all[i].name));
	return (int)widest;
}

static void print_services(struct output *output, const struct services *services)
{
	int name_width = width(services);

	print_format(output, "\n%-*s  %-8s %8s %8s %8s\n", name_width, "SERVICE", "STATE", "KEYS",
		"AGE", "CLIENTS");
	for (size_t i = 0; i < services->n; i++) {
		const struct service *service = &services->all[i];
		char age[CELL_SIZE];

		print_format(output, "%-*s  %-8s %8s %8s %8s\n", name_width, service->name,
			service->state_name, service->keys,
			duration_cell(service->age, age, sizeof(age)), service->clients);
		print_trouble(output, service);
	}
}

int table_print(struct output *output, const struct output *daemon, const struct output *services)
{
	struct daemon the_daemon = { 0 };
	struct services found = { 0 };
	int r;

	r = json_walk(daemon->data, daemon->len, on_daemon_member, &the_daemon);
	if (r == 0 && services->len > 0)
		r = json_walk(services->data, services->len, on_service_member, &found);
	if (r == 0 && found.has_failed)
		r = -ENOMEM;
	if (r == 0) {
		for (size_t i = 0; i < found.n; i++)
			finish_service(&found.all[i]);
		if (found.n > 0)
			qsort(found.all, found.n, sizeof(*found.all), compare_services);
		print_daemon(output, &the_daemon);
		if (found.n > 0)
			print_services(output, &found);
		else
			output_text(output, "\nno service that this user may see is in use\n");
	}
	free(found.all);
	return r;
}
