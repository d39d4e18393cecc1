#include "client/tools/table.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "client/tools/json.h"
#include "client/tools/message.h"
#include "proto/key.h"
#include "proto/wire.h"

#define TEXT_SIZE 256
#define CELL_SIZE 32
#define MOMENT_SIZE 64 /* a word and a time */
#define N_CELLS 4
#define CELL_WIDTH 9 /* with the space in front */
#define STATE_WIDTH 10 /* likewise */
#define MIN_NAME 4
#define MIN_TEXT 10
#define INDENT 4 /* of what is the matter */

struct daemon {
	char version[CELL_SIZE], pid[CELL_SIZE], uptime[CELL_SIZE];
	char source[TEXT_SIZE], connections[CELL_SIZE], clients[CELL_SIZE];
};

/* An override. */
struct override {
	char key[TEXT_SIZE], by[CELL_SIZE], reason[TEXT_SIZE];
	char since[CELL_SIZE], until[CELL_SIZE];
};

struct service {
	char name[LIMIT_SERVICE_NAME + 1];
	unsigned state; /* enum wire_state, or above */
	char state_name[CELL_SIZE];
	char generation[CELL_SIZE], keys[CELL_SIZE], bytes[CELL_SIZE], age[CELL_SIZE],
		clients[CELL_SIZE];
	char held_reason[TEXT_SIZE], held_keys[CELL_SIZE], held_layer[TEXT_SIZE];
	char frozen_by[TEXT_SIZE], frozen_reason[TEXT_SIZE];
	char frozen_since[CELL_SIZE], frozen_until[CELL_SIZE];
	char error_kind[CELL_SIZE], error_message[TEXT_SIZE], retry[CELL_SIZE];
	char backup_error[TEXT_SIZE];
	char overrides[CELL_SIZE];
	struct override *overridden; /* the first LIMIT_STATUS_LINES */
	unsigned n_overridden;
};

struct services {
	struct service *all;
	size_t n, allocated;
	bool has_failed;
};

/* What fits beside each other. */
struct layout {
	int name_width;
	unsigned n_cells;
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
	FIELD(service, "generation", generation),
	FIELD(service, "keys", keys),
	FIELD(service, "bytes", bytes),
	FIELD(service, "age_seconds", age),
	FIELD(service, "clients", clients),
	FIELD(service, "held.reason", held_reason),
	FIELD(service, "held.keys", held_keys),
	FIELD(service, "layers.held.reason", held_layer),
	FIELD(service, "frozen.by", frozen_by),
	FIELD(service, "frozen.reason", frozen_reason),
	FIELD(service, "frozen.since", frozen_since),
	FIELD(service, "frozen.until", frozen_until),
	FIELD(service, "last_error.kind", error_kind),
	FIELD(service, "last_error.message", error_message),
	FIELD(service, "last_error.retry_in_seconds", retry),
	FIELD(service, "backup.error", backup_error),
	FIELD(service, "overrides", overrides),
};

