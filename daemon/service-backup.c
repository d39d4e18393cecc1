#include "daemon/service-backup.h"

#include <stdio.h>

#include "daemon/service-pin.h"
#include "daemon/service-publish.h"
#include "daemon/service-state.h"

#define PLACES 5 /* of an identity, in front of the prefixes */

static bool is_wanted(const struct service *service, const struct config *config)
{
	const struct config_rule *rule = config_rule_for(config, service->name);

	return !rule || !rule->no_backup;
}

/* Everything that makes these contents those of this service. */
static int make_names(const struct config *config, const char *service, char *const prefixes[],
	unsigned n_prefixes, char ret_names[LIMIT_BACKUP_NAMES], size_t *ret_size)
{
	bool is_consul = config->source == CONFIG_SOURCE_CONSUL;
	const char *parts[PLACES + LIMIT_LAYERS] = { service };
	AUTO_FREE char *source = NULL;

	if (!is_consul && asprintf(&source, "dir:%s", config->dir) < 0) {
		source = NULL;
		return -ENOMEM;
	}
	parts[1] = is_consul ? "consul" : source;
	if (is_consul) {
		parts[2] = config->datacenter;
		parts[3] = config->namespace;
		parts[4] = config->partition;
	}
	for (unsigned i = 0; i < n_prefixes; i++)
		parts[PLACES + i] = prefixes[i];
	return backup_format_names(parts, PLACES + n_prefixes, ret_names, ret_size);
}

int service_backup_begin(struct service *service, struct restore **ret_restore)
{
	const struct config *config = service->config;
	char *prefixes[LIMIT_LAYERS];
	char names[LIMIT_BACKUP_NAMES];
	size_t size;
	int n, r;

	if (!service->backup || !is_wanted(service, config))
		return -ENOENT;
	n = config_layers(config, service->name, prefixes);
	if (n < 0)
		return n;
	r = make_names(config, service->name, prefixes, (unsigned)n, names, &size);
	for (int i = 0; i < n; i++)
		free(prefixes[i]);
	return r < 0 ? r : restore_new(service->backup, names, size, (unsigned)n, ret_restore);
}

static int make_facts(const struct service *service, struct backup_facts *ret_facts)
{
	char names[LIMIT_BACKUP_NAMES], *prefixes[LIMIT_LAYERS];
	struct backup_facts facts = {
		.confirmed_at = loop_now() - service_state_age_usec(service),
		.index = service_state_index(service),
	};
	int r;

	for (unsigned i = 0; i < service->n_layers; i++) {
		const struct tree *tree = service->layers[i].tree;

		prefixes[i] = tree->prefix;
		facts.layer_index[i] = tree->content ? tree->content->index : 0;
	}
	if (service->n_layers == 1 && service->layers[0].tree->content)
		facts.flags_digest = service->layers[0].tree->content->flags_digest;
	r = make_names(service->config, service->name, prefixes, service->n_layers, names,
		&facts.names_size);
	if (r < 0)
		return r;
	facts.names = malloc(facts.names_size);
	if (!facts.names)
		return -ENOMEM;
	memcpy(facts.names, names, facts.names_size);
	*ret_facts = facts;
	return 0;
}

void service_backup_keep(struct service *service)
{
	struct backups *backups = service->backups;
	uint64_t confirmed_at = loop_now() - service_state_age_usec(service);
	struct backup_facts facts;

	/* What the layers have now is not what is served where that was refused. */
	if (!backups || (service->refusal != 0 && !service_pin_is_frozen(service)) ||
		!service->snapshot || service->n_layers == 0 ||
		!is_wanted(service, service->config))
		return;
	/* Names are free to invent: what never had a key leaves no file. */
	if (!service->backup && service->snapshot->image.n_entries == 0)
		return;
	if (!backup_is_due(service->backup, service->generation, confirmed_at))
		return;
	service->backup = backups_get(backups, service->name);
	if (!service->backup || make_facts(service, &facts) < 0)
		return; /* the next confirmation tries again */
	backup_listen(service->backup, service_publish_quiet, service);
	backup_put(service->backup, service->snapshot, service_pin_is_there(service), &facts);
}

void service_backup_note(struct service *service)
{
	if (!service->is_restored)
		service_backup_keep(service);
}

void service_backup_record(struct service *service, struct snapshot *snapshot)
{
	struct backup *recorder = backups_get_recorder(service->backups, service->name);
	struct backup_facts facts;

	if (!recorder || !is_wanted(service, service->config) || make_facts(service, &facts) < 0)
		return;
	backup_put(recorder, snapshot, false, &facts);
}
