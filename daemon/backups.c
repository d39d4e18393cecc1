#include "daemon/backups.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/backup-list.h"
#include "daemon/history.h"
#include "daemon/log.h"
#include "proto/key.h"

static int compare_backups(const struct backup *a, const struct backup *b)
{
	return strcmp(a->service, b->service);
}

ORDERED_GENERATE(backup_table, backup, link, compare_backups)

static struct backup *find(struct backup_table *table, const char *service)
{
	struct backup wanted;

	snprintf(wanted.service, sizeof(wanted.service), "%s", service);
	return RB_FIND(backup_table, table, &wanted);
}

static struct backup *get(struct backups *backups, struct backup_table *table, const char *service)
{
	struct backup *backup = find(table, service);

	if (backup)
		return backup;
	backup = backup_new(backups, service);
	if (!backup)
		return NULL;
	backup->is_recorder = table == &backups->recorders;
	RB_INSERT(backup_table, table, backup);
	return backup;
}

struct backup *backups_find(struct backups *backups, const char *service)
{
	return backups ? find(&backups->table, service) : NULL;
}

struct backup *backups_get(struct backups *backups, const char *service)
{
	return backups ? get(backups, &backups->table, service) : NULL;
}

struct backup *backups_get_recorder(struct backups *backups, const char *service)
{
	return backups ? get(backups, &backups->recorders, service) : NULL;
}

/* Of a service's file; false: the name is another's. */
static bool is_backup_name(const char *name, char ret_service[LIMIT_SERVICE_NAME + 1])
{
	size_t len = strlen(name), suffix = strlen(BACKUP_SUFFIX);

	if (len <= suffix || len - suffix > LIMIT_SERVICE_NAME ||
		!std_streq(name + len - suffix, BACKUP_SUFFIX) ||
		!key_is_service_name(name, len - suffix))
		return false;
	memcpy(ret_service, name, len - suffix);
	ret_service[len - suffix] = '\0';
	return true;
}

static int look_at(struct backups *backups, enum state_place place, const char *name)
{
	char service[LIMIT_SERVICE_NAME + 1];
	uint8_t tail[BACKUP_TAIL];
	struct backup_format format;
	struct backup *backup;
	int r;

	/* Of a daemon that was killed. */
	if (strncmp(name, BACKUP_TEMPORARY, strlen(BACKUP_TEMPORARY)) == 0)
		(void)unlinkat(backups->directory.fds[place], name, 0);
	if (!is_backup_name(name, service))
		return 0;
	backup = backups_get(backups, service);
	if (!backup)
		return -ENOMEM;
	r = backup_load_peek(backups->directory.fds[place], name, tail, &format, NULL);
	if (r == 0 && !backup_format_is_of(&format, service))
		r = -EBADMSG;
	/* Of two, the newer: the daemon was killed while the service moved. */
	backup->has_other = backup->is_known;
	if (r == 0 && backup->is_known && backup->generation > le64_get(format.footer.generation))
		return 0;
	backup->place = place;
	if (r < 0) {
		backup_refuse(backup, r);
		return 0;
	}
	backup->is_known = true;
	backup->generation = le64_get(format.footer.generation);
	backup->confirmed_at =
		backups->started_at - backup_format_age_usec(&format.footer, &backups->clock);
	return 0;
}

typedef int (*entry_fn)(struct backups *backups, enum state_place place, const char *name);

