#include "daemon/backup-pins.h"

#include <stdio.h>

#include "daemon/backup-writer.h"
#include "daemon/log.h"

struct backup_pins {
	struct loop *loop;
	struct backups *backups;
	struct list unwritten; /* unwritten::link */
};

/* What operators said of one service, as long as the disk has something else. */
struct unwritten {
	struct list link;
	struct backup_pins *pins;
	char service[LIMIT_SERVICE_NAME + 1];
	void *image; /* the newest; NULL: the file is to go */
	size_t size;
	bool is_due; /* it is not on the disk, nor on its way */
	bool is_busy; /* something is on its way */
	void *busy_image;
	struct backup_job job;
	char names[LIMIT_SERVICE_NAME + 16];
	struct list waiters; /* backup_waiter::link */
	struct loop_timer *timer;
	uint64_t retry_usec; /* 0: no write has failed */
};

static void free_unwritten(struct unwritten *unwritten)
{
	list_unlink(&unwritten->link);
	loop_timer_free(unwritten->timer);
	if (unwritten->busy_image != unwritten->image)
		free(unwritten->busy_image);
	free(unwritten->image);
	free(unwritten);
}

/* --- writing ----------------------------------------------------------------------------- */

static void submit(struct unwritten *unwritten)
{
	if (!unwritten->is_due || unwritten->is_busy)
		return;
	loop_timer_disarm(unwritten->timer);
	unwritten->is_due = false;
	unwritten->is_busy = true;
	unwritten->busy_image = unwritten->image;
	unwritten->job.kind = unwritten->image ? BACKUP_JOB_IMAGE : BACKUP_JOB_UNLINK;
	unwritten->job.image = unwritten->image;
	unwritten->job.image_size = unwritten->size;
	backup_writer_submit(backups_writer(unwritten->pins->backups), &unwritten->job);
}

static void on_timer(void *userdata)
{
	submit(userdata);
}

static void note_failure(struct unwritten *unwritten)
{
	const struct backup_job *job = &unwritten->job;

	if (unwritten->retry_usec == 0)
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_PIN_LOST, .service = job->service),
			"%s: what operators said of it is not on the disk: %s: %s; it is in "
			"force until the daemon ends, and the write is tried again",
			job->service, job->step, strerror(-job->error));
	unwritten->retry_usec = backup_writer_pause(unwritten->retry_usec);
	backup_writer_tell(&unwritten->waiters, job);
	if (unwritten->is_due)
		submit(unwritten); /* something newer, which may be smaller */
	else
		loop_timer_arm(unwritten->timer, unwritten->retry_usec);
	unwritten->is_due = !unwritten->is_busy;
}

static void on_written(struct backup_job *job)
{
	struct unwritten *unwritten = job->userdata;

	unwritten->is_busy = false;
	if (unwritten->busy_image != unwritten->image)
		free(unwritten->busy_image);
	unwritten->busy_image = NULL;
	if (job->error < 0) {
		note_failure(unwritten);
	} else if (unwritten->is_due) {
		submit(unwritten);
	} else {
		if (unwritten->retry_usec != 0)
			log_info("%s: what operators said of it is on the disk now", job->service);
		backup_writer_tell(&unwritten->waiters, job);
		free_unwritten(unwritten);
	}
}

static struct unwritten *find(struct backup_pins *pins, const char *service)
{
	if (!pins)
		return NULL;
	LIST_FOREACH (node, &pins->unwritten) {
		struct unwritten *unwritten = LIST_ENTRY(node, struct unwritten, link);

		if (std_streq(unwritten->service, service))
			return unwritten;
	}
	return NULL;
}

static struct unwritten *get(struct backup_pins *pins, const char *service)
{
	struct unwritten *unwritten = find(pins, service);
	size_t len = strlen(service) + 1;

	if (unwritten)
		return unwritten;
	unwritten = calloc(1, sizeof(*unwritten));
	if (!unwritten || loop_timer_new(pins->loop, on_timer, unwritten, &unwritten->timer) < 0) {
		free(unwritten);
		return NULL;
	}
	unwritten->pins = pins;
	memcpy(unwritten->service, service, len);
	/* The service, what it is, and empty texts. */
	memcpy(unwritten->names, service, len);
	memcpy(unwritten->names + len, "pins", sizeof("pins"));
	unwritten->job = (struct backup_job){
		.place = STATE_PINS,
		.names = unwritten->names,
		.names_size = len + sizeof("pins") + 4,
		.is_served = true,
		.done = on_written,
		.userdata = unwritten,
	};
	memcpy(unwritten->job.service, service, len);
	list_init(&unwritten->waiters);
	list_append(&pins->unwritten, &unwritten->link);
	return unwritten;
}

