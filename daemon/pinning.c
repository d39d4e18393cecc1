#include "daemon/pinning.h"

#include <stdio.h>

#include "daemon/backup-history.h"
#include "daemon/errand.h"
#include "daemon/preview.h"

static struct backups *backups_of(const struct reply *reply)
{
	return reply->session->server->backups;
}

void pinning_history(const struct reply *reply, const char *service, bool hide)
{
	struct json *json;
	const char *text;
	size_t len;
	int r = json_new(&json);

	if (r == 0)
		r = hide ? 0 : backup_history_list(backups_of(reply), service, json);
	if (r > 0 && json_text(json, &text, &len) == 0)
		reply_bytes(reply, WIRE_OK, text, len);
	else if (r == 0)
		reply_text(reply, WIRE_NO_KEY, "the disk has nothing of %s", service);
	else
		reply_text(reply, WIRE_INTERNAL, "the history of %s cannot be read: %s", service,
			strerror(r < 0 ? -r : ENOMEM));
	if (r != -ENOMEM)
		json_free(json);
}

static void refuse_descriptor(const struct reply *reply)
{
	reply_text(reply, WIRE_LIMIT,
		"%d descriptors wait on this connection; read the replies first",
		LIMIT_DESCRIPTORS);
}

void pinning_recall(const struct reply *reply, const char *service, uint64_t generation, bool hide)
{
	int fd;

	if (!session_may_pass(reply->session)) {
		refuse_descriptor(reply);
		return;
	}
	fd = hide ? -ENOENT : backup_history_open(backups_of(reply), service, generation);
	if (fd < 0) {
		reply_text(reply, fd == -ENOENT ? WIRE_NO_KEY : WIRE_INTERNAL,
			"generation %llu of %s: %s", (unsigned long long)generation, service,
			fd == -ENOENT ? "not kept; consulcfg-history shows those that are"
				      : strerror(-fd));
		return;
	}
	session_pass(reply->session, fd);
	reply_bytes(reply, WIRE_OK, NULL, 0);
}

/* --- what is held ------------------------------------------------------------------------ */

struct look {
	struct errand errand;
	struct preview_waiter waiter;
	struct snapshot *snapshot; /* NULL: `error` says why */
	int error;
	char service[LIMIT_SERVICE_NAME + 1];
};

static void refuse_look(const struct look *look)
{
	const struct reply *reply = &look->errand.reply;

	if (look->error == -ENOENT)
		reply_text(reply, WIRE_NO_KEY, "nothing is held of %s", look->service);
	else
		reply_text(reply, WIRE_INTERNAL, "what is held of %s cannot be shown: %s",
			look->service,
			look->error == -EFBIG ? "its image would exceed max_service"
					      : strerror(-look->error));
}

static void answer_look(struct errand *errand)
{
	struct look *look = CONTAINER_OF(errand, struct look, errand);
	struct session *session = errand->reply.session;
	int fd;

	if (!look->snapshot) {
		refuse_look(look);
		return;
	}
	if (!session_may_pass(session)) {
		refuse_descriptor(&errand->reply);
		return;
	}
	fd = snapshot_open_fd(look->snapshot);
	if (fd < 0) {
		reply_text(&errand->reply, WIRE_UNSUPPORTED, "no descriptor: %s", strerror(-fd));
		return;
	}
	session_pass(session, fd);
	reply_bytes(&errand->reply, WIRE_OK, NULL, 0);
}

static void free_look(struct errand *errand)
{
	struct look *look = CONTAINER_OF(errand, struct look, errand);

	list_unlink(&look->waiter.link);
	snapshot_unref(look->snapshot);
	free(look);
}

static void on_preview(struct preview_waiter *waiter, struct snapshot *snapshot, int error)
{
	struct look *look = CONTAINER_OF(waiter, struct look, waiter);

	look->snapshot = snapshot ? snapshot_ref(snapshot) : NULL;
	look->error = error;
	errand_done(&look->errand);
}

void pinning_preview(const struct reply *reply, const char *name, bool hide)
{
	struct services *services = reply->session->server->services;
	struct service *service = hide ? NULL : services_find(services, name, strlen(name));
	struct look *look = calloc(1, sizeof(*look));

	if (!look) {
		reply_text(reply, WIRE_INTERNAL, "%s", strerror(ENOMEM));
		return;
	}
	strcpy(look->service, name);
	list_init(&look->waiter.link);
	look->waiter.fn = on_preview;
	look->errand.answer = answer_look;
	look->errand.free = free_look;
	errand_begin(&look->errand, reply);
	if (service)
		preview_ask(service, &look->waiter);
	else
		on_preview(&look->waiter, NULL, -ENOENT);
}
