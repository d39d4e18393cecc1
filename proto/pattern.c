#include "proto/pattern.h"

#include "proto/byte-set.h"

enum op { OP_JUMP, OP_SPLIT, OP_ANY, OP_BYTE, OP_SET, OP_BEGIN, OP_END, OP_MATCH };

struct state {
	uint8_t op;
	uint8_t byte; /* of OP_BYTE */
	uint16_t to; /* of OP_JUMP; of OP_SPLIT, which goes to the next state, too; of OP_SET: which
		      */
};

struct pattern {
	struct byte_set *sets;
	unsigned n_sets;
	unsigned n_states;
	struct state states[LIMIT_SCHEMA_STATES];
};

/* A position in the text stands for what is there: what repeats is compiled from it once more. */
struct compiler {
	struct pattern *pattern;
	const char *start, *at;
	uint16_t set_at[LIMIT_SCHEMA_PATTERN + 1]; /* 1 + the set that begins there; 0: none yet */
	const char *why;
};

static int fail(struct compiler *c, const char *why)
{
	c->why = why;
	return -EINVAL;
}

/* The number of the new state is n_states - 1. */
static int emit(struct compiler *c, enum op op, unsigned operand)
{
	struct pattern *p = c->pattern;

	if (p->n_states == LIMIT_SCHEMA_STATES)
		return fail(c, "it is too large with all that it repeats");
	p->states[p->n_states++] = (struct state){
		.op = (uint8_t)op,
		.byte = (uint8_t)operand,
		.to = (uint16_t)operand,
	};
	return 0;
}

/* --- sets -------------------------------------------------------------------------------- */

/* A new one; its number is n_sets - 1. */
static int add_set(struct compiler *c, struct byte_set **ret_set)
{
	struct pattern *p = c->pattern;
	struct byte_set *sets = reallocarray(p->sets, p->n_sets + 1, sizeof(*sets));

	if (!sets)
		return -ENOMEM;
	p->sets = sets;
	sets[p->n_sets] = (struct byte_set){ 0 };
	*ret_set = &sets[p->n_sets++];
	return 0;
}

/* At the '['. */
static int compile_set(struct compiler *c)
{
	uint16_t *number = &c->set_at[c->at - c->start];
	struct byte_set *set, again = { 0 };
	bool is_known = *number != 0;
	int r = 0;

	if (is_known)
		set = &again;
	else
		r = add_set(c, &set);
	c->at++;
	if (r == 0)
		r = byte_set_parse(set, &c->at, &c->why);
	if (r < 0)
		return r;
	if (!is_known)
		*number = (uint16_t)c->pattern->n_sets;
	return emit(c, OP_SET, *number - 1u);
}

/* --- the grammar -------------------------------------------------------------------------- */

static int compile_branches(struct compiler *c);

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* At the '\'. */
static int compile_escape(struct compiler *c)
{
	char escaped = c->at[1];
	struct byte_set *set;
	int r;

	if (escaped == '\0')
		return fail(c, "a '\\' stands at the end");
	c->at += 2;
	if (strchr("<>`'", escaped))
		return fail(c, "it asks for the edge of a word or text by '\\'");
	if (!is_digit(escaped) && !is_letter(escaped))
		return emit(c, OP_BYTE, (unsigned char)escaped);
	if (is_digit(escaped))
		return fail(c, "it refers back to a group");
	r = add_set(c, &set);
	if (r < 0)
		return r;
	if (!byte_set_escape(set, escaped))
		return fail(c, "a '\\' stands before a letter that means nothing");
	return emit(c, OP_SET, c->pattern->n_sets - 1);
}

static int compile_group(struct compiler *c)
{
	int r;

	c->at++;
	r = compile_branches(c);
	if (r < 0)
		return r;
	if (*c->at != ')')
		return fail(c, "a '(' has no ')'");
	c->at++;
	return 0;
}

/* What a repetition is of. */
static int compile_atom(struct compiler *c)
{
	switch (*c->at) {
	case '(':
		return compile_group(c);
	case '[':
		return compile_set(c);
	case '\\':
		return compile_escape(c);
	case '*':
	case '+':
	case '?':
	case '{':
		return fail(c, "there is nothing that is repeated, or that twice: use a group");
	case '.':
		c->at++;
		return emit(c, OP_ANY, 0);
	case '^':
		c->at++;
		return emit(c, OP_BEGIN, 0);
	case '$':
		c->at++;
		return emit(c, OP_END, 0);
	}
	return emit(c, OP_BYTE, (unsigned char)*c->at++);
}

