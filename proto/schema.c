#include "proto/schema.h"

#include <stdarg.h>
#include <stdio.h>

#include "proto/glob.h"
#include "proto/key.h"
#include "proto/pattern.h"
#include "proto/value.h"

enum type {
	TYPE_STRING,
	TYPE_BYTES,
	TYPE_INTEGER,
	TYPE_BOOLEAN,
	TYPE_DOUBLE,
	TYPE_DURATION,
	TYPE_NONE
};

static const char *const types[] = {
	[TYPE_STRING] = "string",
	[TYPE_BYTES] = "bytes",
	[TYPE_INTEGER] = "integer",
	[TYPE_BOOLEAN] = "boolean",
	[TYPE_DOUBLE] = "double",
	[TYPE_DURATION] = "duration",
	[TYPE_NONE] = "none",
};

/* A bound as it was written, for messages, and as the number it is compared by. */
struct bound {
	char *text; /* NULL: none */
	double number;
	int64_t integer; /* of TYPE_INTEGER: a double has 53 bits only */
};

struct line {
	char *glob;
	size_t glob_len;
	bool has_wildcard;
	enum type type;
	bool is_required;
	struct bound min, max;
	struct pattern *pattern; /* NULL: none */
	char *pattern_text;
};

struct schema {
	struct line *lines;
	size_t n_lines;
};

