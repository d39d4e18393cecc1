#include "proto/byte-set.h"

/* Where a set is read. */
struct reader {
	const char *at;
	const char *why;
};

static int fail(struct reader *c, const char *why)
{
	c->why = why;
	return -EINVAL;
}

/* Not those of <ctype.h>: what a pattern means must not depend on the locale of a process. */
static bool is_lower(unsigned c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_upper(unsigned c)
{
	return c >= 'A' && c <= 'Z';
}

static bool is_digit(unsigned c)
{
	return c >= '0' && c <= '9';
}

static bool is_alpha(unsigned c)
{
	return is_lower(c) || is_upper(c);
}

static bool is_alnum(unsigned c)
{
	return is_alpha(c) || is_digit(c);
}

static bool is_xdigit(unsigned c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_blank(unsigned c)
{
	return c == ' ' || c == '\t';
}

static bool is_space(unsigned c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_graph(unsigned c)
{
	return c > ' ' && c < 0x7f;
}

static bool is_print(unsigned c)
{
	return is_graph(c) || c == ' ';
}

static bool is_punct(unsigned c)
{
	return is_graph(c) && !is_alnum(c);
}

static bool is_cntrl(unsigned c)
{
	return c < ' ' || c == 0x7f;
}

static bool is_word(unsigned c)
{
	return is_alnum(c) || c == '_';
}

static const struct {
	const char *name;
	bool (*has)(unsigned c);
} classes[] = {
	{ "[:alpha:]", is_alpha },
	{ "[:digit:]", is_digit },
	{ "[:alnum:]", is_alnum },
	{ "[:lower:]", is_lower },
	{ "[:upper:]", is_upper },
	{ "[:xdigit:]", is_xdigit },
	{ "[:blank:]", is_blank },
	{ "[:space:]", is_space },
	{ "[:graph:]", is_graph },
	{ "[:print:]", is_print },
	{ "[:punct:]", is_punct },
	{ "[:cntrl:]", is_cntrl },
};

static void add(struct byte_set *set, unsigned byte)
{
	set->bits[byte / 8] |= (uint8_t)(1u << byte % 8);
}

static void add_class(struct byte_set *set, bool (*is_in)(unsigned c))
{
	for (unsigned byte = 0; byte < 256; byte++)
		if (is_in(byte))
			add(set, byte);
}

static void invert(struct byte_set *set)
{
	for (size_t i = 0; i < sizeof(set->bits); i++)
		set->bits[i] = (uint8_t)~set->bits[i];
}

/* At "[:", "[." or "[=". */
static int parse_class(struct reader *c, struct byte_set *set)
{
	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		size_t len = strlen(classes[i].name);

		if (strncmp(c->at, classes[i].name, len) == 0) {
			add_class(set, classes[i].has);
			c->at += len;
			return 0;
		}
	}
	return fail(c, "there is no such class of characters");
}

/* A byte, or a range of them. */
static int parse_range(struct reader *c, struct byte_set *set)
{
	unsigned first = (unsigned char)*c->at++, last = first;

	if (c->at[0] == '-' && c->at[1] != '\0' && c->at[1] != ']') {
		last = (unsigned char)c->at[1];
		c->at += 2;
	}
	if (first > last || (first != last && last == '[' && strchr(":.=", *c->at)))
		return fail(c, "a range ends before it begins");
	for (unsigned byte = first; byte <= last; byte++)
		add(set, byte);
	return 0;
}

int byte_set_parse(struct byte_set *set, const char **at, const char **ret_why)
{
	struct reader c = { .at = *at };
	bool is_inverted = *c.at == '^';
	const char *first;
	int r = 0;

	c.at += is_inverted;
	first = c.at;
	/* A ']' that comes first is one of them. */
	while (r == 0 && *c.at != '\0' && (*c.at != ']' || c.at == first))
		r = c.at[0] == '[' && c.at[1] != '\0' && strchr(":.=", c.at[1])
			    ? parse_class(&c, set)
			    : parse_range(&c, set);
	if (r == 0 && *c.at != ']')
		r = fail(&c, "a '[' has no ']'");
	if (r < 0) {
		*ret_why = c.why;
		return r;
	}
	if (is_inverted)
		invert(set);
	*at = c.at + 1;
	return 0;
}

bool byte_set_escape(struct byte_set *set, char letter)
{
	if (letter == '\0' || !strchr("wWsS", letter))
		return false;
	add_class(set, letter == 'w' || letter == 'W' ? is_word : is_space);
	if (letter == 'W' || letter == 'S')
		invert(set);
	return true;
}
