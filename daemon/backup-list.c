#include "daemon/backup-list.h"

#include <stdio.h>
#include <sys/stat.h>

#include "daemon/log.h"

#define LIST_NAME "services"

struct backup_list {
	struct backup_writer *writer;
	struct loop_timer *timer;
	struct backup_job job;
	char *text; /* being written; NULL: nothing is */
	bool has_changed, has_failed;
	uint64_t written_at; /* loop_now() */
	backup_list_fn fn;
	void *userdata;
};

static void on_written(struct backup_job *job)
{
	struct backup_list *list = job->userdata;

	free(list->text);
	list->text = NULL;
	if (job->error < 0 && !list->has_failed)
		log_error("cannot write the list of services in use: %s: %s; it is tried again",
			job->step, strerror(-job->error));
	list->has_failed = job->error < 0;
	list->has_changed = list->has_changed || list->has_failed;
	if (list->has_changed)
		loop_timer_arm(list->timer, LIMIT_BACKUP_WRITE_USEC);
}

static void write_list(struct backup_list *list)
{
	loop_timer_disarm(list->timer);
	if (list->text || !list->fn)
		return;
	list->text = list->fn(list->userdata);
	if (!list->text)
		return;
	list->has_changed = false;
	list->written_at = loop_now();
	list->job.image = list->text;
	list->job.image_size = strlen(list->text);
	backup_writer_submit(list->writer, &list->job);
}

static void on_timer(void *userdata)
{
	write_list(userdata);
}

int backup_list_new(struct loop *loop, struct backup_writer *writer, struct backup_list **ret_list)
{
	struct backup_list *list = calloc(1, sizeof(*list));
	int r;

	if (!list)
		return -ENOMEM;
	list->writer = writer;
	list->job = (struct backup_job){
		.kind = BACKUP_JOB_TEXT,
		.place = STATE_TOP,
		.service = LIST_NAME,
		.done = on_written,
		.userdata = list,
	};
	r = loop_timer_new(loop, on_timer, list, &list->timer);
	if (r < 0) {
		free(list);
		return r;
	}
	*ret_list = list;
	return 0;
}

struct backup_list *backup_list_free(struct backup_list *list)
{
	if (!list)
		return NULL;
	loop_timer_free(list->timer);
	free(list->text);
	free(list);
	return NULL;
}

void backup_list_with(struct backup_list *list, backup_list_fn fn, void *userdata)
{
	if (!list)
		return;
	list->fn = fn;
	list->userdata = userdata;
}

void backup_list_changed(struct backup_list *list)
{
	uint64_t now = loop_now(), at;

	if (!list)
		return;
	at = list->written_at + LIMIT_BACKUP_WRITE_USEC;
	list->has_changed = true;
	if (!list->text && !loop_timer_is_armed(list->timer))
		loop_timer_arm(list->timer, MAX(at, now + LIMIT_COALESCE_USEC) - now);
}

void backup_list_end(struct backup_list *list)
{
	if (!list)
		return;
	(void)backup_writer_drain(list->writer);
	if (list->has_changed)
		write_list(list);
	list->fn = NULL;
}

char *backup_list_read(int directory)
{
	AUTO_CLOSE int fd = state_directory_open_file(directory, LIST_NAME);
	AUTO_FREE char *text = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > (off_t)LIMIT_BACKUP_LIST)
		return NULL;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return NULL;
	n = read(fd, text, (size_t)st.st_size);
	if (n < 0)
		return NULL;
	text[n] = '\0';
	return TAKE_PTR(text);
}
