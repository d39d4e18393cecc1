#include "daemon/service-outcome.h"

#include <stdio.h>

#include "daemon/publication.h"
#include "daemon/service-state.h"
#include "daemon/services.h"

static bool set_error(
	struct service *service, enum tree_error_kind kind, const char *what, const char *why)
{
	char message[TREE_MESSAGE];

	snprintf(message, sizeof(message), "%s: %.*s", what, (int)sizeof(message) - 48, why);
	return tree_error_set(&service->error, kind, message);
}

/* -EKEYREJECTED, -ENOMEM. */
static int withhold(struct service *service)
{
	struct withheld *withheld = service->withheld;
	const char *why = publication_verdict(service->publication);

	if (!withheld) {
		withheld = calloc(1, sizeof(*withheld));
		if (!withheld)
			return -ENOMEM;
		withheld->since = loop_now();
		service->withheld = withheld;
	}
	if (!std_streq(withheld->reason, why))
		log_event(LOG_LEVEL_ERROR,
			ABOUT(LOG_SERVICE_WITHHELD, .service = service->name,
				.state = wire_state_name(WIRE_HELD)),
			"%s: the newest configuration breaks its schema and is withheld: %s",
			service->name, why);
	snprintf(withheld->reason, sizeof(withheld->reason), "%s", why);
	withheld->n_keys = publication_n_keys(service->publication);
	withheld->digest = publication_digest(service->publication);
	set_error(service, TREE_INVALID, "withheld, it breaks the schema", why);
	return -EKEYREJECTED;
}

static void fail(struct service *service, int error)
{
	const char *why = error == -EFBIG ? "its image would exceed max_service" : strerror(-error);

	if (set_error(service, TREE_LIMIT, "cannot publish", why))
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_SERVICE_LIMIT, .service = service->name),
			"%s: cannot publish: %s; serving the last good contents", service->name,
			why);
}

int service_outcome_bad(struct service *service, int error)
{
	if (error == -EKEYREJECTED)
		error = withhold(service);
	if (error != -EKEYREJECTED)
		fail(service, error);
	if (service->refusal == 0)
		service->refused_at = loop_now();
	service->refusal = error;
	return error;
}

bool service_outcome_may_pass(int error)
{
	return error != -EKEYREJECTED && error != -EFBIG;
}

/* NULL: whoever froze it, or what breaks its schema, was told of when it came. */
static const char *id_of_state(const struct service *service, enum wire_state state)
{
	switch (state) {
	case WIRE_LOADING:
		return LOG_SERVICE_LOADING;
	case WIRE_LIVE:
		return LOG_SERVICE_LIVE;
	case WIRE_STALE:
		return LOG_SERVICE_STALE;
	case WIRE_BACKUP:
		return LOG_SERVICE_BACKUP;
	case WIRE_HELD:
		return service->withheld ? NULL : LOG_SERVICE_HELD;
	case WIRE_FROZEN:
		break;
	}
	return NULL;
}

static void tell_state(struct log_pace *pace, const struct log_about *about)
{
	char more[64] = "";

	if (pace->n_unsaid > 0)
		snprintf(more, sizeof(more), " (and %u such lines left out)", pace->n_unsaid);
	pace->n_unsaid = 0;
	log_event(LOG_LEVEL_INFO, about, "%s: %s, was %s%s", about->service, about->state,
		about->state_before, more);
}

void service_outcome_state(struct service *service, enum wire_state state)
{
	struct log_about about = {
		.id = id_of_state(service, state),
		.service = service->name,
		.state = wire_state_name(state),
		.state_before = wire_state_name(service->told_state),
		.generation = service->generation,
		.index = service_state_index(service),
	};

	service->told_state = state;
	if (!about.id || *service->name == SERVICE_HIDDEN || !log_is_wanted(LOG_LEVEL_INFO))
		return;
	if (log_pace_take(&service->services->pace, loop_now()))
		tell_state(&service->services->pace, &about);
}

/* In milliseconds, since the newest contents had come. */
static double cpu_since_answer(const struct service *service)
{
	uint64_t at = 0, now = loop_cpu_usec();

	for (unsigned i = 0; i < service->n_layers; i++)
		if (service->layers[i].tree->content)
			at = MAX(at, service->layers[i].tree->content->answered_cpu_usec);
	return at != 0 ? (double)(now - at) / 1000 : 0;
}

void service_outcome_new(const struct service *service)
{
	log_debug("%s: published generation %llu with %llu keys, %.2f ms of CPU after the answer",
		service->name, (unsigned long long)service->generation,
		(unsigned long long)service->snapshot->image.n_entries, cpu_since_answer(service));
}

void service_outcome_good(struct service *service)
{
	const char *trouble = service->judge.trouble;

	tree_error_clear(&service->error);
	free(service->withheld);
	service->withheld = NULL;
	service->refusal = 0;
	/* A schema that does not read keeps nothing from being served. */
	if (!trouble)
		return;
	log_warning("%s: %s", service->name, trouble);
	set_error(service, TREE_INVALID, "published unseen", trouble);
}
