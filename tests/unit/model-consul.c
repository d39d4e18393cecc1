#include "model-consul.h"

#include "fake-loop.h"
#include "daemon/loop.h"
#include "test.h"

#define MAX_KEYS 512
#define STEP (5 * USEC_PER_MSEC)

struct entry {
	char name[64];
	char value[32];
	uint64_t index;
};

struct reply { /* made, and not yet sent */
	char *url; /* of the request, as it is kept there */
	int status;
	char index[24];
	char *body;
	bool is_held;
};

struct model {
	struct reply replies[FAKE_HTTP_MAX];
	struct entry keys[MAX_KEYS]; /* sorted */
	unsigned n_keys;
	struct entry tombstones[MAX_KEYS];
	unsigned n_tombstones;
	uint64_t index; /* of the store */
	bool may_not_list, is_away;
	bool lies;
	uint64_t lie;
	char *answered[4096];
	unsigned n_answered;
};

struct question {
	char prefix[64];
	bool lists, blocks;
	uint64_t index, wait_usec;
};

static bool begins_with(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

static void drop_reply(struct reply *reply)
{
	free(reply->body);
	*reply = (struct reply){ 0 };
}

struct model *model_new(void)
{
	struct model *model = calloc(1, sizeof(*model));

	assert_non_null(model);
	model->index = 100;
	return model;
}

struct model *model_free(struct model *model)
{
	for (unsigned i = 0; i < model->n_answered; i++)
		free(model->answered[i]);
	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++)
		drop_reply(&model->replies[i]);
	free(model);
	return NULL;
}

void model_put(struct model *model, const char *key, const char *value)
{
	unsigned at = 0;

	while (at < model->n_keys && strcmp(model->keys[at].name, key) < 0)
		at++;
	if (at == model->n_keys || !std_streq(model->keys[at].name, key)) {
		assert_true(model->n_keys < MAX_KEYS);
		memmove(&model->keys[at + 1], &model->keys[at],
			(model->n_keys - at) * sizeof(struct entry));
		model->n_keys++;
		memset(&model->keys[at], 0, sizeof(struct entry));
		snprintf(model->keys[at].name, sizeof(model->keys[at].name), "%s", key);
	} else if (std_streq(model->keys[at].value, value)) {
		return; /* idempotent: no new index */
	}
	snprintf(model->keys[at].value, sizeof(model->keys[at].value), "%s", value);
	model->keys[at].index = ++model->index;
}

void model_delete(struct model *model, const char *key, bool recurse)
{
	struct entry *tombstone = &model->tombstones[model->n_tombstones];
	unsigned kept = 0;

	for (unsigned i = 0; i < model->n_keys; i++)
		if (!(recurse ? begins_with(model->keys[i].name, key)
			      : std_streq(model->keys[i].name, key)))
			model->keys[kept++] = model->keys[i];
	if (kept == model->n_keys)
		return;
	model->n_keys = kept;
	assert_true(++model->n_tombstones < MAX_KEYS);
	snprintf(tombstone->name, sizeof(tombstone->name), "%s", key);
	tombstone->index = ++model->index;
}

void model_reap(struct model *model)
{
	model->n_tombstones = 0;
}

void model_set_listing(struct model *model, bool is_allowed)
{
	model->may_not_list = !is_allowed;
}

void model_set_away(struct model *model, bool is_away)
{
	model->is_away = is_away;
}

void model_lie(struct model *model, uint64_t index)
{
	model->lies = true;
	model->lie = index;
}

static uint64_t index_of(const struct model *model, const char *prefix)
{
	uint64_t index = 0;

	for (unsigned i = 0; i < model->n_keys; i++)
		if (begins_with(model->keys[i].name, prefix))
			index = MAX(index, model->keys[i].index);
	for (unsigned i = 0; i < model->n_tombstones; i++)
		if (begins_with(model->tombstones[i].name, prefix))
			index = MAX(index, model->tombstones[i].index);
	return index == 0 || *prefix == '\0' ? model->index : index;
}

static struct question parse(const char *url)
{
	const char *path = strstr(url, "/v1/kv/") + 7;
	const char *index = strstr(url, "&index="), *wait = strstr(url, "&wait=");
	struct question question = { .lists = strstr(url, "?keys") != NULL, .blocks = index };

	snprintf(question.prefix, sizeof(question.prefix), "%.*s", (int)strcspn(path, "?"), path);
	if (index) {
		question.index = strtoull(index + 7, NULL, 10);
		question.wait_usec = strtoull(wait + 6, NULL, 10) * USEC_PER_MSEC;
	}
	return question;
}

static bool is_ready(const struct model *model, const struct http_request *request)
{
	struct question question = parse(request->url);

	return !question.blocks || model->is_away || (question.lists && model->may_not_list) ||
	       index_of(model, question.prefix) > question.index ||
	       loop_now() - request->started_at >= question.wait_usec;
}

static void put_value(FILE *file, const char *value)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0, len = strlen(value); i < len; i += 3) {
		unsigned bits = (unsigned)value[i] << 16 |
				(i + 1 < len ? (unsigned)value[i + 1] << 8 : 0) |
				(i + 2 < len ? (unsigned)value[i + 2] : 0);

		fprintf(file, "%c%c%c%c", digits[bits >> 18], digits[bits >> 12 & 63],
			i + 1 < len ? digits[bits >> 6 & 63] : '=',
			i + 2 < len ? digits[bits & 63] : '=');
	}
}