static const struct field override_fields[] = {
	FIELD(override, "overridden.key", key),
	FIELD(override, "overridden.by", by),
	FIELD(override, "overridden.reason", reason),
	FIELD(override, "overridden.since", since),
	FIELD(override, "overridden.until", until),
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

/* The key comes first. */
static bool take_override(struct service *service, const char *path, const char *text, size_t len)
{
	if (!service->overridden) {
		service->overridden = calloc(LIMIT_STATUS_LINES, sizeof(struct override));
		if (!service->overridden)
			return false;
	}
	service->n_overridden += std_streq(path, "overridden.key");
	if (service->n_overridden > 0 && service->n_overridden <= LIMIT_STATUS_LINES)
		take(override_fields, ARRAY_SIZE(override_fields),
			&service->overridden[service->n_overridden - 1], path, text, len);
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
	if (strncmp(path, "overridden.", strlen("overridden.")) == 0 &&
		!take_override(&services->all[item], path, text, len))
		services->has_failed = true;
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

/* "34567" to "34 kB". */
static const char *size_cell(const char *bytes, char *buf, size_t size)
{
	static const char *const units[] = { "B", "kB", "MB", "GB" };
	double value = strtod(bytes, NULL);
	size_t unit = 0;

	if (bytes[0] == '\0')
		return "-";
	while (value >= 9999.5 && unit + 1 < ARRAY_SIZE(units)) {
		value /= 1000;
		unit++;
	}
	snprintf(buf, size, "%.0f %s", value, units[unit]);
	return buf;
}

/* How much of a text is one line: up to a space, or cut where there is none. Columns of UTF-8 are
 * counted as its characters. */
static size_t line_len(const char *text, unsigned columns)
{
	size_t len = 0, space = 0;
	unsigned n = 0;

	for (; text[len] != '\0'; len++) {
		n += ((unsigned char)text[len] & 0xc0) != 0x80;
		if (n > columns)
			return space > 0 ? space : len;
		if (text[len] == ' ')
			space = len;
	}
	return len;
}

/* As many lines as it takes, the following ones indented too. */
static void print_wrapped(
	struct output *output, const struct table_style *style, unsigned indent, const char *text)
{
	unsigned columns = UINT_MAX;

	if (style->columns > 0)
		columns = style->columns > indent + MIN_TEXT ? style->columns - indent : MIN_TEXT;
	while (text[0] != '\0') {
		size_t len = line_len(text, columns);

		for (unsigned i = 0; i < indent; i++)
			output_text(output, " ");
		output_bytes(output, text, len);
		output_text(output, "\n");
		text += len;
		text += strspn(text, " ");
	}
}

PRINTF_FORMAT(3, 4)
static void print_trouble_line(
	struct output *output, const struct table_style *style, const char *format, ...)
{
	char line[4 * TEXT_SIZE];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	print_wrapped(output, style, INDENT, line);
}

static void print_daemon(
	struct output *output, const struct table_style *style, const struct daemon *daemon)
{
	char uptime[CELL_SIZE], line[4 * TEXT_SIZE];

	snprintf(line, sizeof(line),
		"consulcfgd %s, pid %s, up %s, source: %s, connections to it: %s, clients: %s",
		daemon->version, daemon->pid, duration_cell(daemon->uptime, uptime, sizeof(uptime)),
		daemon->source, daemon->connections, daemon->clients);
	print_wrapped(output, style, 0, line);
}

/* What to do about an error; of the source being away the state says that. */
static const struct {
	const char *kind, *text;
} remedies[] = {
	{ "denied", "check the token of consulcfgd and its policies" },
	{ "limit", "make it smaller, or raise max_value or max_service of consulcfgd.conf" },
	{ "invalid", "check what answers there: is it Consul, is something in between" },
};

static void print_error(
	struct output *output, const struct table_style *style, const struct service *service)
{
	char retry[CELL_SIZE];

	if (strtod(service->retry, NULL) > 0)
		print_trouble_line(output, style, "%s: %s; asked again in %s", service->error_kind,
			service->error_message,
			duration_cell(service->retry, retry, sizeof(retry)));
	else
		print_trouble_line(
			output, style, "%s: %s", service->error_kind, service->error_message);
	for (size_t i = 0; i < ARRAY_SIZE(remedies); i++)
		if (std_streq(service->error_kind, remedies[i].kind))
			print_trouble_line(
				output, style, "%s: man consulcfgd-operations", remedies[i].text);
}

/* " since 1970-01-01 00:00:05"; "" when it is not known. */
static const char *moment(const char *word, const char *seconds, char buf[MOMENT_SIZE])
{
	time_t at = (time_t)strtod(seconds, NULL);
	char text[CELL_SIZE];
	struct tm tm;

	buf[0] = '\0';
	if (at > 0 && localtime_r(&at, &tm) && strftime(text, sizeof(text), "%F %T", &tm) > 0)
		snprintf(buf, MOMENT_SIZE, " %s %s", word, text);
	return buf;
}

static void print_frozen(
	struct output *output, const struct table_style *style, const struct service *service)
{
	bool has_reason = service->frozen_reason[0] != '\0';
	char since[MOMENT_SIZE], until[MOMENT_SIZE];

	print_trouble_line(output, style,
		"frozen by %s%s%s%s%s; to take changes again: consulcfg-thaw %s",
		service->frozen_by, moment("since", service->frozen_since, since),
		moment("until", service->frozen_until, until), has_reason ? ": " : "",
		service->frozen_reason, service->name);
}

static void print_overrides(
	struct output *output, const struct table_style *style, const struct service *service)
{
	unsigned long n = strtoul(service->overrides, NULL, 10);
	unsigned n_shown = MIN(service->n_overridden, (unsigned)LIMIT_STATUS_LINES);

	print_trouble_line(output, style,
		n == 1 ? "%lu key has a value of an operator: consulcfg-override --clear %s takes "
			 "the source's"
		       : "%lu keys have values of operators: consulcfg-override --clear %s takes "
			 "the source's",
		n, service->name);
	for (unsigned i = 0; i < n_shown; i++) {
		const struct override *o = &service->overridden[i];
		char since[MOMENT_SIZE], until[MOMENT_SIZE];

		print_trouble_line(output, style, "%s: by %s%s%s%s%s", o->key, o->by,
			moment("since", o->since, since), moment("until", o->until, until),
			o->reason[0] != '\0' ? ": " : "", o->reason);
	}
	if (n_shown > 0 && n_shown < n)
		print_trouble_line(output, style, "and %lu more: consulcfg-status --json %s",
			n - n_shown, service->name);
}

static const char *plural(const char *count)
{
	return std_streq(count, "1") ? "" : "s";
}

/* A layer's answer that looks like loss, else contents that break the schema. */
static void print_held(
	struct output *output, const struct table_style *style, const struct service *service)
{
	if (service->held_layer[0] != '\0')
		print_trouble_line(output, style,
			"an answer with %s key%s is withheld: %s; check the keys and the token's "
			"policy in Consul, or take it: consulcfg-accept %s",
			service->held_keys, plural(service->held_keys), service->held_reason,
			service->name);
	else
		print_trouble_line(output, style,
			"new contents with %s key%s are withheld: %s; correct the key or the schema",
			service->held_keys, plural(service->held_keys), service->held_reason);
}

/* The error of contents that break the schema is why they are held: nothing of the source's. */
static bool is_said(const struct service *service)
{
	return service->state == WIRE_HELD && service->held_layer[0] == '\0' &&
	       service->held_reason[0] != '\0' &&
	       strstr(service->error_message, service->held_reason);
}

/* What is the matter, and what to do. */
static void print_trouble(
	struct output *output, const struct table_style *style, const struct service *service)
{
	if (service->frozen_by[0] != '\0' || service->frozen_reason[0] != '\0')
		print_frozen(output, style, service);
	if (service->state == WIRE_HELD)
		print_held(output, style, service);
	if (service->error_message[0] != '\0' && !is_said(service))
		print_error(output, style, service);
	if (service->state == WIRE_LOADING)
		print_trouble_line(output, style,
			service->error_message[0] != '\0'
				? "there is no copy, clients wait: check the source"
				: "the first answer of the source is on its way");
	if (service->state == WIRE_STALE || service->state == WIRE_BACKUP)
		print_trouble_line(output, style,
			"the source is away, clients read the copy %s: check the "
			"source; nothing is lost meanwhile",
			service->state == WIRE_STALE ? "in memory" : "from disk");
	if (has_overrides(service))
		print_overrides(output, style, service);
	if (service->backup_error[0] != '\0')
		print_trouble_line(output, style, "no backup: %s: check the state directory",
			service->backup_error);
}

static int width(const struct services *services)
{
	size_t widest = strlen("SERVICE");

	for (size_t i = 0; i < services->n; i++)
		widest = MAX(widest, strlen(services->all[i].name));
	return (int)widest;
}

/* Of red, green and yellow the one that a state has. */
static const char *color_of(const struct service *service)
{
	if (service->state == WIRE_LIVE)
		return "32";
	return service->state == WIRE_HELD || service->state == WIRE_FROZEN ? "31" : "33";
}

/* A line of the table: cells that have no room are left out, from the right. */
static void print_row(struct output *output, const struct layout *layout, const char *name,
	const char *state, const char *color, const char *const cells[N_CELLS])
{
	print_format(output, "%-*.*s  ", layout->name_width, layout->name_width, name);
	if (color)
		print_format(output, "\033[%sm%-8s\033[0m", color, state);
	else
		print_format(output, layout->n_cells > 0 ? "%-8s" : "%s", state);
	for (unsigned i = 0; i < layout->n_cells; i++)
		print_format(output, " %8s", cells[i]);
	output_text(output, "\n");
}

static struct layout layout_of(const struct services *services, const struct table_style *style)
{
	struct layout layout = { .name_width = width(services), .n_cells = N_CELLS };
	int columns = style->columns > 0 ? (int)MIN(style->columns, 1000u) : INT_MAX;

	while (layout.n_cells > 0 &&
		layout.name_width + STATE_WIDTH + CELL_WIDTH * (int)layout.n_cells > columns)
		layout.n_cells--;
	if (layout.name_width + STATE_WIDTH > columns)
		layout.name_width = MAX(columns - STATE_WIDTH, MIN_NAME);
	return layout;
}

static void print_services(
	struct output *output, const struct table_style *style, const struct services *services)
{
	static const char *const heads[N_CELLS] = { "AGE", "KEYS", "SIZE", "CLIENTS" };
	struct layout layout = layout_of(services, style);

	output_text(output, "\n");
	print_row(output, &layout, "SERVICE", "STATE", NULL, heads);
	for (size_t i = 0; i < services->n; i++) {
		const struct service *service = &services->all[i];
		char age[CELL_SIZE], size[CELL_SIZE];
		const char *const cells[N_CELLS] = {
			duration_cell(service->age, age, sizeof(age)),
			service->keys,
			size_cell(service->bytes, size, sizeof(size)),
			service->clients,
		};

		print_row(output, &layout, service->name, service->state_name,
			style->has_color ? color_of(service) : NULL, cells);
		print_trouble(output, style, service);
	}
}

static void services_done(struct services *services)
{
	for (size_t i = 0; i < services->n; i++)
		free(services->all[i].overridden);
	free(services->all);
}

/* Whoever calls services_done()s them, also after an error. */
static int read_all(const struct output *daemon, const struct output *services,
	struct daemon *ret_daemon, struct services *ret_services)
{
	int r = json_walk(daemon->data, daemon->len, on_daemon_member, ret_daemon);

	if (r == 0 && services->len > 0)
		r = json_walk(services->data, services->len, on_service_member, ret_services);
	if (r == 0 && ret_services->has_failed)
		r = -ENOMEM;
	for (size_t i = 0; r == 0 && i < ret_services->n; i++)
		finish_service(&ret_services->all[i]);
	return r;
}

int table_print(struct output *output, const struct table_style *style, const struct output *daemon,
	const struct output *services)
{
	struct daemon the_daemon = { 0 };
	struct services found = { 0 };
	int r = read_all(daemon, services, &the_daemon, &found);

	if (r == 0) {
		if (found.n > 0)
			qsort(found.all, found.n, sizeof(*found.all), compare_services);
		print_daemon(output, style, &the_daemon);
		if (found.n > 0)
			print_services(output, style, &found);
		else
			print_wrapped(
				output, style, 0, "no service that this user may see is in use");
	}
	services_done(&found);
	return r;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct service *)a)->name, ((const struct service *)b)->name);
}

int table_lines(struct output *output, const struct output *daemon, const struct output *services)
{
	struct daemon the_daemon = { 0 };
	struct services found = { 0 };
	int r = read_all(daemon, services, &the_daemon, &found);

	if (r == 0) {
		if (found.n > 0)
			qsort(found.all, found.n, sizeof(*found.all), compare_names);
		print_format(output, "consulcfgd %s, pid %s\n", the_daemon.version, the_daemon.pid);
		for (size_t i = 0; i < found.n; i++) {
			const struct service *service = &found.all[i];

			print_format(output, "%s %s, generation %s, %s key%s%s%s%s%s\n",
				service->name, service->state_name, service->generation,
				service->keys, plural(service->keys),
				service->error_message[0] != '\0' ? ", " : "", service->error_kind,
				service->error_message[0] != '\0' ? ": " : "",
				service->error_message);
		}
	}
	services_done(&found);
	return r;
}
