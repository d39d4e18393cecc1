#include "daemon/memory.h"

#include <limits.h>
#include <stdio.h>

#include "daemon/log.h"
#include "daemon/loop.h"
#include "proto/limits.h"

/* A version of the controller: what its files are called. */
struct controller {
	const char *mark; /* in the line of /proc/PID/cgroup, in front of the path */
	bool is_first; /* the mark begins the line */
	const char *folder; /* below the mount */
	const char *limits[2], *usage; /* a limit may be NULL */
	const char *droppable[2]; /* lines of memory.stat: pages of files */
};

static const struct controller controllers[] = {
	{ "0::", true, "", { "memory.max", "memory.high" }, "memory.current",
		{ "inactive_file ", "active_file " } },
	{ ":memory:", false, "/memory", { "memory.limit_in_bytes", NULL }, "memory.usage_in_bytes",
		{ "total_inactive_file ", "total_active_file " } },
};

static FILE *open_in(const char *folder, const char *name)
{
	char path[PATH_MAX];

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path))
		return NULL;
	return fopen(path, "re");
}

/* No such file, or the word "max": no limit. */
static uint64_t read_limit(const char *folder, const char *name)
{
	FILE *file = name ? open_in(folder, name) : NULL;
	unsigned long long n;
	bool is_number;

	if (!file)
		return MEMORY_UNLIMITED;
	is_number = fscanf(file, "%llu", &n) == 1;
	fclose(file);
	return is_number ? n : MEMORY_UNLIMITED;
}

static uint64_t read_droppable(const char *folder, const struct controller *controller)
{
	FILE *file = open_in(folder, "memory.stat");
	char line[128];
	uint64_t sum = 0;

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		for (size_t i = 0; i < ARRAY_SIZE(controller->droppable); i++) {
			size_t len = strlen(controller->droppable[i]);

			if (strncmp(line, controller->droppable[i], len) == 0)
				sum += strtoull(line + len, NULL, 10);
		}
	fclose(file);
	return sum;
}

static uint64_t left_in(const char *folder, const struct controller *controller)
{
	uint64_t limit = MIN(read_limit(folder, controller->limits[0]),
		read_limit(folder, controller->limits[1]));
	uint64_t usage, droppable;

	if (limit >= INT64_MAX / 2) /* how the first version writes "none" */
		return MEMORY_UNLIMITED;
	usage = read_limit(folder, controller->usage);
	if (usage == MEMORY_UNLIMITED)
		return MEMORY_UNLIMITED;
	droppable = read_droppable(folder, controller);
	usage -= MIN(usage, droppable);
	return limit - MIN(limit, usage);
}

/* The tightest of a group and those around it. A path that is not there is that of another
 * namespace: what is mounted is our own group. */
static uint64_t left_from(char *folder, size_t root_len, const struct controller *controller)
{
	uint64_t left = MEMORY_UNLIMITED;

	for (;;) {
		left = MIN(left, left_in(folder, controller));
		if (strlen(folder) <= root_len)
			return left;
		*strrchr(folder, '/') = '\0';
	}
}

static uint64_t left_of(const char *line, const char *mount)
{
	char folder[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
		const char *mark = strstr(line, controllers[i].mark);
		int root_len, len;

		if (!mark || (controllers[i].is_first && mark != line))
			continue;
		root_len = snprintf(folder, sizeof(folder), "%s%s", mount, controllers[i].folder);
		len = snprintf(folder, sizeof(folder), "%s%s%s", mount, controllers[i].folder,
			mark + strlen(controllers[i].mark));
		if (len < 0 || (size_t)len >= sizeof(folder))
			continue;
		while (len > root_len && folder[len - 1] == '/')
			folder[--len] = '\0';
		return left_from(folder, (size_t)root_len, &controllers[i]);
	}
	return MEMORY_UNLIMITED;
}

uint64_t memory_left(const char *membership, const char *mount)
{
	FILE *file = fopen(membership, "re");
	uint64_t left = MEMORY_UNLIMITED;
	char line[PATH_MAX];

	if (!file)
		return MEMORY_UNLIMITED;
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		left = MIN(left, left_of(line, mount));
	}
	fclose(file);
	return left;
}

bool memory_has(struct memory_shortage *shortage, uint64_t needed, uint64_t left)
{
	if (left < needed) {
		if (shortage->needed == 0)
			log_event(LOG_LEVEL_WARNING, ABOUT(LOG_MEMORY_SHORT),
				"memory is short: %llu MB to the limit of the control group; "
				"clients read over the socket until they let old snapshots go",
				(unsigned long long)left >> 20);
		shortage->needed = MAX(shortage->needed, needed);
		return false;
	}
	if (shortage->needed > 0 && left >= shortage->needed) {
		log_event(LOG_LEVEL_INFO, ABOUT(LOG_MEMORY_ENOUGH),
			"memory is no longer short: snapshots are shared again");
		shortage->needed = 0;
	}
	return true;
}

bool memory_take(uint64_t bytes)
{
	static uint64_t asked_at, left;
	static struct memory_shortage shortage;
	uint64_t needed = bytes * LIMIT_MEMORY_FACTOR + LIMIT_MEMORY_RESERVE;
	uint64_t age = loop_now() - asked_at;

	if (asked_at == 0 || age >= LIMIT_MEMORY_AGE_MAX_USEC ||
		(age >= LIMIT_MEMORY_AGE_USEC && left / 4 < needed)) {
		left = memory_left("/proc/self/cgroup", "/sys/fs/cgroup");
		asked_at = loop_now();
	}
	if (left == MEMORY_UNLIMITED)
		return true;
	if (!memory_has(&shortage, needed, left))
		return false;
	left -= bytes;
	return true;
}
