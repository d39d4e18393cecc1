/*
 * The text wants all samples of a name together, so the services are walked twice: counted, then,
 * as many as may be, listed. Services come and go between the pieces: the walk goes on behind the
 * last name.
 */
#include "daemon/metrics.h"

#include <stdarg.h>
#include <stdio.h>

#include "daemon/held.h"
#include "daemon/service-state.h"

#define SLICE_SERVICES 256 /* below a millisecond */
#define LINE_SIZE 512
#define N_STATES (WIRE_FROZEN + 1)

enum phase { METRICS_COUNT, METRICS_TOTALS, METRICS_AGES };

struct metrics {
	const struct server *server;
	enum phase phase;
	char last[LIMIT_SERVICE_NAME + 1];
	unsigned n_states[N_STATES];
	unsigned n_held, n_frozen;
	unsigned n_trees, n_silent; /* a shared tree as often as it is used */
	uint64_t oldest_usec; /* age of what was confirmed longest ago */
	unsigned n_listed;
	struct buffer *text; /* of this step */
	int error;
};

/* --- lines --------------------------------------------------------------------------------- */

PRINTF_FORMAT(2, 3)
static void put(struct metrics *metrics, const char *format, ...)
{
	char line[LINE_SIZE];
	va_list arguments;
	int r, len;

	va_start(arguments, format);
	len = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	assert(len >= 0 && (size_t)len < sizeof(line));
	r = buffer_append(metrics->text, line, (size_t)len);
	if (r < 0)
		metrics->error = r;
}

static void put_head(struct metrics *metrics, const char *name, const char *type, const char *help)
{
	put(metrics, "# HELP consulcfg_%s %s\n# TYPE consulcfg_%s %s\n", name, help, name, type);
}

static void put_one(struct metrics *metrics, const char *name, const char *type, uint64_t value,
	const char *help)
{
	put_head(metrics, name, type, help);
	put(metrics, "consulcfg_%s %llu\n", name, (unsigned long long)value);
}

static void put_labelled(struct metrics *metrics, const char *name, const char *label,
	const char *text, uint64_t value)
{
	put(metrics, "consulcfg_%s{%s=\"%s\"} %llu\n", name, label, text,
		(unsigned long long)value);
}

static double seconds(uint64_t usec)
{
	return (double)usec / USEC_PER_SEC;
}

/* --- counting ------------------------------------------------------------------------------ */

static void count_service(struct metrics *metrics, const struct service *service)
{
	enum wire_state state = service_state(service);
	struct held held;

	metrics->n_states[state]++;
	metrics->n_held += held_find(service, &held) || service->withheld;
	metrics->n_frozen += state == WIRE_FROZEN;
	for (unsigned i = 0; i < service->n_layers; i++) {
		metrics->n_trees++;
		metrics->n_silent += tree_is_silent(service->layers[i].tree);
	}
	if (service->snapshot)
		metrics->oldest_usec = MAX(metrics->oldest_usec, service_state_age_usec(service));
}

/* In name order, hidden services come first: those are nobody's. */
static void begin_walk(struct metrics *metrics)
{
	metrics->last[0] = SERVICE_HIDDEN + 1;
	metrics->last[1] = '\0';
}

/* The next service of the walk; NULL: that was the last one. */
static const struct service *next_service(struct metrics *metrics)
{
	const struct service *service = services_next(metrics->server->services, metrics->last);

	if (service)
		memcpy(metrics->last, service->name, sizeof(metrics->last));
	return service;
}

static void count_some(struct metrics *metrics)
{
	for (unsigned i = 0; i < SLICE_SERVICES; i++) {
		const struct service *service = next_service(metrics);

		if (!service) {
			metrics->phase = METRICS_TOTALS;
			return;
		}
		count_service(metrics, service);
	}
}

/* --- totals -------------------------------------------------------------------------------- */

static void put_states(struct metrics *metrics)
{
	put_head(metrics, "services", "gauge",
		"Services in use, by the worst state of their layers.");
	for (unsigned state = 0; state < N_STATES; state++)
		put_labelled(metrics, "services", "state", wire_state_name(state),
			metrics->n_states[state]);
	put_one(metrics, "held", "gauge", metrics->n_held,
		"Services of which a suspicious answer, or what breaks the schema, is withheld.");
	put_one(metrics, "frozen", "gauge", metrics->n_frozen,
		"Services that an operator has frozen.");
}

