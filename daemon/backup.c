#include "daemon/backup.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/access.h"
#include "daemon/backup-list.h"
#include "daemon/backup-writer.h"
#include "daemon/log.h"
#include "proto/key.h"

RB_HEAD(backup_table, backup);

struct backups {
	struct loop *loop;
	const struct config *config;
	gid_t gid;
	struct state_directory directory; /* for reading; the writer has its own */
	struct backup_writer *writer;
	struct backup_table table; /* by service */
	struct backup_table recorders; /* that write to the history alone */
	struct loop_timer *expire_timer;
	struct backup_clock clock; /* of the start */
	uint64_t started_at; /* loop_now(), at the same moment */
	struct backup_list *list;
	uint64_t n_errors;
};

struct backup {
	RB_ENTRY(backup) link; /* backups::table */
	struct backups *backups;
	char service[LIMIT_SERVICE_NAME + 1];
	bool is_recorder;
	bool is_used; /* the service runs */
	bool is_known; /* a file is there, and was whole when it was looked at */
	enum state_place place; /* of the file */
	uint64_t generation; /* in the file */
	uint64_t confirmed_at; /* likewise, loop_now() time */
	/* To be written: */
	struct snapshot *next;
	bool is_pinned; /* not what the source says */
	struct backup_facts facts; /* of next */
	struct loop_timer *timer;
	uint64_t tried_at; /* loop_now(); 0: never */
	/* Being written: */
	bool is_busy;
	struct snapshot *busy_with;
	bool is_busy_pinned;
	struct backup_facts busy_facts;
	struct backup_job job;
	uint64_t retry_usec; /* 0: the last write was good */
	char error[128];
};

static int compare_backups(const struct backup *a, const struct backup *b)
{
	return strcmp(a->service, b->service);
}

ORDERED_GENERATE(backup_table, backup, link, compare_backups)

static void name_of(const struct backup *backup, char ret_name[BACKUP_NAME])
{
	snprintf(ret_name, BACKUP_NAME, "%s" BACKUP_SUFFIX, backup->service);
}

static void drop(struct snapshot **snapshot, struct backup_facts *facts)
{
	*snapshot = snapshot_unref(*snapshot);
	free(facts->names);
	facts->names = NULL;
}

/* --- writing ----------------------------------------------------------------------------- */

static void schedule(struct backup *backup)
{
	uint64_t now = loop_now(), gap = MAX(LIMIT_BACKUP_WRITE_USEC, backup->retry_usec), at;

	if (!backup->next || backup->is_busy || loop_timer_is_armed(backup->timer))
		return;
	at = backup->tried_at != 0 ? backup->tried_at + gap : now;
	loop_timer_arm(backup->timer, at > now ? at - now : 0);
}

static void note_success(struct backup *backup)
{
	if (backup->retry_usec != 0)
		log_info("%s: its backup is written again", backup->service);
	backup->retry_usec = 0;
	backup->error[0] = '\0';
	backup->is_known = true;
	backup->place = backup->job.place;
	backup->generation = le64_get(backup->job.footer.generation);
	backup->confirmed_at = backup->busy_facts.confirmed_at;
}

static void note_failure(struct backup *backup)
{
	const struct backup_job *job = &backup->job;
	char error[sizeof(backup->error)];

	snprintf(error, sizeof(error), "%s: %s", job->step, strerror(-job->error));
	backup->backups->n_errors++;
	if (!std_streq(error, backup->error))
		log_error("%s: cannot write its backup: %s; %s, and it is tried again",
			backup->service, error,
			backup->is_known ? "the one before stays" : "there is none");
	memcpy(backup->error, error, sizeof(error));
	backup->retry_usec = backup->retry_usec == 0
				     ? LIMIT_BACKUP_WRITE_USEC
				     : MIN(2 * backup->retry_usec, LIMIT_BACKUP_RETRY_MAX_USEC);
}

static void on_written(struct backup_job *job)
{
	struct backup *backup = job->userdata;

	backup->is_busy = false;
	if (job->error == 0)
		note_success(backup);
	else
		note_failure(backup);
	/* What failed is still to be written, unless there is something newer. */
	if (job->error < 0 && !backup->next) {
		backup->next = TAKE_PTR(backup->busy_with);
		backup->is_pinned = backup->is_busy_pinned;
		backup->facts = backup->busy_facts;
		backup->busy_facts.names = NULL;
	}
	drop(&backup->busy_with, &backup->busy_facts);
	schedule(backup);
}

