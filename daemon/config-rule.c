/*
 * Rules for services. Knows their keys.
 */
#include "daemon/config-rule.h"

#include "proto/key.h"
#include "proto/value.h"

#include "daemon/access.h"
#include "daemon/config-layers.h"
#include "proto/glob.h"

#define SECTION "service"
#define HIDE "hide"
#define GLOB_BYTES "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-*?"

static bool is_for_all(const struct config_rule *rule)
{
	return std_streq(rule->glob, "*");
}

const struct config_rule *config_rule_for(const struct config *config, const char *service)
{
	for (unsigned i = 0; i < config->n_rules; i++)
		if (glob_matches(config->rules[i].glob, service, strlen(service)))
			return &config->rules[i];
	return NULL;
}

uint64_t config_rule_hold_usec(const struct config *config, const char *service)
{
	const struct config_rule *rule = config_rule_for(config, service);

	return rule && rule->has_hold ? rule->hold_usec : 0;
}

bool config_rule_keeps(const struct config *config, const char *service)
{
	const struct config_rule *rule = config_rule_for(config, service);

	return !rule || !rule->no_backup;
}

void config_rule_done(struct config_rule *rule)
{
	free(rule->glob);
	for (unsigned i = 0; i < rule->n_layers; i++)
		free(rule->layers[i]);
	config_draft_free_words(rule->access, rule->n_access);
	free(rule->access_subjects);
	config_draft_free_words(rule->lock, rule->n_lock);
	free(rule->schema);
}

bool config_rule_is_section(const char *section)
{
	size_t len = strlen(SECTION);

	return strncmp(section, SECTION, len) == 0 &&
	       (section[len] == '\0' || section[len] == ' ' || section[len] == '\t');
}

/* The NAME-OR-GLOB of a section, into buf. */
static const char *glob_of(const char *section, char buf[LIMIT_CONFIG_SECTION + 1])
{
	const char *start = section + strlen(SECTION);
	size_t len;

	start += strspn(start, " \t");
	len = MIN(strlen(start), (size_t)LIMIT_CONFIG_SECTION);
	while (len > 0 && (start[len - 1] == ' ' || start[len - 1] == '\t'))
		len--;
	memcpy(buf, start, len);
	buf[len] = '\0';
	return buf;
}

bool config_rule_is_glob(const char *text)
{
	if (text[strspn(text, GLOB_BYTES)] != '\0')
		return false;
	return strpbrk(text, "*?") || key_is_service_name(text, strlen(text));
}

static struct config_rule *find_rule(const struct config *config, const char *glob)
{
	for (unsigned i = 0; i < config->n_rules; i++)
		if (std_streq(config->rules[i].glob, glob))
			return &config->rules[i];
	return NULL;
}

