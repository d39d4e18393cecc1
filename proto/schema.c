#include "proto/schema.h"

#include <regex.h>
#include <stdarg.h>
#include <stdio.h>

#include "proto/glob.h"
#include "proto/key.h"
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
	enum type type;
	bool is_required;
	struct bound min, max;
	char *pattern; /* NULL: none */
	regex_t regex;
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
	if (line->pattern)
		regfree(&line->regex);
	free(line->pattern);
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

static int set_bound(enum type type, const char *text, struct bound *bound)
{
	/* Of texts the length is bounded. */
	bool is_length = type == TYPE_STRING || type == TYPE_BYTES;
	int r = number_of(is_length ? TYPE_INTEGER : type, text, strlen(text), &bound->number,
		&bound->integer);

	if (r < 0 || bound->text)
		return -EINVAL;
	bound->text = strdup(text);
	return bound->text ? 0 : -ENOMEM;
}

/*
 * Back references take exponential time, repeated repetitions exponential memory: a pattern has
 * none of the first, and its repetitions make at most LIMIT_SCHEMA_REPEAT copies.
 */
static bool is_bounded(const char *pattern)
{
	unsigned long copies = 1;

	for (const char *p = pattern; *p != '\0'; p++) {
		unsigned long highest = 0;

		if (*p == '\\' && p[1] >= '1' && p[1] <= '9')
			return false;
		if (*p == '\\' && p[1] != '\0') {
			p++;
			continue;
		}
		if (*p != '{')
			continue;
		for (const char *q = p + 1; *q != '\0' && *q != '}'; q++)
			if (*q >= '0' && *q <= '9') {
				char *end;
				unsigned long n = strtoul(q, &end, 10);

				highest = MAX(highest, MIN(n, LIMIT_SCHEMA_REPEAT + 1ul));
				q = end - 1;
			}
		copies *= MAX(highest, 1ul);
		if (copies > LIMIT_SCHEMA_REPEAT)
			return false;
	}
	return true;
}

static int set_pattern(
	struct line *line, const char *pattern, size_t number, char message[SCHEMA_MESSAGE])
{
	char why[128];
	int error;

	if (strlen(pattern) > LIMIT_SCHEMA_PATTERN || !is_bounded(pattern))
		return fail(message, number,
			"the pattern is longer than %d bytes, repeats more than %d times, or refers "
			"back to a group",
			LIMIT_SCHEMA_PATTERN, LIMIT_SCHEMA_REPEAT);
	error = regcomp(&line->regex, pattern, REG_EXTENDED | REG_NOSUB);
	if (error != 0) {
		regerror(error, &line->regex, why, sizeof(why));
		return fail(message, number, "the pattern does not read: %s", why);
	}
	line->pattern = strdup(pattern);
	if (!line->pattern) {
		regfree(&line->regex);
		return -ENOMEM;
	}
	return 0;
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

		return r == -EINVAL ? fail(message, number, "%s is no bound of a %s",
					      key_escape(word, strlen(word), shown, sizeof(shown)),
					      types[line->type])
				    : r;
	}
	if (!std_streq(word, "required"))
		return fail(message, number,
			"'%s' is not known; write required, min=, max= or, as the last, pattern=",
			key_escape(word, strlen(word), shown, sizeof(shown)));
	if (line->glob[strcspn(line->glob, "*?")] != '\0' || line->type == TYPE_NONE)
		return fail(
			message, number, "a glob, or a key that must not be, cannot be required");
	line->is_required = true;
	return 0;
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
	line->glob = strdup(word ? word : "");
	if (!line->glob)
		return -ENOMEM;
	r = set_type(line, strtok_r(NULL, " \t", &save), number, message);
	while (r == 0 && (word = strtok_r(NULL, " \t", &save)))
		r = set_word(line, word, number, message);
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

int schema_parse(
	const char *text, size_t len, struct schema **ret_schema, char message[SCHEMA_MESSAGE])
{
	AUTO_FREE char *copy = strndup(text, len);
	struct schema *schema = calloc(1, sizeof(*schema));
	int r = copy && schema ? 0 : -ENOMEM;
	char *at = copy;

	message[0] = '\0';
	if (r == 0 && (len > LIMIT_SCHEMA || strlen(copy) != len || !key_is_utf8(text, len)))
		r = fail(message, 1, "not a schema: above %d bytes, or not UTF-8 text",
			LIMIT_SCHEMA);
	for (size_t number = 1; r == 0 && at; number++) {
		char *line = strsep(&at, "\n");

		r = add_line(schema, line, number, message);
	}
	if (r < 0)
		schema_free(schema);
	else
		*ret_schema = schema;
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

static int compare(const struct bound *bound, double number, int64_t integer, bool is_integer)
{
	if (is_integer)
		return (integer > bound->integer) - (integer < bound->integer);
	return (number > bound->number) - (number < bound->number);
}

static int check_range(struct schema_check *check, const struct line *line,
	const struct record *entry, double number, int64_t integer)
{
	bool is_integer = line->type != TYPE_DOUBLE && line->type != TYPE_DURATION;
	bool is_length = line->type == TYPE_STRING || line->type == TYPE_BYTES;
	const char *what = is_length ? "its length" : "it";

	if (line->min.text && compare(&line->min, number, integer, is_integer) < 0)
		return complain(
			check, entry->key, "is out of range: %s is below %s", what, line->min.text);
	if (line->max.text && compare(&line->max, number, integer, is_integer) > 0)
		return complain(
			check, entry->key, "is out of range: %s is above %s", what, line->max.text);
	return 0;
}

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
		r = key_is_utf8(entry->value, entry->value_len) ? 0 : -EINVAL;
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
	return check_range(check, line, entry, number, integer);
}

static int check_pattern(
	struct schema_check *check, const struct line *line, const struct record *entry)
{
	size_t len = entry->value_len;
	char text[LIMIT_SCHEMA_TEXT + 1];

	if (len > LIMIT_SCHEMA_TEXT || memchr(entry->value, '\0', len))
		return complain(check, entry->key,
			"is above %d bytes or has NULs: a pattern is no use there",
			LIMIT_SCHEMA_TEXT);
	/* One trailing newline is ignored, as everywhere. */
	len -= len > 0 && entry->value[len - 1] == '\n';
	memcpy(text, entry->value, len);
	text[len] = '\0';
	if (regexec(&line->regex, text, 0, NULL, 0) != 0)
		return complain(
			check, entry->key, "does not match its pattern %.80s", line->pattern);
	return 0;
}

int schema_check_entry(struct schema_check *check, const struct record *entry)
{
	bool is_judged = false;
	int r = 0;

	for (size_t i = 0; i < check->schema->n_lines; i++) {
		const struct line *line = &check->schema->lines[i];

		if ((is_judged && !line->is_required) ||
			!glob_matches(line->glob, entry->key, entry->key_len))
			continue;
		check->seen[i] = true;
		if (is_judged)
			continue;
		is_judged = true;
		r = check_type(check, line, entry);
		if (r == 0 && line->pattern)
			r = check_pattern(check, line, entry);
	}
	return r;
}

size_t schema_cost(const struct schema *schema, const struct record *entry)
{
	return schema->n_lines + MIN(entry->value_len, (uint32_t)LIMIT_SCHEMA_TEXT);
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
