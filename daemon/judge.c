#include "daemon/judge.h"

#include <fcntl.h>
#include <stdio.h>

#define STEP_COST (256u << 10) /* see schema_cost(): a millisecond */

static bool is_file(const struct judge *judge)
{
	return judge->source && judge->source[0] == '/';
}

static void set_trouble(struct judge *judge, const char *why)
{
	snprintf(judge->trouble, sizeof(judge->trouble), "schema %.60s is not used: %.220s",
		judge->source, why);
}

/* 0, -EINVAL with the trouble said, -ENOMEM. */
static int parse(struct judge *judge, const char *text, size_t len, struct schema **ret_schema)
{
	char message[SCHEMA_MESSAGE];
	int r = schema_parse(text, len, ret_schema, message);

	if (r == -EINVAL)
		set_trouble(judge, message);
	return r;
}

static int read_file(struct judge *judge)
{
	AUTO_CLOSE int fd = open(judge->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	AUTO_FREE char *text = malloc(LIMIT_SCHEMA + 1);
	size_t len = 0;
	ssize_t n = -1;
	int r;

	if (!text)
		return -ENOMEM;
	while (fd >= 0 && len <= LIMIT_SCHEMA &&
		(n = read(fd, text + len, LIMIT_SCHEMA + 1 - len)) > 0)
		len += (size_t)n;
	if (n < 0) {
		set_trouble(judge, strerror(errno));
		return 0;
	}
	r = parse(judge, text, len, &judge->schema);
	return r == -EINVAL ? 0 : r;
}

int judge_configure(struct judge *judge, const char *source)
{
	judge_done(judge);
	if (!source)
		return 0;
	judge->source = strdup(source);
	if (!judge->source)
		return -ENOMEM;
	return is_file(judge) ? read_file(judge) : 0;
}

void judge_done(struct judge *judge)
{
	free(judge->source);
	schema_free(judge->schema);
	*judge = (struct judge){ 0 };
}

void judge_run_init(struct judge_run *j, struct judge *judge, const struct records *records)
{
	*j = (struct judge_run){ .judge = judge, .records = records };
}

void judge_run_done(struct judge_run *j)
{
	schema_check_done(&j->check);
	j->own = schema_free(j->own);
}

static bool next(struct judge_run *j, struct record *ret_record)
{
	size_t end = 0;

	if (j->off < j->records->size)
		end = record_decode(j->records->data, j->records->size, j->off, ret_record);
	if (end != 0)
		j->off = end;
	return end != 0;
}

static int begin(struct judge_run *j, const struct schema *schema)
{
	j->has_schema = true;
	j->off = 0;
	return schema ? schema_check_init(&j->check, schema) : 0;
}

/* Looks for the entry that holds the schema. */
static int find_schema(struct judge_run *j)
{
	struct judge *judge = j->judge;
	size_t key_len = strlen(judge->source);
	struct record record;

	if (is_file(judge))
		return begin(j, judge->schema);
	for (unsigned i = 0; i < LIMIT_SLICE_ENTRIES; i++) {
		int r;

		if (!next(j, &record)) {
			set_trouble(judge, "the service has no such key");
			return begin(j, NULL);
		}
		if (record.key_len != key_len || memcmp(record.key, judge->source, key_len) != 0)
			continue;
		judge->trouble[0] = '\0';
		r = parse(judge, record.value, record.value_len, &j->own);
		return r == -ENOMEM ? r : begin(j, j->own);
	}
	return 0;
}

static int check_some(struct judge_run *j)
{
	size_t cost = 0, cursor = 0;
	struct record record;

	while (cost < STEP_COST) {
		if (!next(j, &record))
			return schema_check_end(&j->check, &cursor) < 0 ? -EKEYREJECTED : 0;
		if (schema_check_entry(&j->check, &record) < 0)
			return -EKEYREJECTED;
		cost += schema_cost(j->check.schema, &record);
	}
	return 1;
}

int judge_run_step(struct judge_run *j)
{
	int r;

	if (!j->judge->source)
		return 0;
	if (j->has_schema)
		return j->check.schema ? check_some(j) : 0;
	r = find_schema(j);
	return r < 0 ? r : 1;
}