static int add_rule(struct config_draft *draft, const char *glob)
{
	struct config *config = draft->config;
	unsigned n = config->n_rules;
	struct config_rule_places *places;
	struct config_rule *rules;

	rules = reallocarray(config->rules, n + 1, sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	config->rules = rules;
	places = reallocarray(draft->rules, n + 1, sizeof(*places));
	if (!places)
		return -ENOMEM;
	draft->rules = places;
	rules[n] = (struct config_rule){ .glob = strdup(glob) };
	if (!rules[n].glob)
		return -ENOMEM;
	places[n] = (struct config_rule_places){ 0 };
	config->n_rules++;
	return 0;
}

int config_rule_enter(struct config_draft *draft)
{
	char buf[LIMIT_CONFIG_SECTION + 1];
	const char *glob = glob_of(draft->section, buf);

	if (*glob == '\0')
		return config_draft_fail(draft,
			"the section names no service; write [service NAME], or [service *] for the "
			"defaults");
	if (!config_rule_is_glob(glob))
		return config_draft_fail(draft,
			"this is neither a service name nor a glob; a name has letters, digits, "
			"'.', '_' and '-', a glob may have * and ? as well");
	if (find_rule(draft->config, glob))
		return 0;
	if (draft->config->n_rules == LIMIT_CONFIG_RULES)
		return config_draft_fail(
			draft, "there are more than %d [service] sections", LIMIT_CONFIG_RULES);
	return add_rule(draft, glob);
}

/* Any word: config_rule_finish() judges layers when all labels are known. */
static int take_layer(struct config_draft *draft, char **word)
{
	(void)draft;
	(void)word;
	return 0;
}

static int set_layers(struct config_draft *draft, struct config_rule *rule,
	struct config_place *place, const char *value)
{
	char **words = NULL;
	unsigned n_words = 0;
	int r = 0;

	/* A rule holds its layers in place: they are lent to the list and come back. */
	if (rule->n_layers > 0) {
		words = calloc(rule->n_layers, sizeof(*words));
		if (!words)
			return -ENOMEM;
		memcpy(words, rule->layers, rule->n_layers * sizeof(*words));
		n_words = rule->n_layers;
		rule->n_layers = 0;
	}
	r = config_draft_set_words(draft, place, value, take_layer, &words, &n_words);
	if (r == 0 && n_words > LIMIT_LAYERS)
		r = config_draft_fail(draft, "a service has at most %d layers", LIMIT_LAYERS);
	if (r < 0) {
		config_draft_free_words(words, n_words);
		return r;
	}
	if (n_words > 0)
		memcpy(rule->layers, words, n_words * sizeof(*words));
	rule->n_layers = n_words;
	free(words);
	return 0;
}

static int take_access(struct config_draft *draft, char **word)
{
	/* It stays in the list for now: a later file starts the list over. */
	if (std_streq(*word, HIDE))
		return 0;
	if (!access_subject_is_valid(*word))
		return config_draft_fail(draft,
			"%s names nobody; write user:NAME, group:NAME or anyone",
			config_draft_quote(draft, *word));
	return 0;
}

/* Of keys, which are nearly any bytes. */
static int take_lock(struct config_draft *draft, char **word)
{
	if (**word == '/')
		return config_draft_fail(draft, "%s begins with '/'; remove it: keys do not",
			config_draft_quote(draft, *word));
	return 0;
}

/* Whether the file can be read is seen when a service needs it: it may come later. */
static int set_schema(struct config_draft *draft, struct config_rule *rule,
	struct config_place *place, const char *value)
{
	int r = config_draft_once(draft, place);

	if (r < 0)
		return r;
	if (key_check(value, strlen(value)) < 0)
		return config_draft_fail(draft,
			"%s is neither the path of a file nor a key of the service",
			config_draft_quote(draft, value));
	return config_draft_set_string(&rule->schema, value);
}

static int set_hold(struct config_draft *draft, struct config_rule *rule,
	struct config_place *place, const char *value)
{
	uint64_t usec = 0;
	int r;

	r = config_draft_once(draft, place);
	if (r < 0)
		return r;
	if (!std_streq(value, "until-accepted") &&
		(value_duration_us(value, strlen(value), &usec) < 0 || usec < LIMIT_HOLD_MIN_USEC))
		return config_draft_fail(draft,
			"%s is not a time to hold; write until-accepted, or a duration of at least "
			"1s, as in 2h",
			config_draft_quote(draft, value));
	rule->has_hold = true;
	rule->hold_usec = usec;
	return 0;
}

static int set_backup(struct config_draft *draft, struct config_rule *rule,
	struct config_place *place, const char *value)
{
	bool is_wanted;
	int r = config_draft_once(draft, place);

	if (r < 0)
		return r;
	if (value_bool(value, strlen(value), &is_wanted) < 0)
		return config_draft_fail(draft, "%s is not a boolean; write yes or no",
			config_draft_quote(draft, value));
	rule->has_backup = true;
	rule->no_backup = !is_wanted;
	return 0;
}

int config_rule_set(struct config_draft *draft, const char *value)
{
	char buf[LIMIT_CONFIG_SECTION + 1];
	struct config_rule *rule = find_rule(draft->config, glob_of(draft->section, buf));
	struct config_rule_places *places = &draft->rules[rule - draft->config->rules];

	if (std_streq(draft->key, "hold"))
		return set_hold(draft, rule, &places->hold, value);
	if (std_streq(draft->key, "backup"))
		return set_backup(draft, rule, &places->backup, value);
	if (std_streq(draft->key, "schema"))
		return set_schema(draft, rule, &places->schema, value);
	if (!std_streq(draft->key, "layers") && !std_streq(draft->key, "access") &&
		!std_streq(draft->key, "lock"))
		return config_draft_fail(draft,
			"unknown key; a service has layers=, access=, lock=, schema=, hold= and "
			"backup=");
	if (*value == '\0')
		return config_draft_fail(
			draft, "the list is empty; remove the line to get the default");
	if (std_streq(draft->key, "layers"))
		return set_layers(draft, rule, &places->layers, value);
	if (std_streq(draft->key, "lock"))
		return config_draft_set_words(
			draft, &places->lock, value, take_lock, &rule->lock, &rule->n_lock);
	return config_draft_set_words(
		draft, &places->access, value, take_access, &rule->access, &rule->n_access);
}

static int copy_words(char *const *words, unsigned n_words, char **ret_copies)
{
	for (unsigned i = 0; i < n_words; i++) {
		ret_copies[i] = strdup(words[i]);
		if (!ret_copies[i]) {
			while (i-- > 0)
				free(ret_copies[i]);
			return -ENOMEM;
		}
	}
	return 0;
}

static int inherit_words(char ***words, unsigned *n_words, char *const *from, unsigned n_from)
{
	char **copies;

	if (*n_words > 0 || n_from == 0)
		return 0;
	copies = calloc(n_from, sizeof(*copies));
	if (!copies)
		return -ENOMEM;
	if (copy_words(from, n_from, copies) < 0) {
		free(copies);
		return -ENOMEM;
	}
	*words = copies;
	*n_words = n_from;
	return 0;
}

static int inherit(struct config_rule *rule, const struct config_rule *from)
{
	bool has_access = rule->n_access > 0;
	int r;

	if (!rule->has_backup)
		rule->no_backup = from->no_backup;
	if (rule->n_layers == 0) {
		if (copy_words(from->layers, from->n_layers, rule->layers) < 0)
			return -ENOMEM;
		rule->n_layers = from->n_layers;
	}
	r = inherit_words(&rule->access, &rule->n_access, from->access, from->n_access);
	if (r == 0)
		r = inherit_words(&rule->lock, &rule->n_lock, from->lock, from->n_lock);
	if (!has_access)
		rule->hides = from->hides;
	if (!rule->has_hold) {
		rule->has_hold = from->has_hold;
		rule->hold_usec = from->hold_usec;
	}
	if (r == 0 && !rule->schema && from->schema)
		r = config_draft_set_string(&rule->schema, from->schema);
	return r;
}

static int inherit_all(struct config *config, const struct config_rule *from)
{
	for (unsigned i = 0; i < config->n_rules; i++) {
		int r = &config->rules[i] == from ? 0 : inherit(&config->rules[i], from);

		if (r < 0)
			return r;
	}
	return 0;
}

/* As the last rule [service *] matches what no other does. */
static void put_last(struct config_draft *draft, unsigned i)
{
	struct config_rule *rules = draft->config->rules, rule = rules[i];
	struct config_rule_places *all_places = draft->rules, places = all_places[i];
	unsigned last = draft->config->n_rules - 1;

	memmove(&rules[i], &rules[i + 1], (last - i) * sizeof(rule));
	memmove(&all_places[i], &all_places[i + 1], (last - i) * sizeof(places));
	rules[last] = rule;
	all_places[last] = places;
}

static int check_rules(struct config_draft *draft)
{
	char section[LIMIT_CONFIG_SECTION + sizeof(SECTION " ")];

	for (unsigned i = 0; i < draft->config->n_rules; i++) {
		const struct config_rule *rule = &draft->config->rules[i];
		int r;

		strcat(strcpy(section, SECTION " "), rule->glob);
		config_draft_return_to(draft, &draft->rules[i].layers, section, "layers");
		r = config_layers_check(draft, rule);
		config_draft_enter(draft, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Takes "hide" out of the list of who may read. */
static int take_hide(struct config_draft *draft, unsigned i)
{
	char section[LIMIT_CONFIG_SECTION + sizeof(SECTION " ")];
	struct config_rule *rule = &draft->config->rules[i];
	unsigned kept = 0;

	for (unsigned j = 0; j < rule->n_access; j++)
		if (std_streq(rule->access[j], HIDE)) {
			rule->hides = true;
			free(rule->access[j]);
		} else {
			rule->access[kept++] = rule->access[j];
		}
	if (rule->n_access == kept)
		return 0;
	rule->n_access = kept;
	if (kept > 0)
		return 0;
	strcat(strcpy(section, SECTION " "), rule->glob);
	config_draft_return_to(draft, &draft->rules[i].access, section, "access");
	return config_draft_fail(draft, "'hide' alone lets nobody in; name who may read");
}

int config_rule_finish(struct config_draft *draft)
{
	struct config *config = draft->config;
	int r;

	/* Before rules inherit layers: a bad one is reported where it stands. */
	r = check_rules(draft);
	for (unsigned i = 0; r == 0 && i < config->n_rules; i++)
		r = take_hide(draft, i);
	for (unsigned i = 0; r == 0 && i < config->n_rules; i++)
		if (is_for_all(&config->rules[i])) {
			r = inherit_all(config, &config->rules[i]);
			put_last(draft, i);
			break;
		}
	return r;
}
