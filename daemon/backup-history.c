#include "daemon/backup-history.h"

#include <stdio.h>

static int directory_of(const struct backups *backups)
{
	return backups ? backups_directory(backups)->fds[STATE_HISTORY] : -1;
}

int backup_history_list(struct backups *backups, const char *service, struct json *json)
{
	int directory = directory_of(backups);

	return directory < 0 ? 0 : history_list(directory, service, json);
}

int backup_history_open(struct backups *backups, const char *service, uint64_t generation)
{
	int directory = directory_of(backups), r;

	if (directory < 0)
		return -ENOENT;
	r = history_open(directory, service, generation);
	return r == -ENOENT ? backup_open(backups_find(backups, service), generation) : r;
}

int backup_history_find(struct backups *backups, const char *service,
	const struct backup_identity *identity, const struct history_target *target,
	uint64_t *ret_generation)
{
	int directory = directory_of(backups);

	if (directory < 0)
		return -ENOENT;
	return history_find(directory, service, identity, target, ret_generation);
}

bool backup_history_is_sole(
	struct backups *backups, const char *service, uint64_t generation, uint64_t digest)
{
	int directory = directory_of(backups);
	uint64_t sole;

	return directory >= 0 && history_sole_digest(directory, service, generation, &sole) == 0 &&
	       sole == digest;
}

int backup_history_load(struct backups *backups, const char *service, uint64_t generation,
	struct backup_load **ret_load)
{
	char name[LIMIT_SERVICE_NAME + 32];

	if (directory_of(backups) < 0)
		return -ENOENT;
	snprintf(name, sizeof(name), "%s/" HISTORY_NAME, service, (unsigned long long)generation);
	return backup_load_new(directory_of(backups), name, ret_load);
}