int backup_pins_put(struct backups *backups, const char *service, void *image, size_t size)
{
	struct unwritten *unwritten = get(backups_pins(backups), service);

	if (!unwritten) {
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_PIN_LOST, .service = service),
			"%s: what operators said of it is not on the disk: %s", service,
			strerror(ENOMEM));
		free(image);
		return -ENOMEM;
	}
	if (unwritten->image != unwritten->busy_image)
		free(unwritten->image);
	unwritten->image = image;
	unwritten->size = size;
	unwritten->is_due = true;
	submit(unwritten);
	return 0;
}

void backup_pins_wait(struct backups *backups, const char *service, struct backup_waiter *waiter)
{
	struct unwritten *unwritten = find(backups_pins(backups), service);

	if (unwritten)
		list_append(&unwritten->waiters, &waiter->link);
	else
		waiter->fn(waiter, 0, NULL);
}

void backup_pins_submit(struct backup_pins *pins)
{
	if (!pins)
		return;
	LIST_FOREACH (node, &pins->unwritten)
		submit(LIST_ENTRY(node, struct unwritten, link));
}

int backup_pins_new(struct loop *loop, struct backups *backups, struct backup_pins **ret_pins)
{
	struct backup_pins *pins = calloc(1, sizeof(*pins));

	if (!pins)
		return -ENOMEM;
	pins->loop = loop;
	pins->backups = backups;
	list_init(&pins->unwritten);
	*ret_pins = pins;
	return 0;
}

struct backup_pins *backup_pins_free(struct backup_pins *pins)
{
	if (!pins)
		return NULL;
	while (!list_is_empty(&pins->unwritten)) {
		struct unwritten *unwritten =
			LIST_ENTRY(pins->unwritten.next, struct unwritten, link);

		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_PIN_LOST, .service = unwritten->service),
			"%s: what operators said of it last ends with this daemon: the disk did "
			"not take it",
			unwritten->service);
		free_unwritten(unwritten);
	}
	free(pins);
	return NULL;
}

/* --- reading ----------------------------------------------------------------------------- */

/* What the disk does not have. */
static int copy(const struct unwritten *unwritten, struct snapshot **ret_snapshot)
{
	struct snapshot *snapshot;
	int r;

	if (!unwritten->image)
		return -ENOENT;
	r = snapshot_new_unshared(unwritten->size, &snapshot);
	if (r < 0)
		return r;
	r = snapshot_append(snapshot, unwritten->image, unwritten->size);
	if (r == 0)
		r = snapshot_seal(snapshot, 0);
	if (r == 0)
		*ret_snapshot = snapshot_ref(snapshot);
	snapshot_unref(snapshot);
	return r;
}

static int load(int directory, const char *name, struct snapshot **ret_snapshot)
{
	struct backup_load *load;
	int r = directory < 0 ? -ENOENT : backup_load_new(directory, name, &load);

	if (r < 0)
		return r;
	do
		r = backup_load_step(load);
	while (r > 0);
	if (r == 0)
		*ret_snapshot = backup_load_take(load);
	backup_load_free(load);
	return r;
}

struct snapshot *backup_pins_load(struct backups *backups, const char *service)
{
	const struct unwritten *unwritten = find(backups_pins(backups), service);
	struct snapshot *snapshot = NULL;
	char name[BACKUP_NAME];
	int directory, r;

	if (!backups)
		return NULL;
	directory = backups_directory(backups)->fds[STATE_PINS];
	snprintf(name, sizeof(name), "%s" BACKUP_SUFFIX, service);
	r = unwritten ? copy(unwritten, &snapshot) : load(directory, name, &snapshot);
	if (r < 0 && r != -ENOENT) {
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_PIN_LOST, .service = service),
			"%s: what operators said of it cannot be read: %s; it is not in force",
			service, strerror(-r));
		/* What cannot be read for now may be in force again from the next start on. */
		if (r == -EBADMSG || r == -EPERM)
			(void)state_directory_set_aside(
				backups_directory(backups), directory, name);
	}
	return snapshot;
}
