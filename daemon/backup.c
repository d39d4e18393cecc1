#include "daemon/backup.h"

#include <stdio.h>

#include "daemon/access.h"
#include "daemon/backups.h"
#include "daemon/history.h"
#include "daemon/log.h"

static void name_of(const struct backup *backup, char ret_name[BACKUP_NAME])
{
	snprintf(ret_name, BACKUP_NAME, "%s" BACKUP_SUFFIX, backup->service);
}

static struct backup_write *write_free(struct backup_write *write)
{
	if (!write)
		return NULL;
	loop_timer_free(write->timer);
	snapshot_unref(write->snapshot);
	free(write->facts.names);
	free(write);
	return NULL;
}

/* --- writing ----------------------------------------------------------------------------- */

static void schedule(struct backup *backup)
{
	uint64_t now = loop_now(), gap = MAX(LIMIT_BACKUP_WRITE_USEC, backup->retry_usec), at;

	if (!backup->next || backup->busy || loop_timer_is_armed(backup->next->timer))
		return;
	at = backup->tried_at != 0 ? backup->tried_at + gap : now;
	loop_timer_arm(backup->next->timer, at > now ? at - now : 0);
}

/* Of two writes the one that is under way counts. */
static enum state_place place_of(const struct backup *backup)
{
	return backup->busy && backup->n_moves == 0 ? backup->busy->job.place : backup->place;
}

static enum state_place place_for(const struct backup *backup)
{
	const struct backups *backups = backup->backups;

	return access_is_open_to(backups->config, backups->gid, backup->service) ? STATE_OPEN
										 : STATE_PRIVATE;
}

static void forget_failure(struct backup *backup)
{
	backup->retry_usec = 0;
	backup->error = 0;
}

static void note_success(struct backup *backup, const struct backup_write *write)
{
	if (backup->retry_usec != 0)
		log_event(LOG_LEVEL_INFO, ABOUT(LOG_BACKUP_MENDED, .service = backup->service),
			"%s: its backup is written again", backup->service);
	forget_failure(backup);
	backup->is_known = !write->is_discarded;
	if (backup->n_moves == 0)
		backup->place = write->job.place;
	backup->generation = le64_get(write->job.footer.generation);
	backup->confirmed_at = write->facts.confirmed_at;
}

static void note_failure(struct backup *backup, const struct backup_job *job)
{
	bool is_news = job->error != backup->error || !std_streq(job->step, backup->failed_step);

	backup->backups->n_errors++;
	if (is_news)
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_BACKUP_FAILED, .service = backup->service),
			"%s: cannot write its backup: %s: %s; %s, and it is tried again",
			backup->service, job->step, strerror(-job->error),
			backup->is_known ? "the one before stays" : "there is none");
	backup->error = job->error;
	backup->failed_step = job->step;
	backup->retry_usec = backup_writer_pause(backup->retry_usec);
}

static void on_written(struct backup_job *job)
{
	struct backup_write *write = CONTAINER_OF(job, struct backup_write, job);
	struct backup *backup = write->backup;

	backup->busy = NULL;
	if (job->error == 0)
		note_success(backup, write);
	else if (!write->is_discarded)
		note_failure(backup, job);
	/* What failed is still to be written, unless there is something newer. */
	if (job->error < 0 && !backup->next && !write->is_discarded)
		backup->next = TAKE_PTR(write);
	write_free(write);
	schedule(backup);
	if (backup->fn)
		backup->fn(backup->userdata);
}

