#include "daemon/paging.h"

/* A page under construction, in the buffer of the turn. */
struct page {
	const struct wire_request *request;
	struct snapshot *snapshot;
	uint64_t cursor; /* behind the last entry taken; 0: before the first, or after the last */
	uint8_t *at;
	size_t len, size;
};

/* The one that the client is reading: the current one, or the one pinned for it. */
static struct snapshot *choose(const struct session *session, const struct opened *opened,
	const struct wire_request *request)
{
	struct snapshot *current = opened->service->snapshot;

	if (request->generation == 0)
		return request->cursor == 0 ? current : NULL;
	if (request->generation == current->generation)
		return current;
	if (session->pinned_from == opened && session->pinned->generation == request->generation)
		return session->pinned;
	return NULL;
}

/*
 * A cursor comes back from the client and may be anything. Where no entry of this list begins, the
 * list ends: a walk never searches on from there.
 */
static bool is_at_entry(const struct page *page)
{
	const struct wire_request *request = page->request;
	const struct image *image = &page->snapshot->image;
	struct record record;

	return page->cursor <= image->size &&
	       record_decode(image->data, image->size, (size_t)page->cursor, &record) != 0 &&
	       record.key_len >= request->key_len &&
	       memcmp(record.key, request->key, request->key_len) == 0;
}

/* The entry behind the cursor; *ret_next is the cursor behind it. False at the end of the list. */
static bool peek(const struct page *page, size_t *ret_next, struct record *ret_record)
{
	const struct wire_request *request = page->request;

	*ret_next = (size_t)page->cursor;
	return image_next(&page->snapshot->image, request->key, request->key_len, ret_next,
		       ret_record) &&
	       ret_record->key_len <= LIMIT_KEY;
}

/* All of an entry but its value. */
static void put_entry(struct page *page, const struct record *record)
{
	struct wire_entry entry = {
		.modify_index = le64_of(record->modify_index),
		.flags = le64_of(record->flags),
		.value_len = le32_of(record->value_len),
		.key_len = le16_of((uint16_t)record->key_len),
		.layer = record->layer,
	};

	memcpy(page->at + page->len, &entry, sizeof(entry));
	memcpy(page->at + page->len + sizeof(entry), record->key, record->key_len);
	page->len += sizeof(entry) + record->key_len;
}

static void put_head(const struct page *page)
{
	struct wire_list head = {
		.generation = le64_of(page->snapshot->generation),
		.cursor = le64_of(page->cursor),
	};

	memcpy(page->at, &head, sizeof(head));
}

static void finish(const struct reply *reply, const struct page *page)
{
	put_head(page);
	reply_end(reply, WIRE_OK, page->len);
}

/* An entry with a large value is a page of its own, and its value is not copied. */
static void finish_with_large(
	const struct reply *reply, struct page *page, const struct record *record, size_t next)
{
	uint8_t head[sizeof(struct wire_list) + sizeof(struct wire_entry) + LIMIT_KEY];

	page->cursor = next;
	put_entry(page, record);
	put_head(page);
	memcpy(head, page->at, page->len);
	reply_value(reply, head, page->len, page->snapshot, record);
}

static bool has_room(const struct page *page, const struct record *record)
{
	return record->value_len <= LIMIT_INLINE_VALUE &&
	       page->len + sizeof(struct wire_entry) + record->key_len + record->value_len <=
		       page->size;
}

static void fill(const struct reply *reply, struct page *page)
{
	struct record record;
	size_t next;

	while (peek(page, &next, &record)) {
		if (!has_room(page, &record)) {
			if (page->len > sizeof(struct wire_list))
				finish(reply, page);
			else
				finish_with_large(reply, page, &record, next);
			return;
		}
		put_entry(page, &record);
		memcpy(page->at + page->len, record.value, record.value_len);
		page->len += record.value_len;
		page->cursor = next;
	}
	page->cursor = 0;
	finish(reply, page);
}

void paging_reply(
	const struct reply *reply, struct opened *opened, const struct wire_request *request)
{
	struct session *session = reply->session;
	struct page page = {
		.request = request,
		.snapshot = choose(session, opened, request),
		.cursor = request->cursor,
		.len = sizeof(struct wire_list),
		.size = MIN((size_t)LIMIT_LIST_PAGE, server_share_bytes(session->server)),
	};

	if (!page.snapshot) {
		reply_text(reply, WIRE_CHANGED, "%s changed while it was listed; start over",
			service_shown_name(opened->service));
		return;
	}
	page.at = reply_begin(session, LIMIT_LIST_PAGE);
	if (page.cursor != 0 && !is_at_entry(&page)) {
		page.cursor = 0;
		finish(reply, &page);
	} else {
		fill(reply, &page);
	}
	if (page.cursor != 0)
		session_pin(session, page.snapshot, opened);
	else if (session->pinned_from == opened)
		session_pin(session, NULL, NULL);
}
