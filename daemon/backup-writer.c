/*
 * Of the thread: `directory` and everything below "the thread". Of both, under the lock: the two
 * lists and the flags. The loop hears of finished jobs by an eventfd.
 */
#include "daemon/backup-writer.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>

#include "daemon/backup-file.h"

struct backup_writer {
	char *path;
	struct state_directory directory;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct list queue, finished; /* backup_job::link */
	bool is_stopping, is_working;
	int event;
	struct loop_io *io;
};

/* --- the thread -------------------------------------------------------------------------- */

/* The directory may have been removed, or replaced by one that was restored. */
static void find_again(struct backup_writer *writer)
{
	struct state_directory fresh;

	if (state_directory_reopen(writer->path, &writer->directory, &fresh) < 0) {
		state_directory_close(&fresh);
		return;
	}
	state_directory_close(&writer->directory);
	writer->directory = fresh;
}

static void work(struct backup_writer *writer, struct backup_job *job)
{
	if (job->kind == BACKUP_JOB_IMAGE)
		backup_format_finish(
			&job->footer, job->image, job->image_size, job->names, job->names_size);
	backup_file_write(&writer->directory, job);
	if (job->error != -ENOENT && job->error != -ESTALE)
		return;
	find_again(writer);
	backup_file_write(&writer->directory, job);
}

/* Under the lock. NULL: no more are to come. */
static struct backup_job *next_job(struct backup_writer *writer)
{
	struct backup_job *job;

	writer->is_working = false;
	pthread_cond_broadcast(&writer->changed);
	while (list_is_empty(&writer->queue) && !writer->is_stopping)
		pthread_cond_wait(&writer->changed, &writer->lock);
	if (list_is_empty(&writer->queue))
		return NULL;
	job = LIST_ENTRY(writer->queue.next, struct backup_job, link);
	list_unlink(&job->link);
	writer->is_working = true;
	return job;
}

static void *run(void *userdata)
{
	struct backup_writer *writer = userdata;
	static const uint64_t one = 1;
	struct backup_job *job;

	pthread_setname_np(pthread_self(), "backup-writer");
	pthread_mutex_lock(&writer->lock);
	while ((job = next_job(writer))) {
		pthread_mutex_unlock(&writer->lock);
		work(writer, job);
		pthread_mutex_lock(&writer->lock);
		list_append(&writer->finished, &job->link);
		(void)!write(writer->event, &one, sizeof(one));
	}
	pthread_mutex_unlock(&writer->lock);
	return NULL;
}

/* --- the loop ---------------------------------------------------------------------------- */

static void tell(struct backup_writer *writer)
{
	struct list finished = LIST_INIT(finished);

	pthread_mutex_lock(&writer->lock);
	list_splice(&finished, &writer->finished);
	pthread_mutex_unlock(&writer->lock);
	while (!list_is_empty(&finished)) {
		struct backup_job *job = LIST_ENTRY(finished.next, struct backup_job, link);

		list_unlink(&job->link);
		job->done(job);
	}
}

static void on_event(unsigned events, void *userdata)
{
	struct backup_writer *writer = userdata;
	uint64_t n;

	(void)events;
	(void)!read(writer->event, &n, sizeof(n));
	tell(writer);
}

static int start_thread(struct backup_writer *writer)
{
	sigset_t all, old;
	int r;

	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = pthread_create(&writer->thread, NULL, run, writer);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

static int init_lock(struct backup_writer *writer)
{
	pthread_condattr_t attributes;
	int r = pthread_mutex_init(&writer->lock, NULL);

	if (r != 0)
		return -r;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	r = pthread_cond_init(&writer->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	return -r;
}

static void release(struct backup_writer *writer)
{
	loop_io_free(writer->io);
	std_closep(&writer->event);
	state_directory_close(&writer->directory);
	pthread_cond_destroy(&writer->changed);
	pthread_mutex_destroy(&writer->lock);
	free(writer->path);
	free(writer);
}

int backup_writer_new(struct loop *loop, const char *path, struct state_directory *directory,
	struct backup_writer **ret_writer)
{
	struct backup_writer *writer = calloc(1, sizeof(*writer));
	int r;

	if (!writer)
		return -ENOMEM;
	list_init(&writer->queue);
	list_init(&writer->finished);
	writer->directory = *directory;
	writer->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	writer->path = strdup(path);
	r = writer->event < 0 ? -errno : 0;
	if (r == 0 && !writer->path)
		r = -ENOMEM;
	if (r == 0)
		r = init_lock(writer);
	if (r == 0)
		r = loop_io_new(loop, writer->event, on_event, writer, &writer->io);
	if (r == 0)
		r = loop_io_want(writer->io, LOOP_READ);
	if (r == 0)
		r = start_thread(writer);
	if (r < 0) {
		writer->directory = (struct state_directory)STATE_DIRECTORY_NONE;
		release(writer);
		return r;
	}
	*directory = (struct state_directory)STATE_DIRECTORY_NONE;
	*ret_writer = writer;
	return 0;
}

bool backup_writer_drain(struct backup_writer *writer)
{
	struct timespec end;
	bool is_idle;

	if (!writer)
		return true;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += LIMIT_BACKUP_STOP_USEC / (long)USEC_PER_SEC;
	pthread_mutex_lock(&writer->lock);
	do
		is_idle = list_is_empty(&writer->queue) && !writer->is_working;
	while (!is_idle &&
		pthread_cond_timedwait(&writer->changed, &writer->lock, &end) != ETIMEDOUT);
	pthread_mutex_unlock(&writer->lock);
	if (is_idle)
		tell(writer);
	return is_idle;
}

struct backup_writer *backup_writer_free(struct backup_writer *writer)
{
	if (!writer)
		return NULL;
	pthread_mutex_lock(&writer->lock);
	writer->is_stopping = true;
	pthread_cond_broadcast(&writer->changed);
	pthread_mutex_unlock(&writer->lock);
	pthread_join(writer->thread, NULL);
	tell(writer);
	release(writer);
	return NULL;
}

void backup_writer_submit(struct backup_writer *writer, struct backup_job *job)
{
	pthread_mutex_lock(&writer->lock);
	job->error = 0;
	job->step = NULL;
	list_append(&writer->queue, &job->link);
	pthread_cond_broadcast(&writer->changed);
	pthread_mutex_unlock(&writer->lock);
}

void backup_writer_tell(struct list *waiters, const struct backup_job *job)
{
	while (!list_is_empty(waiters)) {
		struct backup_waiter *waiter =
			LIST_ENTRY(waiters->next, struct backup_waiter, link);

		list_unlink(&waiter->link);
		waiter->fn(waiter, job->error, job->step);
	}
}

uint64_t backup_writer_pause(uint64_t last_usec)
{
	return last_usec == 0 ? LIMIT_BACKUP_WRITE_USEC
			      : MIN(2 * last_usec, LIMIT_BACKUP_RETRY_MAX_USEC);
}