PRINTF_FORMAT(3, 4)
static int fail(char message[SCHEMA_MESSAGE], size_t line, const char *format, ...)
{
	va_list arguments;
	int n = snprintf(message, SCHEMA_MESSAGE, "line %zu: ", line);

	va_start(arguments, format);
	vsnprintf(message + n, SCHEMA_MESSAGE - (size_t)n, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static void line_done(struct line *line)
{
	free(line->glob);
	free(line->min.text);
	free(line->max.text);
	pattern_free(line->pattern);
	free(line->pattern_text);
}

struct schema *schema_free(struct schema *schema)
{
	if (!schema)
		return NULL;
	for (size_t i = 0; i < schema->n_lines; i++)
		line_done(&schema->lines[i]);
	free(schema->lines);
	free(schema);
	return NULL;
}

/* --- parsing ------------------------------------------------------------------------------------
 */

/* What a value of this type is compared by. 0, or as proto/value.h. */
static int number_of(
	enum type type, const char *text, size_t len, double *ret_number, int64_t *ret_integer)
{
	uint64_t usec;
	int r;

	switch (type) {
	case TYPE_INTEGER:
		r = value_int64(text, len, ret_integer);
		*ret_number = 0;
		return r;
	case TYPE_DOUBLE:
		return value_double(text, len, ret_number);
	case TYPE_DURATION:
		r = value_duration_us(text, len, &usec);
		if (r == 0)
			*ret_number = (double)usec;
		return r;
	default:
		return -EINVAL;
	}
}

/* Lengths are integers, too. */
static int compare(enum type type, const struct bound *bound, double number, int64_t integer)
{
	if (type != TYPE_DOUBLE && type != TYPE_DURATION)
		return (integer > bound->integer) - (integer < bound->integer);
	return (number > bound->number) - (number < bound->number);
}

static int set_bound(enum type type, const char *text, struct bound *bound)
{
	/* Of texts the length is bounded. */
	bool is_length = type == TYPE_STRING || type == TYPE_BYTES;
	int r = number_of(is_length ? TYPE_INTEGER : type, text, strlen(text), &bound->number,
		&bound->integer);

	if (r < 0)
		return -EINVAL;
	if (bound->text)
		return -EEXIST;
	bound->text = strdup(text);
	return bound->text ? 0 : -ENOMEM;
}

static int set_pattern(
	struct line *line, const char *text, size_t number, char message[SCHEMA_MESSAGE])
{
	const char *why;
	int r = pattern_new(text, &line->pattern, &why);

	if (r == -EINVAL)
		return fail(message, number, "the pattern does not read: %s", why);
	if (r < 0)
		return r;
	line->pattern_text = strdup(text);
	return line->pattern_text ? 0 : -ENOMEM;
}

static int set_type(
	struct line *line, const char *word, size_t number, char message[SCHEMA_MESSAGE])
{
	char shown[64];

	for (size_t i = 0; word && i < ARRAY_SIZE(types); i++)
		if (std_streq(types[i], word)) {
			line->type = (enum type)i;
			return 0;
		}
	return fail(message, number,
		"'%s' is no type; write string, bytes, integer, boolean, double, duration or none",
		word ? key_escape(word, strlen(word), shown, sizeof(shown)) : "");
}

static int set_word(
	struct line *line, const char *word, size_t number, char message[SCHEMA_MESSAGE])
{
	bool is_min = strncmp(word, "min=", 4) == 0, is_max = strncmp(word, "max=", 4) == 0;
	char shown[64];

	if (is_min || is_max) {
		int r = set_bound(line->type, word + 4, is_min ? &line->min : &line->max);

		key_escape(word, strlen(word), shown, sizeof(shown));
		if (r == -EEXIST)
			return fail(message, number, "%s: there is another one", shown);
		return r == -EINVAL ? fail(message, number, "%s is no bound of type %s", shown,
					      types[line->type])
				    : r;
	}
	if (!std_streq(word, "required"))
		return fail(message, number,
			"'%s' is not known; write required, min=, max= or, as the last, pattern=",
			key_escape(word, strlen(word), shown, sizeof(shown)));
	if (line->has_wildcard || line->type == TYPE_NONE)
		return fail(
			message, number, "a glob, or a key that must not be, cannot be required");
	line->is_required = true;
	return 0;
}

static int set_glob(
	struct line *line, const char *word, size_t number, char message[SCHEMA_MESSAGE])
{
	line->glob = strdup(word ? word : "");
	if (!line->glob)
		return -ENOMEM;
	line->glob_len = strlen(line->glob);
	line->has_wildcard = line->glob[strcspn(line->glob, "*?")] != '\0';
	if (line->has_wildcard && line->glob_len > LIMIT_SCHEMA_GLOB)
		return fail(message, number, "the glob is longer than %d bytes", LIMIT_SCHEMA_GLOB);
	return 0;
}

static bool has_no_values(const struct line *line)
{
	return line->min.text && line->max.text &&
	       compare(line->type, &line->max, line->min.number, line->min.integer) > 0;
}

/* A line without its newline, which is cut into words in place. */
static int parse_line(struct line *line, char *text, size_t number, char message[SCHEMA_MESSAGE])
{
	char *pattern = strstr(text, " pattern="), *save, *word;
	int r;

	if (!pattern)
		pattern = strstr(text, "\tpattern=");
	if (pattern) {
		*pattern = '\0';
		pattern += strlen(" pattern=");
	}
	word = strtok_r(text, " \t", &save);
	r = set_glob(line, word, number, message);
	if (r < 0)
		return r;
	r = set_type(line, strtok_r(NULL, " \t", &save), number, message);
	while (r == 0 && (word = strtok_r(NULL, " \t", &save)))
		r = set_word(line, word, number, message);
	if (r == 0 && has_no_values(line))
		return fail(message, number, "min= is above max=: no value would be good");
	if (r == 0 && pattern)
		r = set_pattern(line, pattern, number, message);
	return r;
}

static int add_line(struct schema *schema, char *text, size_t number, char message[SCHEMA_MESSAGE])
{
	size_t len = strlen(text);
	struct line *lines;

	if (len > 0 && text[len - 1] == '\r')
		text[--len] = '\0';
	text += strspn(text, " \t");
	if (*text == '\0' || *text == '#')
		return 0;
	if (schema->n_lines == LIMIT_SCHEMA_LINES)
		return fail(message, number, "there are more than %d lines", LIMIT_SCHEMA_LINES);
	lines = reallocarray(schema->lines, schema->n_lines + 1, sizeof(*lines));
	if (!lines)
		return -ENOMEM;
	schema->lines = lines;
	lines[schema->n_lines] = (struct line){ 0 };
	return parse_line(&lines[schema->n_lines++], text, number, message);
}

struct schema_parser {
	char *text; /* a copy, which is cut into lines */
	char *at; /* NULL: behind the last line */
	size_t number; /* of the line at `at` */
	bool is_text;
	struct schema *schema;
};

int schema_parser_new(const char *text, size_t len, struct schema_parser **ret_parser)
{
	struct schema_parser *parser = calloc(1, sizeof(*parser));

	if (!parser)
		return -ENOMEM;
	/* Of what is too long the beginning is enough. */
	parser->text = parser->at = strndup(text, MIN(len, (size_t)LIMIT_SCHEMA));
	parser->schema = calloc(1, sizeof(*parser->schema));
	if (!parser->text || !parser->schema) {
		schema_parser_free(parser);
		return -ENOMEM;
	}
	parser->number = 1;
	parser->is_text = strlen(parser->text) == len && key_is_utf8(text, len);
	*ret_parser = parser;
	return 0;
}

struct schema_parser *schema_parser_free(struct schema_parser *parser)
{
	if (!parser)
		return NULL;
	schema_free(parser->schema);
	free(parser->text);
	free(parser);
	return NULL;
}

int schema_parser_step(
	struct schema_parser *parser, struct schema **ret_schema, char message[SCHEMA_MESSAGE])
{
	if (!parser->is_text)
		return fail(message, 1, "not a schema: above %d bytes, or not UTF-8 text",
			LIMIT_SCHEMA);
	for (unsigned i = 0; i < LIMIT_SCHEMA_SLICE && parser->at; i++) {
		char *line = strsep(&parser->at, "\n");
		int r = add_line(parser->schema, line, parser->number++, message);

		if (r < 0)
			return r;
	}
	if (parser->at)
		return 1;
	*ret_schema = TAKE_PTR(parser->schema);
	return 0;
}

int schema_parse(
	const char *text, size_t len, struct schema **ret_schema, char message[SCHEMA_MESSAGE])
{
	struct schema_parser *parser;
	int r = schema_parser_new(text, len, &parser);

	message[0] = '\0';
	if (r < 0)
		return r;
	do
		r = schema_parser_step(parser, ret_schema, message);
	while (r > 0);
	schema_parser_free(parser);
	return r;
}

/* --- checking -----------------------------------------------------------------------------------
 */

int schema_check_init(struct schema_check *check, const struct schema *schema)
{
	*check = (struct schema_check){
		.schema = schema,
		.seen = calloc(schema->n_lines + 1, sizeof(*check->seen)),
	};
	return check->seen ? 0 : -ENOMEM;
}

void schema_check_done(struct schema_check *check)
{
	free(check->seen);
	check->seen = NULL;
}

PRINTF_FORMAT(3, 4)
static int complain(struct schema_check *check, const char *key, const char *format, ...)
{
	char shown[96], why[128];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(why, sizeof(why), format, arguments);
	va_end(arguments);
	snprintf(check->message, sizeof(check->message), "key %s %s",
		key_escape(key, strlen(key), shown, sizeof(shown)), why);
	return -EINVAL;
}

static int check_range(struct schema_check *check, const struct line *line,
	const struct record *entry, double number, int64_t integer)
{
	bool is_length = line->type == TYPE_STRING || line->type == TYPE_BYTES;
	const char *what = is_length ? "its length" : "it";

	if (line->min.text && compare(line->type, &line->min, number, integer) < 0)
		return complain(
			check, entry->key, "is out of range: %s is below %s", what, line->min.text);
	if (line->max.text && compare(line->type, &line->max, number, integer) > 0)
		return complain(
			check, entry->key, "is out of range: %s is above %s", what, line->max.text);
	return 0;
}

/* One piece of a string, which ends where a character does. 1: there is more. */
static int check_utf8(struct schema_check *check, const struct record *entry)
{
	const char *text = entry->value + check->text_at;
	size_t left = entry->value_len - check->text_at,
	       len = MIN(left, (size_t)LIMIT_SCHEMA_PIECE);

	for (unsigned i = 0; i < 3 && len < left && (text[len] & 0xc0) == 0x80; i++)
		len--;
	check->cost += len / 4;
	check->text_at = 0;
	if (!key_is_utf8(text, len))
		return -EINVAL;
	if (len == left)
		return 0;
	check->text_at = (size_t)(text - entry->value) + len;
	return 1;
}

/* 1: there is more to be looked at. */
static int check_type(
	struct schema_check *check, const struct line *line, const struct record *entry)
{
	int64_t integer = entry->value_len;
	double number = 0;
	bool truth;
	int r = 0;

	switch (line->type) {
	case TYPE_NONE:
		return complain(check, entry->key, "must not be there");
	case TYPE_BYTES:
		break;
	case TYPE_STRING:
		r = check_utf8(check, entry);
		break;
	case TYPE_BOOLEAN:
		r = value_bool(entry->value, entry->value_len, &truth);
		break;
	case TYPE_INTEGER:
	case TYPE_DOUBLE:
	case TYPE_DURATION:
		r = number_of(line->type, entry->value, entry->value_len, &number, &integer);
		break;
	}
	if (r < 0)
		return complain(check, entry->key, "is no %s", types[line->type]);
	if (r > 0)
		return r;
	return check_range(check, line, entry, number, integer);
}

static int check_pattern(
	struct schema_check *check, const struct line *line, const struct record *entry)
{
	size_t len = entry->value_len;

	if (len > LIMIT_SCHEMA_TEXT || memchr(entry->value, '\0', len))
		return complain(check, entry->key,
			"is above %d bytes or has NULs: a pattern is no use there",
			LIMIT_SCHEMA_TEXT);
	/* One trailing newline is ignored, as everywhere. */
	len -= len > 0 && entry->value[len - 1] == '\n';
	if (!pattern_is_in(line->pattern, entry->value, len))
		return complain(
			check, entry->key, "does not match its pattern %.80s", line->pattern_text);
	return 0;
}

/* What it may take to see whether a line is about a key: a '*' tries again at every byte of it. */
static size_t cost_of_line(const struct line *line, const struct record *entry)
{
	return 1 + (size_t)entry->key_len * (line->has_wildcard ? line->glob_len / 4 + 1 : 1) / 16;
}

static size_t cost_of_value(const struct line *line, const struct record *entry)
{
	size_t text_len = MIN(entry->value_len, (uint32_t)LIMIT_SCHEMA_TEXT);

	return (line->type != TYPE_STRING ? entry->value_len / 4 : 0) +
	       (line->pattern ? text_len * pattern_n_states(line->pattern) : 0);
}

/* False: there is more to be looked at. */
static bool check_line(struct schema_check *check, size_t i, const struct record *entry)
{
	const struct line *line = &check->schema->lines[i];
	int r;

	if (check->is_judged && !line->is_required)
		return true;
	check->cost += cost_of_line(line, entry);
	if (!glob_matches(line->glob, entry->key, entry->key_len))
		return true;
	check->seen[i] = true;
	if (check->is_judged)
		return true;
	r = check_type(check, line, entry);
	if (r > 0)
		return false;
	check->is_judged = true;
	check->cost += cost_of_value(line, entry);
	check->verdict = r;
	if (check->verdict == 0 && line->pattern)
		check->verdict = check_pattern(check, line, entry);
	return true;
}

int schema_check_entry(struct schema_check *check, const struct record *entry)
{
	int r;

	check->cost++; /* without lines, too */
	while (check->line < check->schema->n_lines) {
		if (check->cost >= SCHEMA_SLICE_COST)
			return 1;
		check->cost++;
		check->line += check_line(check, check->line, entry);
	}
	check->line = 0;
	check->is_judged = false;
	r = check->verdict;
	check->verdict = 0;
	return r;
}

int schema_check_end(struct schema_check *check, size_t *cursor)
{
	while (*cursor < check->schema->n_lines) {
		size_t i = (*cursor)++;

		if (check->schema->lines[i].is_required && !check->seen[i])
			return complain(check, check->schema->lines[i].glob, "is missing");
	}
	return 0;
}