/* Behind the '[' up to behind its ']', or the end. */
static const char *skip_set(const char *at)
{
	at += *at == '^';
	at += *at == ']';
	while (*at != '\0' && *at != ']') {
		const char *end = NULL;

		if (at[0] == '[' && at[1] == ':')
			end = strstr(at, ":]");
		at = end ? end + 2 : at + 1;
	}
	return *at == ']' ? at + 1 : at;
}

/* Where the atom at this place ends: what it is repeated by is known before it is compiled. */
static const char *skip_atom(const char *at)
{
	unsigned depth = 0;

	do {
		char c = *at;

		at += c != '\0';
		if (c == '\\' && *at != '\0')
			at++;
		else if (c == '[')
			at = skip_set(at);
		else if (c == '(')
			depth++;
		else if (c == ')' && depth > 0)
			depth--;
	} while (depth > 0 && *at != '\0');
	return at;
}

struct repetition {
	unsigned min, max;
	bool is_endless;
};

static bool parse_number(const char **at, unsigned *ret_number)
{
	unsigned number = 0;

	if (!is_digit(**at))
		return false;
	for (; is_digit(**at); (*at)++)
		number = MIN(number * 10 + (unsigned)(**at - '0'), LIMIT_SCHEMA_STATES + 1u);
	*ret_number = number;
	return true;
}

/* Behind the '{'. */
static int parse_interval(struct compiler *c, const char **at, struct repetition *ret_repetition)
{
	struct repetition repetition = { 0 };

	if (!parse_number(at, &repetition.min))
		return fail(c, "a '{' is not followed by a number");
	repetition.max = repetition.min;
	if (**at == ',') {
		(*at)++;
		repetition.is_endless = !parse_number(at, &repetition.max);
	}
	if (*(*at)++ != '}' || repetition.max < repetition.min)
		return fail(c, "a '{' does not read");
	*ret_repetition = repetition;
	return 0;
}

/* What follows an atom. *at ends up behind it. */
static int parse_repetition(struct compiler *c, const char **at, struct repetition *ret_repetition)
{
	*ret_repetition = (struct repetition){ 1, 1, false };
	switch (**at) {
	case '*':
		*ret_repetition = (struct repetition){ 0, 0, true };
		break;
	case '+':
		ret_repetition->is_endless = true;
		break;
	case '?':
		ret_repetition->min = 0;
		break;
	case '{':
		(*at)++;
		return parse_interval(c, at, ret_repetition);
	default:
		return 0;
	}
	(*at)++;
	return 0;
}

static int compile_copy(struct compiler *c, const char *atom)
{
	c->at = atom;
	return compile_atom(c);
}

/* Any number of an atom that has not come so far. */
static int compile_any_number(struct compiler *c, const char *atom)
{
	unsigned split = c->pattern->n_states;
	int r = emit(c, OP_SPLIT, 0);

	if (r == 0)
		r = compile_copy(c, atom);
	if (r == 0)
		r = emit(c, OP_JUMP, split);
	if (r == 0)
		c->pattern->states[split].to = (uint16_t)c->pattern->n_states;
	return r;
}

/* One that may be there. */
static int compile_optional(struct compiler *c, const char *atom)
{
	unsigned split = c->pattern->n_states;
	int r = emit(c, OP_SPLIT, 0);

	if (r == 0)
		r = compile_copy(c, atom);
	if (r == 0)
		c->pattern->states[split].to = (uint16_t)c->pattern->n_states;
	return r;
}

static int compile_piece(struct compiler *c)
{
	const char *atom = c->at, *end = skip_atom(atom);
	struct repetition repetition;
	unsigned last = 0;
	int r = parse_repetition(c, &end, &repetition);

	for (unsigned i = 0; r == 0 && i < repetition.min; i++) {
		last = c->pattern->n_states;
		r = compile_copy(c, atom);
	}
	for (unsigned i = repetition.min; r == 0 && i < repetition.max; i++)
		r = compile_optional(c, atom);
	if (r == 0 && repetition.is_endless)
		r = repetition.min == 0 ? compile_any_number(c, atom) : emit(c, OP_SPLIT, last);
	if (r == 0)
		c->at = end;
	return r;
}

/*
 * Up to a ')' or the end. Each branch begins with the way to the next one, so that every atom is a
 * state at least, and whatever repeats comes to the limit. The ends of branches jump: to each other
 * until it is known where to.
 */
