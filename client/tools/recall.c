#include "client/tools/recall.h"

#include <stdio.h>

#include "client/tools/json.h"
#include "proto/key.h"
#include "proto/limits.h"

/* --- the history ------------------------------------------------------------------------- */

static struct recall_entry *entry_of(struct recall_list *list, size_t item)
{
	struct recall_entry *entries;

	if (item < list->n)
		return &list->entries[item];
	entries = reallocarray(list->entries, item + 1, sizeof(*entries));
	if (!entries)
		return NULL;
	list->entries = entries;
	memset(&entries[list->n], 0, (item + 1 - list->n) * sizeof(*entries));
	list->n = item + 1;
	return &entries[item];
}

static void on_member(void *userdata, size_t item, const char *path, const char *text, size_t len)
{
	struct recall_entry *entry = entry_of(userdata, item);
	char value[32];

	if (!entry || !text || len >= sizeof(value))
		return;
	memcpy(value, text, len);
	value[len] = '\0';
	if (std_streq(path, "generation"))
		entry->generation = strtoull(value, NULL, 10);
	else if (std_streq(path, "index"))
		entry->index = strtoull(value, NULL, 10);
	else if (std_streq(path, "keys"))
		entry->n_keys = strtoull(value, NULL, 10);
	else if (std_streq(path, "bytes"))
		entry->n_bytes = strtoull(value, NULL, 10);
	else if (std_streq(path, "published"))
		snprintf(entry->published, sizeof(entry->published), "%.23s", value);
	else if (std_streq(path, "digest"))
		snprintf(entry->digest, sizeof(entry->digest), "%.19s", value);
}

/* Sends one request and takes its reply. */
static int ask(struct query *query, enum wire_op op, const struct wire_request *request,
	struct link_reply *ret_reply)
{
	uint32_t tag;
	int r = link_send(&query->link, op, request, &tag);

	return r < 0 ? r : query_receive(query, ret_reply);
}

int recall_history(struct query *query, const char *service, struct recall_list *ret_list)
{
	const struct wire_request request = { .service = service, .service_len = strlen(service) };
	struct recall_list list = { 0 };
	struct link_reply reply;
	int r = ask(query, WIRE_HISTORY, &request, &reply);

	if (r == 0)
		r = json_walk((const char *)reply.payload, reply.len, on_member, &list);
	if (r < 0) {
		recall_list_done(&list);
		return r;
	}
	*ret_list = list;
	return 0;
}

void recall_list_done(struct recall_list *list)
{
	free(list->entries);
	*list = (struct recall_list){ 0 };
}

/* --- views ------------------------------------------------------------------------------- */

static int served_view(struct query *query, const char *service, struct ccfg_view **ret_view)
{
	const struct wire_request request = {
		.service = service,
		.service_len = strlen(service),
		.timeout_ms = (uint32_t)(DEFAULT_QUERY_USEC / USEC_PER_MSEC),
	};
	AUTO_CLOSE int fd = -1;
	struct link_reply reply;
	struct wire_fetch fetch = { 0 };
	int r = ask(query, WIRE_FETCH, &request, &reply);

	if (r == 0)
		r = link_reply_head(&reply, &fetch, sizeof(fetch));
	if (r < 0)
		return r;
	fd = link_take_fd(&query->link);
	return fd < 0 ? fd : view_map(fd, le64_get(fetch.info.generation), ret_view);
}

int recall_view(
	struct query *query, const char *service, uint64_t generation, struct ccfg_view **ret_view)
{
	const struct wire_request request = {
		.generation = generation,
		.service = service,
		.service_len = strlen(service),
	};
	struct backup_footer footer;
	struct link_reply reply;
	AUTO_CLOSE int fd = -1;
	int r;

	if (generation == 0)
		return served_view(query, service, ret_view);
	r = ask(query, WIRE_RECALL, &request, &reply);
	if (r < 0)
		return r;
	fd = link_take_fd(&query->link);
	return fd < 0 ? fd : view_read_backup(fd, service, ret_view, &footer);
}

int recall_held(struct query *query, const char *service, struct ccfg_view **ret_view)
{
	const struct wire_request request = { .service = service, .service_len = strlen(service) };
	struct link_reply reply;
	AUTO_CLOSE int fd = -1;
	int r = ask(query, WIRE_PREVIEW, &request, &reply);

	if (r < 0)
		return r;
	fd = link_take_fd(&query->link);
	return fd < 0 ? fd : view_map(fd, 0, ret_view);
}

static bool are_same(const struct ccfg_entry *a, const struct ccfg_entry *b)
{
	return a->value_len == b->value_len && memcmp(a->value, b->value, a->value_len) == 0;
}

uint64_t recall_compare(
	const struct ccfg_view *before, const struct ccfg_view *after, recall_fn fn, void *userdata)
{
	struct ccfg_entry old = { .size = sizeof(old) }, new = { .size = sizeof(new) };
	size_t old_cursor = 0, new_cursor = 0;
	bool has_old = ccfg_view_next(before, "", &old_cursor, &old);
	bool has_new = ccfg_view_next(after, "", &new_cursor, &new);
	uint64_t n = 0;

	while (has_old || has_new) {
		int order = !has_old   ? 1
			    : !has_new ? -1
				       : key_compare(old.key, old.key_len, new.key, new.key_len);

		if (order != 0 || !are_same(&old, &new)) {
			n++;
			if (fn)
				fn(userdata, order <= 0 ? &old : NULL, order >= 0 ? &new : NULL);
		}
		if (order <= 0)
			has_old = ccfg_view_next(before, "", &old_cursor, &old);
		if (order >= 0)
			has_new = ccfg_view_next(after, "", &new_cursor, &new);
	}
	return n;
}
