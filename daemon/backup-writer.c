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
	bool is_stopping;
	unsigned n_submitted, n_done; /* jobs; that shows whether the disk answers */
	struct timespec stop_at; /* the end of all drains; of the loop alone */
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
	backup_file_write(&writer->directory, job);
	if (job->error != -ENOENT && job->error != -ESTALE)
		return;
	find_again(writer);
	backup_file_write(&writer->directory, job);
}

static bool is_for_many(const struct backup_job *job)
{
	return job->kind == BACKUP_JOB_IMAGE &&
	       (job->place == STATE_OPEN || job->place == STATE_PRIVATE);
}

static void work_on_all(struct backup_writer *writer, struct backup_job *const jobs[], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (jobs[i]->kind == BACKUP_JOB_IMAGE)
			backup_format_finish(&jobs[i]->footer, jobs[i]->image, jobs[i]->image_size,
				jobs[i]->names, jobs[i]->names_size);
	if (n >= LIMIT_BACKUP_BATCH_MIN && backup_file_write_many(&writer->directory, jobs, n) == 0)
		return;
	for (unsigned i = 0; i < n; i++)
		work(writer, jobs[i]);
}

/* Under the lock. As they came; few are worth no batch, and are taken one by one. */
static unsigned take_jobs(struct backup_writer *writer, struct backup_job *ret_jobs[])
{
	unsigned n = 0;

	LIST_FOREACH (node, &writer->queue) {
		struct backup_job *job = LIST_ENTRY(node, struct backup_job, link);

		if (n == LIMIT_BACKUP_BATCH || (n > 0 && !is_for_many(job)))
			break;
		ret_jobs[n++] = job;
		if (!is_for_many(job))
			break;
	}
	if (n > 0 && n < LIMIT_BACKUP_BATCH_MIN)
		n = 1;
	for (unsigned i = 0; i < n; i++)
		list_unlink(&ret_jobs[i]->link);
	return n;
}

/* Under the lock. 0: no more are to come. */
static unsigned next_jobs(struct backup_writer *writer, struct backup_job *ret_jobs[])
{

	while (list_is_empty(&writer->queue) && !writer->is_stopping)
		pthread_cond_wait(&writer->changed, &writer->lock);
	if (list_is_empty(&writer->queue))
		return 0;
	return take_jobs(writer, ret_jobs);
}

static void *run(void *userdata)
{
	struct backup_writer *writer = userdata;
	static const uint64_t one = 1;
	struct backup_job *jobs[LIMIT_BACKUP_BATCH];
	unsigned n;

	pthread_setname_np(pthread_self(), "backup-writer");
	pthread_mutex_lock(&writer->lock);
	while ((n = next_jobs(writer, jobs)) > 0) {
		pthread_mutex_unlock(&writer->lock);
		work_on_all(writer, jobs, n);
		pthread_mutex_lock(&writer->lock);
		for (unsigned i = 0; i < n; i++)
			list_append(&writer->finished, &jobs[i]->link);
		writer->n_done += n;
		pthread_cond_broadcast(&writer->changed);
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

/* Under the lock: until something is done. False: nothing is, in time. */
static bool wait_for_progress(struct backup_writer *writer)
{
	unsigned n_done = writer->n_done;
	struct timespec stuck;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &stuck);
	stuck.tv_sec += LIMIT_BACKUP_STUCK_USEC / (long)USEC_PER_SEC;
	if (stuck.tv_sec > writer->stop_at.tv_sec)
		stuck = writer->stop_at;
	while (writer->n_submitted != n_done && writer->n_done == n_done && r == 0)
		r = pthread_cond_timedwait(&writer->changed, &writer->lock, &stuck);
	return r == 0;
}

bool backup_writer_drain(struct backup_writer *writer)
{
	bool is_idle, is_alive = true;

	if (!writer)
		return true;
	if (writer->stop_at.tv_sec == 0) {
		clock_gettime(CLOCK_MONOTONIC, &writer->stop_at);
		writer->stop_at.tv_sec += LIMIT_BACKUP_STOP_USEC / (long)USEC_PER_SEC;
	}
	pthread_mutex_lock(&writer->lock);
	for (;;) {
		is_idle = writer->n_submitted == writer->n_done;
		if (is_idle || !is_alive)
			break;
		is_alive = wait_for_progress(writer);
	}
	pthread_mutex_unlock(&writer->lock);
	if (is_idle)
		tell(writer);
	return is_idle;
}

unsigned backup_writer_n_left(struct backup_writer *writer)
{
	unsigned n;

	pthread_mutex_lock(&writer->lock);
	n = writer->n_submitted - writer->n_done;
	pthread_mutex_unlock(&writer->lock);
	return n;
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
	writer->n_submitted++;
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
