#include "client/tools/rendering.h"

#include <stdio.h>

#include "client/tools/envname.h"
#include "client/tools/variables.h"
#include "proto/key.h"

#define TROUBLE 512

static const char *const formats[] = {
	[RENDERING_ENV] = "env",
	[RENDERING_JSON] = "json",
	[RENDERING_PROPERTIES] = "properties",
	[RENDERING_DIR] = "dir",
};

int rendering_format(const char *name, enum rendering_format *ret_format)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (std_streq(formats[i], name)) {
			*ret_format = (enum rendering_format)i;
			return 0;
		}
	return -EINVAL;
}

static int refuse(const struct ccfg_entry *entry, const char *why, char trouble[TROUBLE])
{
	char key[128];

	snprintf(trouble, TROUBLE, "the value of key %s %s",
		key_escape(entry->key, entry->key_len, key, sizeof(key)), why);
	return -EINVAL;
}

/* --- env -------------------------------------------------------------------------------------- */

/* systemd takes neither control bytes nor broken UTF-8. */
static bool is_env_value(const struct ccfg_entry *entry)
{
	for (size_t i = 0; i < entry->value_len; i++) {
		unsigned char c = (unsigned char)entry->value[i];

		if ((c < 0x20 && c != '\t' && c != '\n') || c == 0x7f)
			return false;
	}
	return key_is_utf8(entry->value, entry->value_len);
}

static int make_env(const ccfg_view *view, struct output *output, char trouble[TROUBLE])
{
	struct variables variables = { .keys = "", .prefix = "", .takes_all = true };
	struct ccfg_entry entry = { .size = sizeof(entry) };
	char name[ENVNAME_SIZE];
	size_t cursor = 0;
	int r = variables_fill(&variables, view);

	if (r == -EEXIST)
		snprintf(trouble, TROUBLE, "%s", variables.trouble);
	variables_done(&variables);
	if (r < 0)
		return r == -EEXIST ? -EINVAL : r;
	while (ccfg_view_next(view, "", &cursor, &entry)) {
		if (!is_env_value(&entry))
			return refuse(&entry,
				"has control bytes or is not UTF-8: an environment file cannot hold "
				"it",
				trouble);
		output_text(output, envname_of(entry.key, entry.key_len, name));
		output_text(output, "=");
		output_env_file(output, entry.value, entry.value_len);
		output_text(output, "\n");
	}
	return 0;
}

/* --- json, properties ------------------------------------------------------------------------- */

static int make_json(const ccfg_view *view, struct output *output)
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	size_t cursor = 0;
	const char *lead = "{";

	while (ccfg_view_next(view, "", &cursor, &entry)) {
		output_text(output, lead);
		output_json(output, entry.key, entry.key_len);
		output_text(output, ": ");
		output_json(output, entry.value, entry.value_len);
		lead = ",\n ";
	}
	output_text(output, lead[0] == '{' ? "{}\n" : "}\n");
	return 0;
}

/* The code point at text[*at], which is UTF-8. */
static uint32_t next_point(const char *text, size_t *at)
{
	unsigned char c = (unsigned char)text[(*at)++];
	unsigned n_more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
	uint32_t point = n_more == 0 ? c : c & (0x3fu >> n_more);

	while (n_more-- > 0)
		point = point << 6 | ((unsigned char)text[(*at)++] & 0x3f);
	return point;
}

/* As Properties.load() reads it back: ASCII, the rest in UTF-16 units. */
static void put_point(struct output *output, uint32_t point, const char *special)
{
	char text[16];

	if (point > 0xffff) {
		point -= 0x10000;
		snprintf(text, sizeof(text), "\\u%04x\\u%04x", 0xd800 + (point >> 10),
			0xdc00 + (point & 0x3ff));
	} else if (point < 0x20 || point >= 0x7f) {
		snprintf(text, sizeof(text), "\\u%04x", point);
	} else {
		snprintf(text, sizeof(text), "%s%c", strchr(special, (int)point) ? "\\" : "",
			(int)point);
	}
	output_text(output, text);
}

static void put_property(struct output *output, const char *text, size_t len, bool is_key)
{
	for (size_t at = 0; at < len;)
		/* Of a value only spaces in front are eaten. */
		put_point(output, next_point(text, &at),
			is_key	  ? " :=#!\\"
			: at <= 1 ? " \\"
				  : "\\");
}

static int make_properties(const ccfg_view *view, struct output *output, char trouble[TROUBLE])
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	size_t cursor = 0;

	while (ccfg_view_next(view, "", &cursor, &entry)) {
		if (!key_is_utf8(entry.value, entry.value_len))
			return refuse(&entry, "is not UTF-8: properties cannot hold it", trouble);
		put_property(output, entry.key, entry.key_len, true);
		output_text(output, "=");
		put_property(output, entry.value, entry.value_len, false);
		output_text(output, "\n");
	}
	return 0;
}

/* --- templates -------------------------------------------------------------------------------- */

static unsigned line_of(const char *template, const char *at)
{
	unsigned line = 1;

	for (const char *p = template; p < at; p++)
		line += *p == '\n';
	return line;
}

/* `at` is behind "${". Behind the "}" again, or NULL. */
static const char *put_key(const char *template, const char *at, const ccfg_view *view,
	struct output *output, char trouble[TROUBLE])
{
	size_t len = strcspn(at, "}\n"), value_len;
	const char *value;
	char key[128];

	if (at[len] != '}' || len == 0) {
		snprintf(trouble, TROUBLE,
			"line %u of the template has a ${ without a key and its }: write $${ for "
			"the two bytes themselves",
			line_of(template, at));
		return NULL;
	}
	value = ccfg_view_get(view, at, len, &value_len);
	if (!value) {
		snprintf(trouble, TROUBLE,
			"line %u of the template wants key %s, which is not there",
			line_of(template, at), key_escape(at, len, key, sizeof(key)));
		return NULL;
	}
	output_bytes(output, value, value_len);
	return at + len + 1;
}

static int make_template(
	const char *template, const ccfg_view *view, struct output *output, char trouble[TROUBLE])
{
	const char *at = template;

	while (*at != '\0') {
		if (strncmp(at, "$${", 3) == 0) {
			output_text(output, "${");
			at += 3;
		} else if (strncmp(at, "${", 2) == 0) {
			at = put_key(template, at + 2, view, output, trouble);
			if (!at)
				return -EINVAL;
		} else {
			size_t len = 1 + strcspn(at + 1, "$");

			output_bytes(output, at, len);
			at += len;
		}
	}
	return 0;
}

int rendering_make(enum rendering_format format, const char *template, const ccfg_view *view,
	struct output *output, char trouble[TROUBLE])
{
	int r = -EINVAL;

	trouble[0] = '\0';
	switch (format) {
	case RENDERING_ENV:
		r = make_env(view, output, trouble);
		break;
	case RENDERING_JSON:
		r = make_json(view, output);
		break;
	case RENDERING_PROPERTIES:
		r = make_properties(view, output, trouble);
		break;
	case RENDERING_TEMPLATE:
		r = make_template(template, view, output, trouble);
		break;
	case RENDERING_DIR:
		break;
	}
	return r == 0 && output->has_failed ? -ENOMEM : r;
}