static int compile_branches(struct compiler *c)
{
	struct state *states = c->pattern->states;
	unsigned last_jump = 0;

	for (;;) {
		unsigned split = c->pattern->n_states;
		int r = emit(c, OP_SPLIT, split + 1);

		while (r == 0 && *c->at != '\0' && *c->at != '|' && *c->at != ')')
			r = compile_piece(c);
		if (r == 0 && *c->at == '|')
			r = emit(c, OP_JUMP, last_jump);
		if (r < 0)
			return r;
		if (*c->at != '|')
			break;
		c->at++;
		last_jump = c->pattern->n_states - 1;
		states[split].to = (uint16_t)c->pattern->n_states;
	}
	while (last_jump != 0) {
		unsigned earlier = states[last_jump].to;

		states[last_jump].to = (uint16_t)c->pattern->n_states;
		last_jump = earlier;
	}
	return 0;
}

static int compile(struct compiler *c)
{
	int r;

	if (strlen(c->start) > LIMIT_SCHEMA_PATTERN)
		return fail(c, "it is too long");
	r = compile_branches(c);
	if (r < 0)
		return r;
	if (*c->at != '\0')
		return fail(c, "a ')' has no '('");
	return emit(c, OP_MATCH, 0);
}

int pattern_new(const char *text, struct pattern **ret_pattern, const char **ret_why)
{
	struct pattern *pattern = calloc(1, sizeof(*pattern)), *trimmed;
	struct compiler c = { .pattern = pattern, .start = text, .at = text };
	int r = pattern ? compile(&c) : -ENOMEM;

	if (r < 0) {
		*ret_why = c.why;
		pattern_free(pattern);
		return r;
	}
	trimmed = realloc(pattern,
		offsetof(struct pattern, states) + pattern->n_states * sizeof(pattern->states[0]));
	*ret_pattern = trimmed ? trimmed : pattern;
	return 0;
}

struct pattern *pattern_free(struct pattern *pattern)
{
	if (pattern)
		free(pattern->sets);
	free(pattern);
	return NULL;
}

size_t pattern_n_states(const struct pattern *pattern)
{
	return pattern->n_states;
}

/* --- searching ---------------------------------------------------------------------------- */

/* The states that are reached at one place of the text, each once. */
struct reached {
	unsigned n;
	uint16_t states[LIMIT_SCHEMA_STATES];
	uint32_t seen[LIMIT_SCHEMA_STATES]; /* 1 + the place where it was reached last */
};

static void reach(struct reached *reached, unsigned state, size_t place)
{
	if (reached->seen[state] == place + 1)
		return;
	reached->seen[state] = (uint32_t)(place + 1);
	reached->states[reached->n++] = (uint16_t)state;
}

struct search {
	const struct pattern *pattern;
	const char *text;
	size_t len;
	struct reached *now, *next;
};

/* From one state at one place; true: it is the end. */
static bool step(struct search *s, unsigned number, size_t place)
{
	const struct state *state = &s->pattern->states[number];
	unsigned char byte = place < s->len ? (unsigned char)s->text[place] : 0;

	switch ((enum op)state->op) {
	case OP_MATCH:
		return true;
	case OP_JUMP:
		reach(s->now, state->to, place);
		return false;
	case OP_SPLIT:
		reach(s->now, state->to, place);
		reach(s->now, number + 1, place);
		return false;
	case OP_BEGIN:
		if (place == 0)
			reach(s->now, number + 1, place);
		return false;
	case OP_END:
		if (place == s->len)
			reach(s->now, number + 1, place);
		return false;
	case OP_ANY:
	case OP_BYTE:
	case OP_SET:
		break;
	}
	if (place < s->len &&
		(state->op == OP_ANY || (state->op == OP_BYTE && state->byte == byte) ||
			(state->op == OP_SET && byte_set_has(&s->pattern->sets[state->to], byte))))
		reach(s->next, number + 1, place + 1);
	return false;
}

bool pattern_is_in(const struct pattern *pattern, const char *text, size_t len)
{
	struct reached reached[2];
	struct search s = { pattern, text, len, &reached[0], &reached[1] };

	for (size_t i = 0; i < ARRAY_SIZE(reached); i++) {
		reached[i].n = 0;
		memset(reached[i].seen, 0, pattern->n_states * sizeof(reached[i].seen[0]));
	}
	for (size_t place = 0; place <= len; place++) {
		struct reached *now = s.now;

		reach(now, 0, place);
		for (unsigned i = 0; i < now->n; i++)
			if (step(&s, now->states[i], place))
				return true;
		now->n = 0;
		s.now = s.next;
		s.next = now;
	}
	return false;
}