static void fill_in(struct backup_write *write)
{
	const struct backup *backup = write->backup;
	const struct backups *backups = backup->backups;
	const struct backup_facts *facts = &write->facts;
	struct backup_job *job = &write->job;
	uint64_t now = loop_realtime_usec(), boottime = loop_now();

	job->kind = BACKUP_JOB_IMAGE;
	job->place = place_for(backup);
	strcpy(job->service, backup->service);
	job->image = write->snapshot->image.data;
	job->image_size = write->snapshot->image.size;
	job->names = facts->names;
	job->names_size = facts->names_size;
	job->footer = (struct backup_footer){
		.generation = le64_of(write->snapshot->generation),
		.index = le64_of(facts->index),
		.flags_digest = le64_of(facts->flags_digest),
		.published_at = le64_of(write->snapshot->published_at),
		.confirmed_at = le64_of(now - (boottime - facts->confirmed_at)),
		.confirmed_boottime = le64_of(facts->confirmed_at),
	};
	memcpy(job->footer.boot_id, backups->clock.boot_id, sizeof(job->footer.boot_id));
	for (unsigned i = 0; i < LIMIT_LAYERS; i++)
		job->footer.layer_index[i] = le64_of(facts->layer_index[i]);
	job->is_served = !backup->is_recorder;
	job->is_recorded = !write->is_pinned;
	job->keep = backups->config->keep;
	job->done = on_written;
}

void backup_submit(struct backup *backup)
{
	if (!backup->next || backup->busy)
		return;
	loop_timer_disarm(backup->next->timer);
	backup->busy = TAKE_PTR(backup->next);
	backup->tried_at = loop_now();
	fill_in(backup->busy);
	backup_writer_submit(backup->backups->writer, &backup->busy->job);
}

static void on_timer(void *userdata)
{
	backup_submit(userdata);
}

static struct backup_write *write_new(struct backup *backup)
{
	struct backup_write *write = calloc(1, sizeof(*write));

	if (!write)
		return NULL;
	write->backup = backup;
	return loop_timer_new(backup->backups->loop, on_timer, backup, &write->timer) < 0
		       ? write_free(write)
		       : write;
}

bool backup_is_due(const struct backup *backup, uint64_t generation, uint64_t confirmed_at)
{
	const struct backup_write *newest;
	uint64_t said;

	if (!backup)
		return true;
	newest = backup->next ? backup->next : backup->busy;
	if (newest)
		return newest->snapshot->generation != generation;
	said = backup->confirmed_at;
	return !backup->is_known || backup->generation != generation ||
	       confirmed_at - said >= backup->backups->config->resync_usec / 2;
}

void backup_put(struct backup *backup, struct snapshot *snapshot, bool is_pinned,
	const struct backup_facts *facts)
{
	struct backup_write *write = backup ? write_new(backup) : NULL;

	if (!write) {
		free(facts->names);
		return;
	}
	write->snapshot = snapshot_ref(snapshot);
	write->is_pinned = is_pinned;
	write->facts = *facts;
	write_free(backup->next);
	backup->next = write;
	backup->is_used = true;
	schedule(backup);
}

static bool is_of(const struct backup_write *write, uint64_t only, uint64_t digest)
{
	return write && (only == 0 || write->snapshot->generation == only ||
				(digest != 0 && write->snapshot->image.digest == digest));
}

bool backup_discard(struct backup *backup, uint64_t only, uint64_t digest)
{
	bool has_next = backup && is_of(backup->next, only, digest);
	bool has_busy = backup && is_of(backup->busy, only, digest);

	if (has_next) {
		backup->next = write_free(backup->next);
		forget_failure(backup);
	}
	if (has_busy)
		backup->busy->is_discarded = true;
	return has_next || has_busy;
}

struct move {
	struct backup_job job;
	struct backup *backup;
};

static void on_moved(struct backup_job *job)
{
	struct move *move = CONTAINER_OF(job, struct move, job);
	struct backup *backup = move->backup;

	backup->n_moves--;
	if (job->error < 0) {
		log_error("%s: its backup cannot be moved to where those find it who may read it "
			  "now: %s: %s",
			backup->service, job->step, strerror(-job->error));
		backup->place = job->from;
	}
	free(move);
}

