/*
 * The command line into a draft. Knows what --set and --source look like; options.c only took them
 * from argv. A relative path is fine here: the shell's directory is where it begins. Those of
 * directories become absolute, as backups say what they are of; that of the socket stays as short
 * as it was given, as the kernel takes few bytes.
 */
#include "daemon/config-options.h"

#include "daemon/config-address.h"
#include "daemon/config-section.h"
#include "daemon/config-table.h"
#include "daemon/options.h"

/* SECTION.KEY=VALUE; the name in [service NAME] may have dots, a key has none. */
static int apply_set(struct config_draft *draft, const char *text)
{
	const char *equals = strchr(text, '=');
	const char *dot = equals ? memrchr(text, '.', (size_t)(equals - text)) : NULL;
	AUTO_FREE char *section = NULL, *key = NULL;
	int r;

	config_draft_enter(draft, "--set");
	if (!dot || dot == text || dot + 1 == equals)
		return config_draft_fail(draft,
			"this is not a setting; write SECTION.KEY=VALUE, as in consul.wait=30s");
	if (dot - text > LIMIT_CONFIG_SECTION)
		return config_draft_fail(
			draft, "a section name has at most %d bytes", LIMIT_CONFIG_SECTION);
	section = strndup(text, (size_t)(dot - text));
	key = strndup(dot + 1, (size_t)(equals - dot - 1));
	if (!section || !key)
		return -ENOMEM;
	draft->section = section;
	r = config_section_enter(draft);
	draft->key = key;
	if (r == 0)
		r = config_section_set(draft, equals + 1);
	config_draft_enter(draft, NULL);
	return r;
}

static int apply_consul_url(struct config_draft *draft, const char *url)
{
	AUTO_FREE char *address = NULL;
	const char *why;
	int r;

	r = config_address_normalise(url, draft->https, &address, &why);
	if (r == -EINVAL)
		return config_draft_fail(
			draft, "this is not an address: %s; " CONFIG_ADDRESS_FORMS, why);
	return r < 0 ? r : config_table_set_address(draft, address);
}

/* consul, consul:URL or dir:PATH */
static int apply_source(struct config_draft *draft, const char *source)
{
	struct config *config = draft->config;

	config_draft_enter(draft, "--source");
	if (strncmp(source, "dir:", 4) == 0 && source[4] != '\0') {
		config->source = CONFIG_SOURCE_DIR;
		return config_draft_set_path(draft, &config->dir, source + 4);
	}
	config->source = CONFIG_SOURCE_CONSUL;
	if (std_streq(source, "consul"))
		return 0;
	if (strncmp(source, "consul:", 7) == 0)
		return apply_consul_url(draft, source + 7);
	return config_draft_fail(
		draft, "this is not a source; write consul, consul:URL or dir:PATH");
}

/* Whether there is one: 1, 0, -EINVAL. */
static int enter_path(struct config_draft *draft, const char *option, const char *path)
{
	if (!path)
		return 0;
	config_draft_enter(draft, option);
	return *path == '\0' ? config_draft_fail(draft, "the path is empty") : 1;
}

static int apply_socket(struct config_draft *draft, const char *path)
{
	int r = enter_path(draft, "--socket", path);

	return r <= 0 ? r : config_draft_set_string(&draft->config->socket_path, path);
}

static int apply_directory(
	struct config_draft *draft, const char *option, const char *path, char **target)
{
	int r = enter_path(draft, option, path);

	return r <= 0 ? r : config_draft_set_path(draft, target, path);
}

int config_options_apply(struct config_draft *draft, const struct options *options)
{
	struct config *config = draft->config;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < options->n_sets; i++)
		r = apply_set(draft, options->sets[i]);
	if (r == 0 && options->source)
		r = apply_source(draft, options->source);
	if (r == 0)
		r = apply_socket(draft, options->socket_path);
	if (r == 0)
		r = apply_directory(draft, "--state-directory", options->state_directory,
			&config->state_directory);
	if (r == 0)
		r = apply_directory(draft, "--runtime-directory", options->runtime_directory,
			&config->runtime_directory);
	if (r == 0 && options->log_level &&
		log_level_parse(options->log_level, &config->log_level) < 0) {
		config_draft_enter(draft, "--log-level");
		r = config_draft_fail(
			draft, "this is not a level; write error, warning, info or debug");
	}
	return r;
}
