/*
 * Labels and layer templates. A template is text with {service}, {host} and {label} in it; there is
 * no escape for a brace. Invariant: what passed config_layers_check() makes, for every service
 * name, a prefix that stays below where it reads: no empty segment, no "..".
 */
#include "daemon/config-layers.h"

#include <stdio.h>

#include "proto/key.h"

#define DEFAULT_LAYER "config/{service}/"
#define NAME_BYTES "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

/* A run of text, or what stands between two braces. */
struct piece {
	const char *text;
	size_t len;
	bool is_placeholder;
};

static bool is_name(const char *text)
{
	return *text != '\0' && text[strspn(text, NAME_BYTES)] == '\0';
}

static int add_label(struct config_draft *draft, const char *name)
{
	struct config *config = draft->config;
	unsigned n = config->n_labels;
	struct config_label *labels;
	struct config_place *places;

	labels = reallocarray(config->labels, n + 1, sizeof(*labels));
	if (!labels)
		return -ENOMEM;
	config->labels = labels;
	places = reallocarray(draft->labels, n + 1, sizeof(*places));
	if (!places)
		return -ENOMEM;
	draft->labels = places;
	labels[n] = (struct config_label){ .name = strdup(name) };
	if (!labels[n].name)
		return -ENOMEM;
	places[n] = (struct config_place){ 0 };
	config->n_labels++;
	return 0;
}

static const struct config_label *find_label(
	const struct config *config, const char *name, size_t len)
{
	for (unsigned i = 0; i < config->n_labels; i++)
		if (strlen(config->labels[i].name) == len &&
			memcmp(config->labels[i].name, name, len) == 0)
			return &config->labels[i];
	return NULL;
}

int config_layers_set_label(struct config_draft *draft, const char *value)
{
	struct config *config = draft->config;
	const char *name = draft->key;
	const struct config_label *label;
	size_t i;
	int r;

	if (!is_name(name))
		return config_draft_fail(
			draft, "this is not a label; its name is made of letters, digits, _ and -");
	if (std_streq(name, "service") || std_streq(name, "host"))
		return config_draft_fail(draft,
			"{%s} has a meaning of its own; choose another name%s", name,
			std_streq(name, "host") ? ", or set [services] host" : "");
	if (*value == '\0')
		return config_draft_fail(draft, "the label is empty; give it a value");
	label = find_label(config, name, strlen(name));
	if (!label) {
		if (config->n_labels == LIMIT_CONFIG_LABELS)
			return config_draft_fail(
				draft, "there are more than %d labels", LIMIT_CONFIG_LABELS);
		r = add_label(draft, name);
		if (r < 0)
			return r;
		label = &config->labels[config->n_labels - 1];
	}
	i = (size_t)(label - config->labels);
	r = config_draft_once(draft, &draft->labels[i]);
	return r < 0 ? r : config_draft_set_string(&config->labels[i].value, value);
}

/* 1: a piece, 0: the end, -EINVAL: a brace without its other. */
static int next_piece(const char **cursor, struct piece *ret_piece)
{
	const char *p = *cursor;
	size_t len = strcspn(p, "{}");

	if (*p == '\0')
		return 0;
	if (len > 0) {
		*ret_piece = (struct piece){ p, len, false };
		*cursor = p + len;
		return 1;
	}
	len = strcspn(p + 1, "{}");
	if (*p == '}' || p[1 + len] != '}')
		return -EINVAL;
	*ret_piece = (struct piece){ p + 1, len, true };
	*cursor = p + len + 2;
	return 1;
}

static bool is_piece(const struct piece *piece, const char *name)
{
	return strlen(name) == piece->len && memcmp(piece->text, name, piece->len) == 0;
}

/* What a placeholder stands for, NULL when nothing defines it. */
static const char *value_of(
	const struct config *config, const struct piece *piece, const char *service)
{
	const struct config_label *label;

	if (is_piece(piece, "service"))
		return service;
	if (is_piece(piece, "host"))
		return config->host;
	label = find_label(config, piece->text, piece->len);
	return label ? label->value : NULL;
}

static int fill_in(
	const struct config *config, const char *template, const char *service, char **ret_prefix)
{
	char *text = NULL;
	struct piece piece;
	const char *value;
	size_t size;
	FILE *out;

	out = open_memstream(&text, &size);
	if (!out)
		return -ENOMEM;
	while (next_piece(&template, &piece) > 0) {
		if (!piece.is_placeholder) {
			fwrite(piece.text, 1, piece.len, out);
			continue;
		}
		value = value_of(config, &piece, service);
		fputs(value ? value : "", out);
	}
	if (fclose(out) != 0) {
		free(text);
		return -ENOMEM;
	}
	*ret_prefix = text;
	return 0;
}

