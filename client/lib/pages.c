#include "client/lib/pages.h"

#include "proto/hash.h"
#include "proto/key.h"

int pages_ask(struct pages *pages, struct link *link, const char *service, const char *prefix,
	uint32_t *ret_tag)
{
	const struct wire_request request = {
		.generation = pages->generation,
		.cursor = pages->cursor,
		.service = service,
		.service_len = strlen(service),
		.key = prefix,
		.key_len = strlen(prefix),
	};

	return link_send(link, WIRE_LIST, &request, ret_tag);
}

/* As realloc() does, but what is left behind on the heap holds no configuration. */
static int reserve(struct records *records, size_t more)
{
	size_t allocated = MAX(records->allocated, (size_t)4096);
	uint8_t *data;

	if (records->allocated - records->size >= more)
		return 0;
	while (allocated - records->size < more)
		allocated *= 2;
	data = malloc(allocated);
	if (!data)
		return -ENOMEM;
	if (records->size > 0) {
		memcpy(data, records->data, records->size);
		explicit_bzero(records->data, records->size);
	}
	free(records->data);
	records->data = data;
	records->allocated = allocated;
	return 0;
}

static bool is_above_last(const struct pages *pages, const struct record *entry)
{
	struct record last;

	if (pages->records.n == 0)
		return true;
	return record_decode(pages->records.data, pages->records.size, pages->last_off, &last) !=
		       0 &&
	       key_compare(last.key, last.key_len, entry->key, entry->key_len) < 0;
}

static int add_entry(struct pages *pages, const struct record *entry)
{
	struct records *records = &pages->records;
	size_t off = records->size;
	int r;

	if (key_check(entry->key, entry->key_len) < 0 || !is_above_last(pages, entry))
		return -EBADMSG;
	r = reserve(records, record_size(entry->key_len, entry->value_len, entry->flags != 0));
	if (r < 0)
		return r;
	r = records_append(records, entry);
	if (r < 0)
		return r;
	pages->last_off = off;
	pages->digest = hash_chain(pages->digest, entry->key, entry->key_len);
	pages->digest = hash_chain(pages->digest, entry->value, entry->value_len);
	return 0;
}

int pages_add(struct pages *pages, const struct link_reply *reply)
{
	struct wire_list head;
	struct record entry;
	size_t cursor = sizeof(head), n = pages->records.n;
	uint64_t generation;
	int r;

	r = link_reply_head(reply, &head, sizeof(head));
	if (r < 0)
		return r;
	generation = le64_get(head.generation);
	if (generation == 0 || (pages->generation != 0 && generation != pages->generation))
		return -EBADMSG;
	pages->generation = generation;
	pages->cursor = le64_get(head.cursor);
	while ((r = wire_next_entry(reply->payload, reply->len, &cursor, &entry)) > 0) {
		r = add_entry(pages, &entry);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	if (pages->cursor == 0)
		return 0;
	/* A page without an entry that is not the last one would be asked for again for ever. */
	return pages->records.n > n ? 1 : -EBADMSG;
}

void pages_done(struct pages *pages)
{
	if (pages->records.size > 0)
		explicit_bzero(pages->records.data, pages->records.size);
	records_done(&pages->records);
	*pages = (struct pages){ 0 };
}