void backup_settle_place(struct backup *backup)
{
	enum state_place from = place_of(backup), place = place_for(backup);
	struct move *move;

	if ((!backup->is_known && !backup->busy) || backup->is_recorder ||
		(from == place && !backup->has_other))
		return;
	move = calloc(1, sizeof(*move));
	if (!move) {
		log_error(
			"%s: its backup stays where it is: %s", backup->service, strerror(ENOMEM));
		return;
	}
	move->backup = backup;
	move->job.kind = BACKUP_JOB_MOVE;
	move->job.from = from;
	move->job.place = place;
	strcpy(move->job.service, backup->service);
	move->job.done = on_moved;
	backup->has_other = false;
	backup->place = place;
	backup->n_moves++;
	backup_writer_submit(backup->backups->writer, &move->job);
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
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_BACKUP_DAMAGED, .service = backup->service),
			"%s: its backup %s and cannot be set aside: %s; not served",
			backup->service, why, strerror(-r));
	else
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_BACKUP_DAMAGED, .service = backup->service),
			"%s: its backup %s; set aside as %s/damaged/%s, not served",
			backup->service, why, backups->config->state_directory, name);
}

void backup_refuse(struct backup *backup, int error)
{
	if (error == -EBADMSG)
		set_aside(backup, "is damaged");
	else if (error == -EPERM)
		set_aside(backup, "is no file that only the daemon may write");
	else
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_BACKUP_DAMAGED, .service = backup->service),
			"%s: cannot read its backup: %s", backup->service, strerror(-error));
}

int backup_load(
	struct backup *backup, const char *names, size_t names_size, struct backup_load **ret_load)
{
	const int *fds = backup ? backup->backups->directory.fds : NULL;
	struct backup_load *load;
	char name[BACKUP_NAME];
	int r;

	if (!backup || !backup->is_known)
		return -ENOENT;
	name_of(backup, name);
	r = backup_load_new(fds[backup->place], name, &load);
	if (r == -ENOENT) /* it is about to be there */
		r = backup_load_new(
			fds[backup->place == STATE_OPEN ? STATE_PRIVATE : STATE_OPEN], name, &load);
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

int backup_open(const struct backup *backup, uint64_t generation)
{
	uint8_t tail[BACKUP_TAIL];
	struct backup_format format;
	AUTO_CLOSE int fd = -1;
	char name[BACKUP_NAME];
	int r;

	if (!backup || backup_generation(backup) != generation)
		return -ENOENT;
	name_of(backup, name);
	r = backup_load_peek(
		backup->backups->directory.fds[backup->place], name, tail, &format, &fd);
	if (r < 0)
		return r;
	/* There may be a newer one already. */
	return le64_get(format.footer.generation) == generation ? TAKE_FD(fd) : -ENOENT;
}

bool backup_has_digest(const struct backup *backup, uint64_t digest)
{
	const int *fds = backup->backups->directory.fds;
	char name[BACKUP_NAME];

	name_of(backup, name);
	/* It may be on its way from the one to the other. */
	return history_has_digest(fds[STATE_OPEN], name, digest) ||
	       history_has_digest(fds[STATE_PRIVATE], name, digest);
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

int backup_error(const struct backup *backup, const char **ret_step)
{
	if (!backup || backup->error == 0)
		return 0;
	*ret_step = backup->failed_step;
	return backup->error;
}

void backup_set_used(struct backup *backup, bool is_used)
{
	if (backup)
		backup->is_used = is_used;
}

bool backup_settle(struct backup *backup)
{
	if (!backup)
		return true;
	backup_submit(backup);
	return !backup->busy;
}

void backup_listen(struct backup *backup, backup_fn fn, void *userdata)
{
	if (!backup)
		return;
	backup->fn = fn;
	backup->userdata = userdata;
}

struct backup *backup_new(struct backups *backups, const char *service)
{
	struct backup *backup = calloc(1, sizeof(*backup));

	if (!backup)
		return NULL;
	backup->backups = backups;
	snprintf(backup->service, sizeof(backup->service), "%s", service);
	backup->place = STATE_PRIVATE;
	return backup;
}

void backup_free(struct backup *backup)
{
	write_free(backup->next);
	write_free(backup->busy);
	free(backup);
}
