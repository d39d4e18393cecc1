#include "daemon/operator.h"

#include <stdio.h>

#include "daemon/held.h"
#include "daemon/log.h"
#include "proto/key.h"

bool operator_check(const struct reply *reply)
{
	const struct session *session = reply->session;

	if (access_is_operator(session->server->config, &session->peer))
		return true;
	reply_text(reply, WIRE_DENIED,
		"user %u is no operator: run it as root, or see operators= in consulcfgd.conf(5)",
		(unsigned)session->peer.uid);
	return false;
}

/* The service that a client uses now; says so when there is none. */
static struct service *find_service(const struct reply *reply, const struct wire_request *request)
{
	struct services *services = reply->session->server->services;
	struct service *service;

	if (!key_is_service_name(request->service, request->service_len)) {
		reply_text(reply, WIRE_BAD_NAME, "not a service name");
		return NULL;
	}
	service = services_find(services, request->service, request->service_len);
	if (!service)
		reply_text(reply, WIRE_NO_KEY, "nobody uses %.*s now: any client opens it",
			(int)request->service_len, request->service);
	return service;
}

void operator_accept(const struct reply *reply, const struct wire_request *request)
{
	struct wire_accepted accepted;
	struct service *service;
	struct held held;
	char by[LIMIT_PIN_BY];

	if (!operator_check(reply))
		return;
	service = find_service(reply, request);
	if (!service)
		return;
	if (!held_find(service, &held)) {
		reply_text(reply, WIRE_NO_KEY,
			service->withheld
				? "what is withheld of %s breaks its schema; correct one of the two"
				: "nothing is held of %s",
			service->name);
		return;
	}
	if (request->has_digest && request->digest != held.digest) {
		reply_text(reply, WIRE_CHANGED,
			"what is held of %s has the digest %016llx: look again before you accept",
			service->name, (unsigned long long)held.digest);
		return;
	}
	snprintf(by, sizeof(by), "uid %u", (unsigned)reply->session->peer.uid);
	log_event(LOG_LEVEL_WARNING,
		ABOUT(LOG_SERVICE_ACCEPTED, .service = service->name, .by = by),
		"%s: what was held is accepted by %s: %zu keys, digest %016llx", service->name, by,
		held.n_keys, (unsigned long long)held.digest);
	held_accept(service);
	accepted.n_keys = le64_of(held.n_keys);
	accepted.digest = le64_of(held.digest);
	reply_bytes(reply, WIRE_OK, &accepted, sizeof(accepted));
}

void operator_resync(const struct reply *reply, const struct wire_request *request)
{
	struct service *service = NULL;

	if (!operator_check(reply))
		return;
	if (request->service_len > 0) {
		service = find_service(reply, request);
		if (!service)
			return;
	}
	services_resync(reply->session->server->services, service);
	reply_bytes(reply, WIRE_OK, NULL, 0);
}
