#include "daemon/judge.h"

#include <fcntl.h>
#include <stdio.h>

static bool is_file(const struct judge *judge)
{
	return judge->source && judge->source[0] == '/';
}

static int set_trouble(struct judge *judge, const char *why)
{
	free(judge->trouble);
	if (asprintf(&judge->trouble, "schema %.60s is not used: %.220s", judge->source, why) >= 0)
		return 0;
	judge->trouble = NULL;
	return -ENOMEM;
}

/* What the file says is parsed in slices by the first look at a configuration. */
static int read_file(struct judge *judge)
{
	AUTO_CLOSE int fd = open(judge->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	AUTO_FREE char *text = malloc(LIMIT_SCHEMA + 1);
	size_t len = 0;
	ssize_t n = -1;

	if (!text)
		return -ENOMEM;
	while (fd >= 0 && len <= LIMIT_SCHEMA &&
		(n = read(fd, text + len, LIMIT_SCHEMA + 1 - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return set_trouble(judge, strerror(errno));
	judge->text = TAKE_PTR(text);
	judge->text_len = len;
	return 0;
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

int judge_read(struct judge *judge)
{
	char message[SCHEMA_MESSAGE];
	int r = 0;

	if (judge->text)
		r = schema_parse(judge->text, judge->text_len, &judge->schema, message);
	free(judge->text);
	judge->text = NULL;
	return r == -EINVAL ? set_trouble(judge, message) : r;
}

void judge_done(struct judge *judge)
{
	free(judge->source);
	free(judge->text);
	free(judge->trouble);
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
	j->parser = schema_parser_free(j->parser);
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

/* schema: NULL: there is none. */
static int begin(struct judge_run *j, const struct schema *schema)
{
	j->phase = JUDGE_CHECK;
	j->off = 0;
	return schema ? schema_check_init(&j->check, schema) : 0;
}

static int begin_parsing(struct judge_run *j, const char *text, size_t len)
{
	j->phase = JUDGE_PARSE;
	free(j->judge->trouble);
	j->judge->trouble = NULL;
	return schema_parser_new(text, len, &j->parser);
}

static int find_file(struct judge_run *j)
{
	struct judge *judge = j->judge;

	return judge->text ? begin_parsing(j, judge->text, judge->text_len)
			   : begin(j, judge->schema);
}

/* Looks for the entry that holds the schema. */
static int find_key(struct judge_run *j)
{
	struct judge *judge = j->judge;
	size_t key_len = strlen(judge->source);
	struct record record;

	for (unsigned i = 0; i < LIMIT_SLICE_ENTRIES; i++) {
		if (!next(j, &record)) {
			int r = set_trouble(judge, "the service has no such key");

			return r < 0 ? r : begin(j, NULL);
		}
		if (record.key_len == key_len && memcmp(record.key, judge->source, key_len) == 0)
			return begin_parsing(j, record.value, record.value_len);
	}
	return 0;
}

static int parse_some(struct judge_run *j)
{
	struct judge *judge = j->judge;
	struct schema **place = is_file(judge) ? &judge->schema : &j->own;
	char message[SCHEMA_MESSAGE];
	int r = schema_parser_step(j->parser, place, message);

	if (r > 0 || r == -ENOMEM)
		return r;
	if (r < 0 && set_trouble(judge, message) < 0)
		return -ENOMEM;
	free(judge->text);
	judge->text = NULL;
	j->parser = schema_parser_free(j->parser);
	return begin(j, *place);
}

/* 1: more to do. */
static int check_some(struct judge_run *j)
{
	size_t cursor = 0;

	j->check.cost = 0;
	while (j->check.cost < SCHEMA_SLICE_COST) {
		int r;

		if (!j->has_entry)
			j->has_entry = next(j, &j->entry);
		if (!j->has_entry)
			return schema_check_end(&j->check, &cursor) < 0 ? -EKEYREJECTED : 0;
		r = schema_check_entry(&j->check, &j->entry);
		if (r < 0)
			return -EKEYREJECTED;
		j->has_entry = r > 0;
	}
	return 1;
}

int judge_run_step(struct judge_run *j)
{
	int r = 0;

	if (!j->judge->source)
		return 0;
	switch (j->phase) {
	case JUDGE_FIND:
		r = is_file(j->judge) ? find_file(j) : find_key(j);
		break;
	case JUDGE_PARSE:
		r = parse_some(j);
		break;
	case JUDGE_CHECK:
		return j->check.schema ? check_some(j) : 0;
	}
	return r < 0 ? r : 1;
}
