#include "daemon/listing.h"

#include "daemon/status.h"

#define LISTING_SLICE 128 /* services looked at in one turn: about 1 ms */
#define LISTING_SHARE 2 /* the same while other users wait: as long as LIMIT_SHARE_COST */

static bool may_see(const struct listing *listing, const struct service *service)
{
	return listing->is_operator || access_may_read(listing->session->server->config,
					       &listing->session->peer, service->name);
}

static void show(struct listing *listing, const struct service *service)
{
	if (json_size(listing->json) > 0)
		json_next(listing->json);
	status_service(service, listing->json);
	memcpy(listing->last_shown, service->name, sizeof(listing->last_shown));
}

static void finish(struct listing *listing, bool has_more)
{
	struct reply reply = { listing->session, WIRE_STATUS, listing->tag };
	size_t name_len = strlen(listing->last_shown), len;
	const char *text;
	uint8_t *at;

	if (json_text(listing->json, &text, &len) < 0) {
		reply_text(&reply, WIRE_INTERNAL, "out of memory");
	} else {
		at = reply_begin(listing->session, 2 + name_len + len);
		*at++ = has_more;
		*at++ = (uint8_t)name_len;
		memcpy(at, listing->last_shown, name_len);
		memcpy(at + name_len, text, len);
		reply_end(&reply, WIRE_OK, 2 + name_len + len);
	}
	listing_free(listing);
}

int listing_new(const struct reply *reply, const char *after, size_t after_len)
{
	struct session *session = reply->session;
	struct server *server = session->server;
	struct listing *listing = calloc(1, sizeof(*listing));
	int r;

	if (!listing)
		return -ENOMEM;
	r = json_new(&listing->json);
	if (r < 0) {
		free(listing);
		return r;
	}
	listing->session = session;
	listing->tag = reply->tag;
	listing->is_operator = access_is_operator(server->config, &session->peer);
	/* Hidden ones are left out: they stand in front of all names. */
	strcpy(listing->last_seen, (char[]){ SERVICE_HIDDEN + 1, '\0' });
	memcpy(listing->last_seen, after, after_len);
	memcpy(listing->last_shown, after, after_len);
	list_append(&server->listings, &listing->link);
	if (!loop_timer_is_armed(server->listing_timer))
		loop_timer_arm(server->listing_timer, 0);
	session->listing = listing;
	return 0;
}

struct listing *listing_free(struct listing *listing)
{
	if (!listing)
		return NULL;
	listing->session->listing = NULL;
	list_unlink(&listing->link);
	json_free(listing->json);
	free(listing);
	return NULL;
}

void listing_step(struct listing *listing)
{
	struct server *server = listing->session->server;
	struct services *services = server->services;
	unsigned slice = server_is_shared(server) ? LISTING_SHARE : LISTING_SLICE;

	for (unsigned i = 0; i < slice; i++) {
		struct service *service = services_next(services, listing->last_seen);

		if (!service) {
			finish(listing, false);
			return;
		}
		memcpy(listing->last_seen, service->name, sizeof(listing->last_seen));
		if (may_see(listing, service))
			show(listing, service);
		if (json_size(listing->json) >= LIMIT_STATUS_PAGE) {
			finish(listing, true);
			return;
		}
	}
}