static void fill_in(struct backup *backup)
{
	struct backups *backups = backup->backups;
	const struct backup_facts *facts = &backup->busy_facts;
	struct backup_job *job = &backup->job;
	uint64_t now = loop_realtime_usec(), boottime = loop_now();

	job->kind = BACKUP_JOB_IMAGE;
	job->place = access_is_open_to(backups->config, backups->gid, backup->service)
			     ? STATE_OPEN
			     : STATE_PRIVATE;
	strcpy(job->service, backup->service);
	job->image = backup->busy_with->image.data;
	job->image_size = backup->busy_with->image.size;
	job->names = facts->names;
	job->names_size = facts->names_size;
	job->footer = (struct backup_footer){
		.generation = le64_of(backup->busy_with->generation),
		.index = le64_of(facts->index),
		.flags_digest = le64_of(facts->flags_digest),
		.published_at = le64_of(now),
		.confirmed_at = le64_of(now - (boottime - facts->confirmed_at)),
		.confirmed_boottime = le64_of(facts->confirmed_at),
	};
	memcpy(job->footer.boot_id, backups->clock.boot_id, sizeof(job->footer.boot_id));
	for (unsigned i = 0; i < LIMIT_LAYERS; i++)
		job->footer.layer_index[i] = le64_of(facts->layer_index[i]);
	job->is_served = !backup->is_recorder;
	job->is_recorded = !backup->is_busy_pinned;
	job->keep = backups->config->keep;
	job->done = on_written;
	job->userdata = backup;
}

static void submit(struct backup *backup)
{
	loop_timer_disarm(backup->timer);
	backup->busy_with = TAKE_PTR(backup->next);
	backup->is_busy_pinned = backup->is_pinned;
	backup->busy_facts = backup->facts;
	backup->facts.names = NULL;
	backup->is_busy = true;
	backup->tried_at = loop_now();
	fill_in(backup);
	backup_writer_submit(backup->backups->writer, &backup->job);
}

static void on_timer(void *userdata)
{
	struct backup *backup = userdata;

	if (backup->next && !backup->is_busy)
		submit(backup);
}

bool backup_is_due(const struct backup *backup, uint64_t generation, uint64_t confirmed_at)
{
	const struct snapshot *newest;
	uint64_t said;

	if (!backup)
		return true;
	newest = backup->next ? backup->next : backup->busy_with;
	if (newest)
		return newest->generation != generation;
	said = backup->confirmed_at;
	return !backup->is_known || backup->generation != generation ||
	       confirmed_at - said >= backup->backups->config->resync_usec / 2;
}

void backup_put(struct backup *backup, struct snapshot *snapshot, bool is_pinned,
	const struct backup_facts *facts)
{
	if (!backup) {
		free(facts->names);
		return;
	}
	drop(&backup->next, &backup->facts);
	backup->next = snapshot_ref(snapshot);
	backup->is_pinned = is_pinned;
	backup->is_used = true;
	backup->facts = *facts;
	schedule(backup);
}

/* --- reading ----------------------------------------------------------------------------- */

static void set_aside(struct backup *backup, const char *why)
{
	struct backups *backups = backup->backups;
	char name[BACKUP_NAME];
	int r;

	name_of(backup, name);
	backup->is_known = false;
	r = state_directory_set_aside(
		&backups->directory, backups->directory.fds[backup->place], name);
	if (r < 0)
		log_error("%s: its backup %s and cannot be set aside: %s; not served",
			backup->service, why, strerror(-r));
	else
		log_error("%s: its backup %s; set aside as %s/damaged/%s, not served",
			backup->service, why, backups->config->state_directory, name);
}

void backup_refuse(struct backup *backup, int error)
{
	if (error == -EBADMSG)
		set_aside(backup, "is damaged");
	else if (error == -EPERM)
		set_aside(backup, "is no file that only the daemon may write");
	else
		log_error("%s: cannot read its backup: %s", backup->service, strerror(-error));
}

int backup_load(
	struct backup *backup, const char *names, size_t names_size, struct backup_load **ret_load)
{
	struct backup_load *load;
	char name[BACKUP_NAME];
	int r;

	if (!backup || !backup->is_known)
		return -ENOENT;
	name_of(backup, name);
	r = backup_load_new(backup->backups->directory.fds[backup->place], name, &load);
	if (r < 0) {
		backup_refuse(backup, r);
		return -ENOENT;
	}
	if (!backup_format_has_identity(backup_load_format(load), names, names_size)) {
		backup_load_free(load);
		set_aside(backup, "is of another cluster or other prefixes");
		return -ENOENT;
	}
	*ret_load = load;
	return 0;
}

bool backup_is_known(const struct backup *backup, uint64_t *ret_confirmed_at)
{
	if (!backup || !backup->is_known)
		return false;
	*ret_confirmed_at = backup->confirmed_at;
	return true;
}

uint64_t backup_generation(const struct backup *backup)
{
	return backup && backup->is_known ? backup->generation : 0;
}

const char *backup_error(const struct backup *backup)
{
	return backup && backup->error[0] != '\0' ? backup->error : NULL;
}