static int walk(struct backups *backups, enum state_place place, entry_fn fn)
{
	int fd = openat(backups->directory.fds[place], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int r = 0;

	if (!dir) {
		/* Without a directory it has been said. */
		if (backups->directory.fds[place] >= 0)
			log_event(LOG_LEVEL_ERROR, ABOUT(LOG_STATE_DIRECTORY),
				"cannot look for backups in %s: %s",
				backups->config->state_directory, strerror(errno));
		std_closep(&fd);
		return 0;
	}
	while (r == 0 && (entry = readdir(dir)))
		r = fn(backups, place, entry->d_name);
	closedir(dir);
	return r;
}

struct removal {
	struct backup_job job;
	struct backups *backups;
	struct list waiters;
	uint64_t served; /* the generation that stays, 0: nothing does */
	uint64_t digest; /* of contents that no other generation has than the one to go; 0: none */
	bool has_found;
};

static void remove_kept(struct removal *removal);

/* The newest that is on the disk or under way there. */
static uint64_t newest(const struct backup *backup)
{
	if (backup && backup->next)
		return backup->next->snapshot->generation;
	return backup && backup->busy ? backup->busy->snapshot->generation
				      : backup_generation(backup);
}

/* What is served is not in the file yet: something older was being written, or it failed. */
static bool is_behind(const struct removal *removal)
{
	const struct backup *backup = find(&removal->backups->table, removal->job.service);

	return removal->served != 0 && backup && (backup->next || backup->busy) &&
	       backup->generation < removal->served;
}

static void note_failed_write(struct removal *removal)
{
	const struct backup *backup = find(&removal->backups->table, removal->job.service);

	if (is_behind(removal))
		removal->job.error = backup_error(backup, &removal->job.step);
}

static void on_removed(struct backup_job *job)
{
	struct removal *removal = CONTAINER_OF(job, struct removal, job);

	removal->has_found |= job->n_found > 0;
	if (job->error == 0)
		note_failed_write(removal);
	if (job->error == 0 && is_behind(removal)) {
		remove_kept(removal);
		return;
	}
	if (job->error < 0)
		log_error("%s: what is kept of it cannot be removed: %s: %s", job->service,
			job->step, strerror(-job->error));
	else if (!removal->has_found)
		job->error = -ENOENT;
	backup_writer_tell(&removal->waiters, job);
	free(removal);
}

static bool is_discarded(const struct backup *backup)
{
	return backup->busy && backup->busy->is_discarded;
}

/* The backup may have the contents that are to go under a later number, which the history lacks. */
static bool is_in_file(const struct removal *removal, const struct backup *backup)
{
	return backup->generation == removal->job.only || is_discarded(backup) ||
	       (removal->digest != 0 && backup_has_digest(backup, removal->digest));
}

/* What is to be written must not come after the removal; what stays, not with what it replaces. */
static void remove_kept(struct removal *removal)
{
	struct backups *backups = removal->backups;
	struct backup_job *job = &removal->job;
	struct backup *backup = find(&backups->table, job->service);
	bool is_used = removal->served != 0;

	removal->has_found |=
		backup_discard(find(&backups->recorders, job->service), job->only, removal->digest);
	if (is_used && backup)
		backup_submit(backup);
	else
		removal->has_found |= backup_discard(backup, job->only, removal->digest);
	job->kind = is_used || job->only != 0 ? BACKUP_JOB_FORGET : BACKUP_JOB_REMOVE;
	job->place = STATE_PRIVATE;
	if (is_used)
		job->has_file = job->only == 0 && newest(backup) != removal->served;
	else
		job->has_file = backup && job->only != 0 && is_in_file(removal, backup);
	job->done = on_removed;
	if (backup && (job->kind == BACKUP_JOB_REMOVE || job->has_file))
		backup->is_known = false;
	backup_writer_submit(backups->writer, job);
}

void backups_forget(struct backups *backups, const char *service, const struct snapshot *served,
	uint64_t only, struct backup_waiter *waiter)
{
	struct removal *removal = backups ? calloc(1, sizeof(*removal)) : NULL;

	if (!removal) {
		if (waiter)
			waiter->fn(waiter, backups ? -ENOMEM : -ENOENT, "malloc");
		return;
	}
	list_init(&removal->waiters);
	if (waiter)
		list_append(&removal->waiters, &waiter->link);
	removal->backups = backups;
	snprintf(removal->job.service, sizeof(removal->job.service), "%s", service);
	removal->job.only = only;
	if (only != 0)
		(void)history_sole_digest(
			backups->directory.fds[STATE_HISTORY], service, only, &removal->digest);
	/* Of what is to have no backup nothing is spared. */
	if (served && config_rule_keeps(backups->config, service)) {
		removal->served = served->generation;
		removal->job.spare = served->image.digest;
	}
	remove_kept(removal);
}

/* --- what the rules want now ------------------------------------------------------------- */

static int forget_unwanted(struct backups *backups, enum state_place place, const char *service)
{
	(void)place;
	if (key_is_service_name(service, strlen(service)) &&
		!config_rule_keeps(backups->config, service))
		backups_forget(backups, service, NULL, 0, NULL);
	return 0;
}

/* Those that have no backup may have a history. */
static void apply_rules(struct backups *backups)
{
	struct backup *backup;

	walk(backups, STATE_HISTORY, forget_unwanted);
	RB_FOREACH (backup, backup_table, &backups->table) {
		if (config_rule_keeps(backups->config, backup->service))
			backup_settle_place(backup);
		else if (backup->is_known || backup->next || backup->busy)
			backups_forget(backups, backup->service, NULL, 0, NULL);
	}
	RB_FOREACH (backup, backup_table, &backups->recorders)
		if ((backup->next || backup->busy) &&
			!config_rule_keeps(backups->config, backup->service))
			backups_forget(backups, backup->service, NULL, 0, NULL);
}

static uint64_t expire_pause(const struct backups *backups)
{
	return MIN(backups->config->expire_usec, LIMIT_EXPIRE_LOOK_USEC);
}

static void on_expire_timer(void *userdata)
{
	struct backups *backups = userdata;
	uint64_t now = loop_now();
	struct backup *backup;

	RB_FOREACH (backup, backup_table, &backups->table) {
		if (!backup->is_known || backup->is_used ||
			now - backup->confirmed_at < backups->config->expire_usec)
			continue;
		log_event(LOG_LEVEL_INFO, ABOUT(LOG_BACKUP_EXPIRED, .service = backup->service),
			"%s: nobody uses it any more: what is kept of it is removed",
			backup->service);
		backups_forget(backups, backup->service, NULL, 0, NULL);
	}
	loop_timer_arm(backups->expire_timer, expire_pause(backups));
}

const struct state_directory *backups_directory(const struct backups *backups)
{
	return &backups->directory;
}

struct backup_writer *backups_writer(const struct backups *backups)
{
	return backups->writer;
}

static int open_directory(struct backups *backups, struct state_directory *ret_of_writer)
{
	const char *path = backups->config->state_directory;
	int r;

	*ret_of_writer = (struct state_directory)STATE_DIRECTORY_NONE;
	r = state_directory_open(path, backups->gid, &backups->directory);
	if (r == 0)
		r = state_directory_reopen(path, &backups->directory, ret_of_writer);
	if (r == 0 && backups->directory.gid != backups->gid) {
		log_warning(
			"the daemon may give no files to [socket] group=%s, as it is no member: "
			"backups are for itself alone, and programs have none while no "
			"daemon runs",
			backups->config->socket_group);
		backups->gid = backups->directory.gid;
	}
	if (r == -EADDRINUSE || r == 0)
		return r;
	log_event(LOG_LEVEL_ERROR, ABOUT(LOG_STATE_DIRECTORY),
		"cannot use the state directory %s: %s; serving without backups until it can be",
		path, strerror(-r));
	state_directory_close(&backups->directory);
	state_directory_close(ret_of_writer);
	backups->directory.gid = ret_of_writer->gid = backups->gid;
	return 0;
}

int backups_new(struct loop *loop, const struct config *config, gid_t socket_group,
	struct backups **ret_backups)
{
	struct backups *backups = calloc(1, sizeof(*backups));
	struct state_directory of_writer = STATE_DIRECTORY_NONE;
	int r;

	if (!backups)
		return -ENOMEM;
	backups->loop = loop;
	backups->config = config;
	backups->gid = socket_group;
	backups->directory = (struct state_directory)STATE_DIRECTORY_NONE;
	RB_INIT(&backups->table);
	RB_INIT(&backups->recorders);
	backups->started_at = loop_now();
	backup_format_clock(&backups->clock);
	r = open_directory(backups, &of_writer);
	if (r == 0)
		r = backup_writer_new(loop, config->state_directory, &of_writer, &backups->writer);
	if (r == 0)
		r = backup_list_new(loop, backups->writer, &backups->list);
	if (r == 0)
		r = backup_pins_new(loop, backups, &backups->pins);
	if (r == 0)
		r = loop_timer_new(loop, on_expire_timer, backups, &backups->expire_timer);
	if (r == 0)
		r = loop_timer_arm(backups->expire_timer, expire_pause(backups));
	if (r == 0)
		r = walk(backups, STATE_OPEN, look_at);
	if (r == 0)
		r = walk(backups, STATE_PRIVATE, look_at);
	if (r == 0 && !RB_EMPTY(&backups->table))
		log_info("there are backups in %s", config->state_directory);
	if (r < 0) {
		state_directory_close(&of_writer);
		backups_free(backups);
		return r;
	}
	apply_rules(backups);
	*ret_backups = backups;
	return 0;
}

/* False: the disk does not answer. */
static bool write_all(struct backups *backups)
{
	struct backup *backup;

	RB_FOREACH (backup, backup_table, &backups->table)
		backup_submit(backup);
	RB_FOREACH (backup, backup_table, &backups->recorders)
		backup_submit(backup);
	backup_pins_submit(backups->pins);
	return backup_writer_drain(backups->writer);
}

static void empty(struct backup_table *table)
{
	struct backup *backup;

	while ((backup = RB_MIN(backup_table, table))) {
		RB_REMOVE(backup_table, table, backup);
		backup_free(backup);
	}
}

struct backups *backups_free(struct backups *backups)
{
	if (!backups)
		return NULL;
	/* Twice: some were being written, and have something newer. */
	if (!write_all(backups) || !write_all(backups)) {
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_STATE_DIRECTORY),
			"the disk of %s does not answer, or not in time: %u newest backups are "
			"not written",
			backups->config->state_directory, backup_writer_n_left(backups->writer));
		return NULL; /* the thread still reads what is here */
	}
	backup_list_free(backups->list);
	backup_writer_free(backups->writer);
	backup_pins_free(backups->pins);
	empty(&backups->table);
	empty(&backups->recorders);
	loop_timer_free(backups->expire_timer);
	state_directory_close(&backups->directory);
	free(backups);
	return NULL;
}

void backups_configure(struct backups *backups, const struct config *config)
{
	if (!backups)
		return;
	backups->config = config;
	apply_rules(backups);
}

uint64_t backups_n_errors(const struct backups *backups)
{
	return backups ? backups->n_errors : 0;
}

struct backup_list *backups_list(const struct backups *backups)
{
	return backups ? backups->list : NULL;
}

struct backup_pins *backups_pins(const struct backups *backups)
{
	return backups ? backups->pins : NULL;
}
