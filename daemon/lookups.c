#include "daemon/lookups.h"

#define KEYS_PER_COST ((size_t)4) /* next to a GET's, which is 1 */

static bool is_spent(const struct lookups *lookups, size_t n_keys, size_t len)
{
	return n_keys / KEYS_PER_COST + len / SESSION_BYTES_PER_COST >=
	       lookups->reply.session->budget;
}

static bool is_complete(const struct lookups *lookups)
{
	return lookups->value_left == 0 && lookups->cursor == lookups->request.key_len;
}

static size_t copy_piece(struct lookups *lookups, uint8_t *at)
{
	size_t len = MIN(lookups->value_left, (size_t)LIMIT_SHARE_BYTES);

	memcpy(at, lookups->value, len);
	lookups->value += len;
	lookups->value_left -= len;
	return len;
}

/* The next key: its value's length to `at`, its value is to be copied. False: too much. */
static bool look_up(struct lookups *lookups, const char *key, size_t key_len, uint8_t *at)
{
	struct record record = { 0 };
	bool is_there = image_find(&lookups->snapshot->image, key, key_len, &record);
	size_t value_len = is_there ? record.value_len : 0;
	le32 len = le32_of(is_there ? record.value_len : WIRE_ABSENT);

	if (LIMIT_MGET_REPLY - lookups->size < sizeof(len) + value_len)
		return false;
	memcpy(at, &len, sizeof(len));
	lookups->size += sizeof(len) + value_len;
	lookups->value = record.value;
	lookups->value_left = value_len;
	return true;
}

/* A slice of the reply, for what is left of the budget. 1: the last one, 0, -EMSGSIZE. */
static int fill(struct lookups *lookups, uint8_t *at, size_t *ret_len)
{
	size_t n_keys = 0, len = 0, key_len;
	const char *key;

	while (!is_complete(lookups) && !is_spent(lookups, n_keys, len)) {
		if (lookups->value_left > 0) {
			len += copy_piece(lookups, at + len);
			continue;
		}
		if (wire_next_key(&lookups->request, &lookups->cursor, &key, &key_len) <= 0 ||
			!look_up(lookups, key, key_len, at + len))
			return -EMSGSIZE;
		len += sizeof(le32);
		n_keys++;
	}
	session_spend(lookups->reply.session, n_keys / KEYS_PER_COST);
	*ret_len = len;
	return is_complete(lookups);
}

static void refuse(const struct reply *reply, int error)
{
	if (error == -EMSGSIZE)
		reply_text(reply, WIRE_LIMIT,
			"more than %u bytes of values; ask for fewer keys at once, or GET each",
			LIMIT_MGET_REPLY);
	else
		reply_text(reply, WIRE_INTERNAL, "%s", strerror(-error));
}

/* The rest is for the next turns: the request's bytes are gone by then. */
static int put_aside(const struct lookups *begun, const uint8_t *bytes, size_t len)
{
	const struct wire_request *request = &begun->request;
	struct wire_header head = { 0 };
	struct lookups *lookups = malloc(sizeof(*lookups));
	int r;

	if (!lookups)
		return -ENOMEM;
	*lookups = *begun;
	snapshot_ref(lookups->snapshot);
	lookups->request.key_len = request->key_len - begun->cursor;
	lookups->cursor = 0;
	lookups->keys = malloc(lookups->request.key_len + 1);
	lookups->request.key = lookups->keys;
	begun->reply.session->lookups = lookups;
	r = lookups->keys ? buffer_append(&lookups->frame, &head, sizeof(head)) : -ENOMEM;
	if (r == 0)
		r = buffer_append(&lookups->frame, bytes, len);
	if (r < 0) {
		lookups_free(lookups);
		return r;
	}
	memcpy(lookups->keys, request->key + begun->cursor, lookups->request.key_len);
	session_spend(begun->reply.session, len / SESSION_BYTES_PER_COST);
	return 0;
}

void lookups_reply(
	const struct reply *reply, struct snapshot *snapshot, const struct wire_request *request)
{
	struct lookups lookups = {
		.reply = *reply,
		.snapshot = snapshot,
		.request = { .key = request->key, .key_len = request->key_len },
	};
	le64 generation = le64_of(snapshot->generation);
	uint8_t *at = reply_begin(reply->session, sizeof(generation) + LIMIT_MGET_REPLY);
	size_t len = 0;
	int r;

	memcpy(at, &generation, sizeof(generation));
	r = fill(&lookups, at + sizeof(generation), &len);
	len += sizeof(generation);
	if (r > 0)
		reply_end(reply, WIRE_OK, len);
	else if (r == 0)
		r = put_aside(&lookups, at, len);
	if (r < 0)
		refuse(reply, r);
}

struct lookups *lookups_free(struct lookups *lookups)
{
	if (!lookups)
		return NULL;
	lookups->reply.session->lookups = NULL;
	snapshot_unref(lookups->snapshot);
	buffer_done(&lookups->frame);
	free(lookups->keys);
	free(lookups);
	return NULL;
}

bool lookups_may_step(const struct session *session)
{
	return session->lookups && !session->is_blocked;
}

void lookups_step(struct session *session)
{
	struct lookups *lookups = session->lookups;
	int r, is_last = 0;
	size_t len = 0;
	uint8_t *at;

	if (!lookups_may_step(session))
		return;
	at = reply_begin(session, LIMIT_MGET_REPLY);
	r = fill(lookups, at, &len);
	if (r >= 0) {
		is_last = r;
		r = buffer_append(&lookups->frame, at, len);
	}
	session_spend(session, len / SESSION_BYTES_PER_COST);
	if (r < 0)
		refuse(&lookups->reply, r);
	else if (is_last)
		reply_frame(&lookups->reply, &lookups->frame);
	if (r < 0 || is_last)
		lookups_free(lookups);
}

size_t lookups_allocated(const struct lookups *lookups)
{
	return lookups ? lookups->request.key_len + lookups->frame.allocated : 0;
}