/* --- which there are --------------------------------------------------------------------- */

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
	backup = calloc(1, sizeof(*backup));
	if (!backup || loop_timer_new(backups->loop, on_timer, backup, &backup->timer) < 0) {
		free(backup);
		return NULL;
	}
	backup->backups = backups;
	snprintf(backup->service, sizeof(backup->service), "%s", service);
	backup->place = STATE_PRIVATE;
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

void backup_set_used(struct backup *backup, bool is_used)
{
	if (backup)
		backup->is_used = is_used;
}

static void free_backup(struct backup *backup)
{
	struct backups *backups = backup->backups;

	RB_REMOVE(
		backup_table, backup->is_recorder ? &backups->recorders : &backups->table, backup);
	loop_timer_free(backup->timer);
	drop(&backup->next, &backup->facts);
	drop(&backup->busy_with, &backup->busy_facts);
	free(backup);
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

	if (!is_backup_name(name, service))
		return 0;
	backup = backups_get(backups, service);
	if (!backup)
		return -ENOMEM;
	r = backup_load_peek(backups->directory.fds[place], name, tail, &format, NULL);
	if (r == 0 && !backup_format_is_of(&format, service))
		r = -EBADMSG;
	/* Of two, the newer: the daemon was killed while the service moved. */
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

static int look_around(struct backups *backups, enum state_place place)
{
	int fd = openat(backups->directory.fds[place], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int r = 0;

	if (!dir) {
		std_closep(&fd);
		return 0; /* said already: the directory is of no use */
	}
	while (r == 0 && (entry = readdir(dir)))
		r = look_at(backups, place, entry->d_name);
	closedir(dir);
	return r;
}

static void on_removed(struct backup_job *job)
{
	if (job->error < 0)
		log_error("%s: what is kept of it cannot be removed: %s: %s", job->service,
			job->step, strerror(-job->error));
	free(job);
}

void backups_forget(struct backups *backups, const char *service, bool is_used, uint64_t only)
{
	struct backup *backup = backups_find(backups, service);
	struct backup_job *job = backups ? calloc(1, sizeof(*job)) : NULL;

	if (!job)
		return;
	job->kind = is_used || only != 0 ? BACKUP_JOB_FORGET : BACKUP_JOB_REMOVE;
	job->place = STATE_PRIVATE;
	snprintf(job->service, sizeof(job->service), "%s", service);
	job->spare = is_used && backup ? backup->generation : 0;
	job->only = only;
	job->done = on_removed;
	if (job->kind == BACKUP_JOB_REMOVE && backup)
		backup->is_known = false;
	backup_writer_submit(backups->writer, job);
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
		log_info("%s: nobody uses it any more: what is kept of it is removed",
			backup->service);
		backups_forget(backups, backup->service, false, 0);
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
	if (r == -EADDRINUSE || r == 0)
		return r;
	log_error("cannot use the state directory %s: %s; serving without backups until it can be",
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
		r = loop_timer_new(loop, on_expire_timer, backups, &backups->expire_timer);
	if (r == 0)
		r = loop_timer_arm(backups->expire_timer, expire_pause(backups));
	if (r == 0)
		r = look_around(backups, STATE_OPEN);
	if (r == 0)
		r = look_around(backups, STATE_PRIVATE);
	if (r == 0 && !RB_EMPTY(&backups->table))
		log_info("there are backups in %s", config->state_directory);
	if (r < 0) {
		state_directory_close(&of_writer);
		backups_free(backups);
		return r;
	}
	*ret_backups = backups;
	return 0;
}

/* False: the disk does not answer. */
static bool write_all(struct backups *backups)
{
	struct backup *backup;

	RB_FOREACH (backup, backup_table, &backups->table)
		if (backup->next && !backup->is_busy)
			submit(backup);
	RB_FOREACH (backup, backup_table, &backups->recorders)
		if (backup->next && !backup->is_busy)
			submit(backup);
	return backup_writer_drain(backups->writer);
}

struct backups *backups_free(struct backups *backups)
{
	struct backup *backup;

	if (!backups)
		return NULL;
	/* Twice: some were being written, and have something newer. */
	if (!write_all(backups) || !write_all(backups)) {
		log_error("the disk of %s does not answer: the newest backups are not written",
			backups->config->state_directory);
		return NULL; /* the thread still reads what is here */
	}
	backup_list_free(backups->list);
	backup_writer_free(backups->writer);
	while ((backup = RB_MIN(backup_table, &backups->table)))
		free_backup(backup);
	while ((backup = RB_MIN(backup_table, &backups->recorders)))
		free_backup(backup);
	loop_timer_free(backups->expire_timer);
	state_directory_close(&backups->directory);
	free(backups);
	return NULL;
}

void backups_configure(struct backups *backups, const struct config *config)
{
	if (backups)
		backups->config = config;
}

uint64_t backups_n_errors(const struct backups *backups)
{
	return backups ? backups->n_errors : 0;
}

struct backup_list *backups_list(const struct backups *backups)
{
	return backups ? backups->list : NULL;
}