static void put_source(struct metrics *metrics)
{
	const struct source *source = metrics->server->source;
	bool is_silent = metrics->n_trees > 0 && metrics->n_silent == metrics->n_trees;

	put_one(metrics, "source_up", "gauge", !is_silent,
		"0 when nothing that is asked of the source is answered.");
	put_one(metrics, "source_connections", "gauge", source->n_connections(source),
		"Open connections to the source.");
	put_head(metrics, "source_errors_total", "counter",
		"Attempts to read from the source that failed, by kind.");
	for (unsigned kind = 0; kind < TREE_N_ERROR_KINDS; kind++)
		put_labelled(metrics, "source_errors_total", "kind", tree_error_kind_name(kind),
			source->n_errors[kind]);
	put_one(metrics, "resync_repairs_total", "counter",
		source->n_repairs ? source->n_repairs(source) : 0,
		"Changes that a resync found and the watch had missed.");
}

static void put_delays(struct metrics *metrics, const struct tally *tally)
{
	uint64_t n = 0;

	put_head(metrics, "publication_delay_seconds", "histogram",
		"From the first byte by which the source told of a change to its publication.");
	for (unsigned i = 0; i < TALLY_N_BOUNDS; i++) {
		n += tally->n_delays[i];
		put(metrics, "consulcfg_publication_delay_seconds_bucket{le=\"%g\"} %llu\n",
			seconds(tally_bounds_usec[i]), (unsigned long long)n);
	}
	n += tally->n_delays[TALLY_N_BOUNDS];
	put(metrics,
		"consulcfg_publication_delay_seconds_bucket{le=\"+Inf\"} %llu\n"
		"consulcfg_publication_delay_seconds_sum %.6f\n"
		"consulcfg_publication_delay_seconds_count %llu\n",
		(unsigned long long)n, seconds(tally->delays_usec), (unsigned long long)n);
}

static void put_totals(struct metrics *metrics)
{
	const struct server *server = metrics->server;
	const struct tally *tally = services_tally(server->services);

	put_head(metrics, "info", "gauge", "Always 1; version and source are labels.");
	put(metrics, "consulcfg_info{version=\"" CONSULCFGD_VERSION "\",source=\"%s\"} 1\n",
		server->source->name);
	put_states(metrics);
	put_source(metrics);
	put_one(metrics, "updates_total", "counter", tally->n_updates,
		"Publications of all services: first contents and changes.");
	put_delays(metrics, tally);
	put_one(metrics, "backup_errors_total", "counter",
		services_n_backup_errors(server->services), "Backups that could not be written.");
	put_one(metrics, "clients", "gauge", server->n_sessions, "Connected clients.");
	put_head(metrics, "oldest_service_age_seconds", "gauge",
		"Since the source last confirmed a service, of the one it confirmed longest ago.");
	put(metrics, "consulcfg_oldest_service_age_seconds %.3f\n", seconds(metrics->oldest_usec));
	put_head(metrics, "service_age_seconds", "gauge",
		"Since the source last confirmed the service.");
	begin_walk(metrics);
	metrics->phase = METRICS_AGES;
}

/* --- services ------------------------------------------------------------------------------ */

/* Names of services have nothing that a label must escape: see key_is_service_name(). */
static bool list_some(struct metrics *metrics)
{
	unsigned most = metrics->server->config->per_service_metrics;

	for (unsigned i = 0; i < SLICE_SERVICES && metrics->n_listed < most; i++) {
		const struct service *service = next_service(metrics);

		if (!service)
			return false;
		if (!service->snapshot)
			continue;
		put(metrics, "consulcfg_service_age_seconds{service=\"%s\"} %.3f\n", service->name,
			seconds(service_state_age_usec(service)));
		metrics->n_listed++;
	}
	return metrics->n_listed < most;
}

/* --- life ---------------------------------------------------------------------------------- */

int metrics_new(const struct server *server, struct metrics **ret_metrics)
{
	struct metrics *metrics = calloc(1, sizeof(*metrics));

	if (!metrics)
		return -ENOMEM;
	metrics->server = server;
	begin_walk(metrics);
	*ret_metrics = metrics;
	return 0;
}

struct metrics *metrics_free(struct metrics *metrics)
{
	free(metrics);
	return NULL;
}

int metrics_step(struct metrics *metrics, struct buffer *text)
{
	bool has_more = true;

	metrics->text = text;
	if (metrics->phase == METRICS_COUNT)
		count_some(metrics);
	else if (metrics->phase == METRICS_TOTALS)
		put_totals(metrics);
	else
		has_more = list_some(metrics);
	return metrics->error < 0 ? metrics->error : has_more;
}