static int check_placeholders(struct config_draft *draft, const char *template)
{
	const char *cursor = template;
	struct piece piece;
	char name[LIMIT_CONFIG_LINE + 1];
	int r;

	while ((r = next_piece(&cursor, &piece)) > 0) {
		if (!piece.is_placeholder || value_of(draft->config, &piece, "x"))
			continue;
		snprintf(name, sizeof(name), "{%.*s}", (int)piece.len, piece.text);
		return config_draft_fail(draft,
			"nothing defines %s; give it a value in [labels], or write {service} or {host}",
			config_draft_quote(draft, name));
	}
	if (r < 0)
		return config_draft_fail(draft, "%s has a brace without its other",
			config_draft_quote(draft, template));
	return 0;
}

/* Consul answers a path with such segments by a redirect to another key. */
static bool has_bad_segment(const char *prefix)
{
	for (const char *p = prefix; *p != '\0'; p += strcspn(p, "/") + 1) {
		size_t len = strcspn(p, "/");

		if (len == 0 || (len == 1 && p[0] == '.') || (len == 2 && memcmp(p, "..", 2) == 0))
			return true;
	}
	return false;
}

static int check_prefix(struct config_draft *draft, const char *template, const char *prefix)
{
	size_t len = strlen(prefix);

	if (len == 0 || prefix[len - 1] != '/')
		return config_draft_fail(draft,
			"%s does not end in '/'; add it: without, a prefix also takes in its "
			"neighbours",
			config_draft_quote(draft, template));
	if (prefix[0] == '/')
		return config_draft_fail(draft, "%s begins with '/'; remove it: keys do not",
			config_draft_quote(draft, template));
	if (has_bad_segment(prefix))
		return config_draft_fail(draft,
			"%s has an empty segment, '.' or '..' in it, perhaps from a label",
			config_draft_quote(draft, template));
	if (key_check(prefix, len) < 0)
		return config_draft_fail(
			draft, "%s is too long or not UTF-8", config_draft_quote(draft, template));
	return 0;
}

static int check_layer(struct config_draft *draft, const char *template)
{
	AUTO_FREE char *prefix = NULL;
	int r;

	r = check_placeholders(draft, template);
	if (r == 0)
		r = fill_in(draft->config, template, "x", &prefix);
	if (r == 0)
		r = check_prefix(draft, template, prefix);
	return r;
}

static bool tells_services_apart(const struct config_rule *rule)
{
	for (unsigned i = 0; i < rule->n_layers; i++)
		if (strstr(rule->layers[i], "{service}"))
			return true;
	return false;
}

int config_layers_check(struct config_draft *draft, const struct config_rule *rule)
{
	int r;

	for (unsigned i = 0; i < rule->n_layers; i++) {
		r = check_layer(draft, rule->layers[i]);
		if (r < 0)
			return r;
	}
	if (rule->n_layers > 0 && strpbrk(rule->glob, "*?") && !tells_services_apart(rule))
		config_draft_warn(draft,
			"none of them has {service}: all services with such a name have the same "
			"keys");
	return 0;
}

/* Takes prefix i out when it stands higher up as well: {service} may read like another layer. */
static unsigned drop_lower_twins(char *prefixes[], unsigned n)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++) {
		bool is_twin = false;

		for (unsigned j = i + 1; j < n; j++)
			is_twin = is_twin || std_streq(prefixes[i], prefixes[j]);
		if (is_twin)
			free(prefixes[i]);
		else
			prefixes[kept++] = prefixes[i];
	}
	return kept;
}

/*
 * Whether a segment of its prefix begins with the name of the service. A hidden one has no keys: it
 * has no layer that others share, nor one whose prefix becomes such a layer's by the name, which a
 * stranger chooses.
 */
static bool is_own(const char *template)
{
	const char *place = strstr(template, "{service}");

	while (place && place != template && place[-1] != '/')
		place = strstr(place + 1, "{service}");
	return place != NULL;
}

static int fill_in_all(const struct config *config, const char *const templates[], unsigned n,
	const char *service, char *ret_prefixes[LIMIT_LAYERS])
{
	bool is_hidden = *service == '-';
	unsigned n_prefixes = 0;

	for (unsigned i = 0; i < n; i++) {
		int r;

		if (is_hidden && !is_own(templates[i]))
			continue;
		r = fill_in(config, templates[i], service, &ret_prefixes[n_prefixes]);
		if (r < 0) {
			while (n_prefixes-- > 0)
				free(ret_prefixes[n_prefixes]);
			return r;
		}
		n_prefixes++;
	}
	return (int)drop_lower_twins(ret_prefixes, n_prefixes);
}

int config_layers(
	const struct config *config, const char *service, char *ret_prefixes[LIMIT_LAYERS])
{
	static const char *const fallback[] = { DEFAULT_LAYER };
	const struct config_rule *rule = config_rule_for(config, service);
	int n = 0;

	if (rule && rule->n_layers > 0)
		n = fill_in_all(config, (const char *const *)rule->layers, rule->n_layers, service,
			ret_prefixes);
	return n != 0 ? n : fill_in_all(config, fallback, 1, service, ret_prefixes);
}
