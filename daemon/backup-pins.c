#include "daemon/backup-pins.h"

#include <stdio.h>

#include "daemon/backup-writer.h"
#include "daemon/log.h"

struct order {
	struct backup_job job;
	void *image;
	char names[LIMIT_SERVICE_NAME + 16];
};

static void on_written(struct backup_job *job)
{
	struct order *order = job->userdata;

	if (job->error < 0)
		log_error(
			"%s: what operators said of it is not on the disk: %s: %s; it is in force "
			"until the daemon ends",
			job->service, job->step, strerror(-job->error));
	free(order->image);
	free(order);
}

void backup_pins_put(struct backups *backups, const char *service, void *image, size_t size)
{
	struct order *order = calloc(1, sizeof(*order));
	size_t len = strlen(service) + 1;

	if (!order) {
		log_error("%s: what operators said of it is not on the disk: %s", service,
			strerror(ENOMEM));
		free(image);
		return;
	}
	order->image = image;
	order->job.kind = image ? BACKUP_JOB_IMAGE : BACKUP_JOB_UNLINK;
	order->job.place = STATE_PINS;
	order->job.is_served = true;
	memcpy(order->job.service, service, len);
	/* The service, what it is, and empty texts. */
	memcpy(order->names, service, len);
	memcpy(order->names + len, "pins", sizeof("pins"));
	order->job.names = order->names;
	order->job.names_size = len + sizeof("pins") + 4;
	order->job.image = image;
	order->job.image_size = size;
	order->job.done = on_written;
	order->job.userdata = order;
	backup_writer_submit(backups_writer(backups), &order->job);
}

struct snapshot *backup_pins_load(struct backups *backups, const char *service)
{
	struct snapshot *snapshot = NULL;
	struct backup_load *load;
	char name[BACKUP_NAME];
	int directory, r;

	if (!backups)
		return NULL;
	directory = backups_directory(backups)->fds[STATE_PINS];
	snprintf(name, sizeof(name), "%s" BACKUP_SUFFIX, service);
	r = directory < 0 ? -ENOENT : backup_load_new(directory, name, &load);
	if (r == 0) {
		do
			r = backup_load_step(load);
		while (r > 0);
		snapshot = r == 0 ? backup_load_take(load) : NULL;
		backup_load_free(load);
	}
	if (r < 0 && r != -ENOENT) {
		log_error("%s: what operators said of it cannot be read: %s; it is not in force",
			service, strerror(-r));
		(void)state_directory_set_aside(backups_directory(backups), directory, name);
	}
	return snapshot;
}
