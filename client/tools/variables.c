#include "client/tools/variables.h"

#include <stdio.h>

#include "client/tools/envname.h"
#include "proto/key.h"
#include "proto/limits.h"

struct variable {
	char *word;
	size_t name_len;
	const char *key; /* lives as long as the view */
	size_t key_len;
};

static int compare(const void *a, const void *b)
{
	const struct variable *left = a, *right = b;
	size_t len = MIN(left->name_len, right->name_len);
	int order = memcmp(left->word, right->word, len);

	return order != 0 ? order
			  : (left->name_len > right->name_len) - (left->name_len < right->name_len);
}

static void leave_out(struct variables *v, const struct ccfg_entry *entry)
{
	char key[128];

	if (v->n_left_out++ == 0)
		snprintf(v->trouble, sizeof(v->trouble),
			"left out values that no variable can hold (a NUL byte, or 128 kB), the "
			"first of key %s: read it with consulcfg-get",
			key_escape(entry->key, entry->key_len, key, sizeof(key)));
}

static int add(struct variables *v, const struct ccfg_entry *entry)
{
	char name[ENVNAME_SIZE];
	size_t name_len, len;
	struct variable *variable = &v->own[v->n_own];

	envname_of(entry->key, entry->key_len, name);
	name_len = strlen(v->prefix) + strlen(name);
	len = name_len + 1 + entry->value_len;
	if (len >= LIMIT_WORD || memchr(entry->value, '\0', entry->value_len)) {
		leave_out(v, entry);
		return 0;
	}
	*variable = (struct variable){ malloc(len + 1), name_len, entry->key, entry->key_len };
	if (!variable->word)
		return -ENOMEM;
	snprintf(variable->word, len + 1, "%s%s=%s", v->prefix, name, entry->value);
	v->n_own++;
	return 0;
}

static int gather(struct variables *v, const ccfg_view *view)
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	size_t cursor = 0, n = 0;

	while (ccfg_view_next(view, v->keys, &cursor, &entry))
		n++;
	v->own = calloc(n + 1, sizeof(*v->own));
	if (!v->own)
		return -ENOMEM;
	cursor = 0;
	while (ccfg_view_next(view, v->keys, &cursor, &entry))
		if (add(v, &entry) < 0)
			return -ENOMEM;
	qsort(v->own, v->n_own, sizeof(*v->own), compare);
	return 0;
}

static int check_clashes(struct variables *v)
{
	for (size_t i = 1; i < v->n_own; i++) {
		const struct variable *a = &v->own[i - 1], *b = &v->own[i];
		char first[128], second[128];

		if (compare(a, b) != 0)
			continue;
		snprintf(v->trouble, sizeof(v->trouble),
			"keys %s and %s would both be variable %.*s: %srename one of them",
			key_escape(a->key, a->key_len, first, sizeof(first)),
			key_escape(b->key, b->key_len, second, sizeof(second)),
			(int)MIN(a->name_len, (size_t)128), a->word,
			v->takes_all ? "" : "leave one of them out with --keys, or ");
		return -EEXIST;
	}
	return 0;
}

static bool is_own(const struct variables *v, char *word)
{
	const struct variable wanted = { .word = word, .name_len = strcspn(word, "=") };

	return bsearch(&wanted, v->own, v->n_own, sizeof(wanted), compare);
}

static int join(struct variables *v)
{
	size_t n = 0;

	while (environ && environ[n])
		n++;
	v->words = calloc(n + v->n_own + 1, sizeof(*v->words));
	if (!v->words)
		return -ENOMEM;
	n = 0;
	for (char **word = environ; word && *word; word++)
		if (!is_own(v, *word))
			v->words[n++] = *word;
	for (size_t i = 0; i < v->n_own; i++)
		v->words[n++] = v->own[i].word;
	return 0;
}

int variables_fill(struct variables *v, const ccfg_view *view)
{
	int r;

	variables_done(v);
	r = gather(v, view);
	if (r == 0)
		r = check_clashes(v);
	if (r == 0)
		r = join(v);
	return r;
}

bool variables_are_equal(const struct variables *a, const struct variables *b)
{
	if (a->n_own != b->n_own)
		return false;
	for (size_t i = 0; i < a->n_own; i++)
		if (!std_streq(a->own[i].word, b->own[i].word))
			return false;
	return true;
}

void variables_done(struct variables *v)
{
	for (size_t i = 0; i < v->n_own; i++)
		free(v->own[i].word);
	free(v->own);
	free(v->words);
	*v = (struct variables){ .keys = v->keys, .prefix = v->prefix, .takes_all = v->takes_all };
}
