#include "daemon/service-backup.h"

#include <stdio.h>

#include "daemon/backup-history.h"
#include "daemon/recall.h"
#include "daemon/service-pin.h"
#include "daemon/service-publish.h"
#include "daemon/service-state.h"
#include "daemon/services.h"
#include "proto/hash.h"

#define PLACES 5 /* of an identity, in front of the prefixes */

/* Everything that makes these contents those of this service. */
static int make_names(const struct config *config, const char *service, char *const prefixes[],
	unsigned n_prefixes, struct backup_identity *ret_identity)
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
	return backup_format_names(
		parts, PLACES + n_prefixes, ret_identity->names, &ret_identity->size);
}

uint64_t service_backup_source(const struct config *config)
{
	struct backup_identity identity;

	return make_names(config, NULL, NULL, 0, &identity) < 0
		       ? 0
		       : hash_chain(0, identity.names, identity.size);
}

/* As it is configured now. The number of layers or -errno. */
static int identify(const struct service *service, struct backup_identity *ret_identity)
{
	const struct config *config = service->config;
	char *prefixes[LIMIT_LAYERS];
	int n = config_layers(config, service->name, prefixes), r;

	if (n < 0)
		return n;
	r = make_names(config, service->name, prefixes, (unsigned)n, ret_identity);
	for (int i = 0; i < n; i++)
		free(prefixes[i]);
	return r < 0 ? r : n;
}

int service_backup_find(const struct service *service, const char *target, uint64_t *ret_generation)
{
	struct history_target wanted = {
		.text = target,
		.generation = service->generation,
		.digest = service->snapshot ? service->snapshot->image.digest : 0,
	};
	struct backup_identity identity;
	int r = identify(service, &identity);

	wanted.has_said = service_pin_said(service, &wanted.said);
	return r < 0 ? r
		     : backup_history_find(
			       service->backups, service->name, &identity, &wanted, ret_generation);
}

/* What is served stays until there is something else, but is not what the layers now say. */
void service_backup_identify(struct service *service)
{
	struct backup_identity identity;
	uint64_t hash;

	if (!service->backups || identify(service, &identity) < 0)
		return;
	hash = hash_chain(0, identity.names, identity.size);
	if (hash == service->identity)
		return;
	if (service->snapshot || service->restore)
		service->is_foreign = true;
	service->recall = recall_free(service->recall);
	service->identity = hash;
}

bool service_backup_is_late(const struct service *service)
{
	uint64_t moved_at = service->services->moved_at;

	for (unsigned i = 0; moved_at != 0 && i < service->n_layers; i++)
		if ((int64_t)(service->layers[i].tree->confirmed_at - moved_at) < 0)
			return true;
	return false;
}

int service_backup_begin(struct service *service, struct restore **ret_restore)
{
	struct backup_identity identity;
	int n;

	if (!service->backup || !config_rule_keeps(service->config, service->name))
		return -ENOENT;
	n = identify(service, &identity);
	return n < 0 ? n
		     : restore_new(service->backup, identity.names, identity.size, (unsigned)n,
			       ret_restore);
}

static int make_facts(const struct service *service, struct backup_facts *ret_facts)
{
	struct backup_identity identity;
	char *prefixes[LIMIT_LAYERS];
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
	r = make_names(service->config, service->name, prefixes, service->n_layers, &identity);
	if (r < 0)
		return r;
	facts.names = malloc(identity.size);
	if (!facts.names)
		return -ENOMEM;
	facts.names_size = identity.size;
	memcpy(facts.names, identity.names, identity.size);
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
		!service->snapshot || service->is_foreign || service->n_layers == 0 ||
		!config_rule_keeps(service->config, service->name))
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

	if (!recorder || service_backup_is_late(service) ||
		!config_rule_keeps(service->config, service->name) ||
		make_facts(service, &facts) < 0)
		return;
	backup_put(recorder, snapshot, false, &facts);
}