static unsigned put_body(FILE *file, const struct model *model, const struct question *question)
{
	unsigned n = 0;

	putc('[', file);
	for (unsigned i = 0; i < model->n_keys; i++) {
		const struct entry *key = &model->keys[i];

		if (!begins_with(key->name, question->prefix))
			continue;
		fputs(n++ > 0 ? "," : "", file);
		if (question->lists) {
			fprintf(file, "\"%s\"", key->name);
			continue;
		}
		fprintf(file, "{\"Key\":\"%s\",\"Flags\":0,\"Value\":\"", key->name);
		put_value(file, key->value);
		fprintf(file, "\",\"ModifyIndex\":%llu}", (unsigned long long)key->index);
	}
	putc(']', file);
	return n;
}

/* The reply that was made for the request in this place, or none. */
static struct reply *reply_at(struct model *model, unsigned place)
{
	struct http_request *request = fake_http_at(place);
	struct reply *reply = &model->replies[place];

	if (reply->body && (!request || request->url != reply->url))
		drop_reply(reply);
	return reply;
}

static void make_reply(struct model *model, unsigned place)
{
	struct reply *reply = reply_at(model, place);
	struct question question = parse(fake_http_at(place)->url);
	uint64_t index = index_of(model, question.prefix);
	size_t len;
	FILE *file;

	if (reply->body)
		return;
	if (model->lies && question.lists && !question.blocks) {
		index = model->lie;
		model->lies = false;
	}
	file = open_memstream(&reply->body, &len);
	assert_non_null(file);
	reply->url = fake_http_at(place)->url;
	reply->status = put_body(file, model, &question) > 0 ? 200 : 404;
	fclose(file);
	snprintf(reply->index, sizeof(reply->index), "%llu", (unsigned long long)index);
}

static void answer(struct model *model, unsigned place)
{
	struct http_request *request = fake_http_at(place);
	struct question question = parse(request->url);
	struct reply reply;

	if (model->n_answered < ARRAY_SIZE(model->answered))
		model->answered[model->n_answered++] = strdup(request->url);
	if (model->is_away) {
		fake_http_fail(request, -ECONNREFUSED, "no connection");
		return;
	}
	if (question.lists && model->may_not_list) {
		fake_http_answer(request, 403, NULL, "Permission denied");
		return;
	}
	make_reply(model, place);
	reply = model->replies[place];
	model->replies[place] = (struct reply){ 0 };
	fake_http_answer(request, reply.status, reply.index, reply.status == 200 ? reply.body : "");
	drop_reply(&reply);
}

void model_rewind(struct model *model, const char *value)
{
	uint64_t index = 50;

	for (unsigned i = 0; i < model->n_keys; i++) {
		snprintf(model->keys[i].value, sizeof(model->keys[i].value), "%s", value);
		model->keys[i].index = ++index;
	}
	model->n_tombstones = 0;
}

void model_restore(struct model *model, const char *value)
{
	char *polls[FAKE_HTTP_MAX] = { NULL };

	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++) {
		struct http_request *request = fake_http_at(i);

		if (request && parse(request->url).blocks)
			polls[i] = request->url;
	}
	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++)
		if (polls[i] && fake_http_at(i) && fake_http_at(i)->url == polls[i])
			answer(model, i);
	model_rewind(model, value);
}

/* A place with a request that can be answered now; -1: there is none. */
static int choose(struct model *model, uint32_t random)
{
	unsigned ready[FAKE_HTTP_MAX] = { 0 };
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++) {
		struct http_request *request = fake_http_at(i);

		if (request && !reply_at(model, i)->is_held &&
			(reply_at(model, i)->body || is_ready(model, request)))
			ready[n++] = i;
	}
	return n > 0 ? (int)ready[random % n] : -1;
}

bool model_answer_one(struct model *model, uint32_t random)
{
	int place = choose(model, random);

	if (place >= 0)
		answer(model, (unsigned)place);
	return place >= 0;
}

void model_decide_one(struct model *model, uint32_t random)
{
	int place = choose(model, random);

	if (place >= 0)
		make_reply(model, (unsigned)place);
}

void model_hold(struct model *model, const char *part)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++) {
		if (!fake_http_at(i) || !strstr(fake_http_at(i)->url, part))
			continue;
		make_reply(model, i);
		model->replies[i].is_held = true;
		n++;
	}
	assert_true(n > 0);
}

void model_release(struct model *model)
{
	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++)
		model->replies[i].is_held = false;
}

void model_run(struct model *model, uint64_t usec)
{
	for (uint64_t at = 0; at < usec; at += STEP) {
		while (model_answer_one(model, 0))
			fake_loop_advance(0);
		fake_loop_advance(STEP);
	}
}

unsigned model_n_polls(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < FAKE_HTTP_MAX; i++) {
		struct http_request *request = fake_http_at(i);

		n += request && parse(request->url).blocks;
	}
	return n;
}

void model_forget_answered(struct model *model)
{
	while (model->n_answered > 0)
		free(model->answered[--model->n_answered]);
}

unsigned model_n_answered(const struct model *model, const char *part)
{
	unsigned n = 0;

	for (unsigned i = 0; i < model->n_answered; i++)
		n += strstr(model->answered[i], part) != NULL;
	return n;
}

const char *model_key(
	const struct model *model, const char *prefix, unsigned n, const char **ret_value)
{
	for (unsigned i = 0; i < model->n_keys; i++) {
		if (!begins_with(model->keys[i].name, prefix) || n-- > 0)
			continue;
		*ret_value = model->keys[i].value;
		return model->keys[i].name + strlen(prefix);
	}
	return NULL;
}
