#include "daemon/directory-notify.h"

#include <limits.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <time.h>

#include "daemon/log.h"
#include "daemon/ordered.h"
#include "proto/limits.h"

#define READ_SIZE 16384
#define READS 64 /* more events than the kernel queues */
#define INTEREST_NAMES 8 /* more names of one directory: all of them */

/* Bits that every watch has; those of a step alone are few, for it may be /tmp. */
#define STEP_MASK                                                                                  \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF |        \
		IN_MOVE_SELF)
#define FILE_MASK (STEP_MASK | IN_MODIFY | IN_CLOSE_WRITE)
#define FLAGS (IN_ONLYDIR | IN_MASK_ADD | IN_EXCL_UNLINK)

/* What one follower wants to hear of one directory. */
struct interest {
	RB_ENTRY(interest) link; /* directory_notify::interests */
	struct list follower_link; /* directory_follower::interests */
	struct directory_follower *follower;
	int wd;
	unsigned round;
	bool has_visible; /* all visible names */
	bool has_all;
	unsigned n_names;
	char *names[INTEREST_NAMES];
	int64_t since_nsec; /* CLOCK_REALTIME */
};

RB_HEAD(interest_table, interest);

/* A file that somebody has begun to write and not closed yet. */
struct writer {
	struct list link; /* directory_notify::writers, in order of until */
	int wd;
	bool is_written; /* else created: that may be a link, or a file with its contents */
	uint64_t until;
	char name[];
};

struct directory_notify {
	int fd;
	struct loop_io *io;
	directory_notify_fn fn;
	struct interest_table interests; /* by directory, then follower */
	struct list followers;
	struct list writers;
	unsigned n_writers;
	bool has_warned;
};

static int compare_interests(const struct interest *a, const struct interest *b)
{
	uintptr_t a_follower = (uintptr_t)a->follower, b_follower = (uintptr_t)b->follower;

	if (a->wd != b->wd)
		return a->wd < b->wd ? -1 : 1;
	return a_follower < b_follower ? -1 : a_follower > b_follower;
}

ORDERED_GENERATE(interest_table, interest, link, compare_interests)

static int64_t file_clock(void)
{
	struct timespec now;

	/* Never behind a file's time, which some kernels round down. */
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * (int64_t)NSEC_PER_SEC + now.tv_nsec;
}

static struct interest *first_interest(struct directory_notify *notify, int wd)
{
	struct interest wanted = { .wd = wd };
	struct interest *found = RB_NFIND(interest_table, &notify->interests, &wanted);

	return found && found->wd == wd ? found : NULL;
}

static struct interest *next_interest(struct interest *interest)
{
	struct interest *next =
		RB_NEXT(interest_table, &interest->follower->notify->interests, interest);

	return next && next->wd == interest->wd ? next : NULL;
}

static struct interest *find_interest(const struct directory_follower *follower, int wd)
{
	struct interest wanted = {
		.wd = wd,
		.follower = (struct directory_follower *)(uintptr_t)follower,
	};

	return RB_FIND(interest_table, &follower->notify->interests, &wanted);
}

static void clear_names(struct interest *interest)
{
	while (interest->n_names > 0)
		free(interest->names[--interest->n_names]);
	interest->has_visible = interest->has_all = false;
}

static void interest_free(struct interest *interest)
{
	RB_REMOVE(interest_table, &interest->follower->notify->interests, interest);
	list_unlink(&interest->follower_link);
	clear_names(interest);
	free(interest);
}

static void release_watch(struct directory_notify *notify, int wd)
{
	if (!first_interest(notify, wd))
		inotify_rm_watch(notify->fd, wd);
}

static void drop_interest(struct interest *interest)
{
	struct directory_notify *notify = interest->follower->notify;
	int wd = interest->wd;

	interest_free(interest);
	release_watch(notify, wd);
}

static struct interest *interest_new(struct directory_follower *follower, int wd)
{
	struct interest *interest = calloc(1, sizeof(*interest));

	if (!interest)
		return NULL;
	interest->follower = follower;
	interest->wd = wd;
	interest->round = follower->round;
	interest->since_nsec = file_clock();
	RB_INSERT(interest_table, &follower->notify->interests, interest);
	list_append(&follower->interests, &interest->follower_link);
	return interest;
}

static bool has_name(const struct interest *interest, const char *name)
{
	if (interest->has_all || (interest->has_visible && directory_notify_is_visible(name)))
		return true;
	for (unsigned i = 0; i < interest->n_names; i++)
		if (std_streq(interest->names[i], name))
			return true;
	return false;
}

static void add_name(struct interest *interest, const char *name)
{
	char *copy;

	if (has_name(interest, name))
		return;
	copy = interest->n_names < INTEREST_NAMES ? strdup(name) : NULL;
	if (copy)
		interest->names[interest->n_names++] = copy;
	else
		interest->has_all = true;
}

static struct writer *find_writer(const struct directory_notify *notify, int wd, const char *name)
{
	LIST_FOREACH (node, &notify->writers) {
		struct writer *writer = LIST_ENTRY(node, struct writer, link);

		if (writer->wd == wd && std_streq(writer->name, name))
			return writer;
	}
	return NULL;
}

static void writer_free(struct directory_notify *notify, struct writer *writer)
{
	list_unlink(&writer->link);
	notify->n_writers--;
	free(writer);
}

static void drop_writers(struct directory_notify *notify, unsigned n_left, uint64_t until)
{
	while (!list_is_empty(&notify->writers)) {
		struct writer *first = LIST_ENTRY(notify->writers.next, struct writer, link);

		if (notify->n_writers <= n_left && first->until > until)
			return;
		writer_free(notify, first);
	}
}

static void remember_writer(
	struct directory_notify *notify, int wd, const char *name, bool is_written)
{
	struct writer *writer;
	uint64_t now = loop_now();

	drop_writers(notify, LIMIT_DIRECTORY_WRITERS - 1, now);
	writer = find_writer(notify, wd, name);
	if (!writer) {
		writer = calloc(1, sizeof(*writer) + strlen(name) + 1);
		if (!writer)
			return;
		strcpy(writer->name, name);
		writer->wd = wd;
		list_init(&writer->link);
		notify->n_writers++;
	}
	writer->is_written = writer->is_written || is_written;
	writer->until = now + LIMIT_DIRECTORY_WRITING_USEC;
	list_unlink(&writer->link);
	list_append(&notify->writers, &writer->link);
}

static void update_writers(struct directory_notify *notify, int wd, const char *name, uint32_t mask)
{
	struct writer *writer;

	if (mask & (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE)) {
		writer = find_writer(notify, wd, name);
		if (writer)
			writer_free(notify, writer);
	} else if (mask & IN_MODIFY || (mask & IN_CREATE && !(mask & IN_ISDIR))) {
		remember_writer(notify, wd, name, mask & IN_MODIFY);
	}
}

/* Anything may have changed, and any file may be open. */
static void handle_overflow(struct directory_notify *notify)
{
	struct interest *interest;

	drop_writers(notify, 0, UINT64_MAX);
	RB_FOREACH (interest, interest_table, &notify->interests)
		interest->since_nsec = file_clock();
	LIST_FOREACH (node, &notify->followers)
		notify->fn(LIST_ENTRY(node, struct directory_follower, link), 0);
}

static void handle_event(struct directory_notify *notify, const struct inotify_event *event)
{
	const char *name = event->len > 0 ? event->name : "";
	uint64_t delay_usec = event->mask & IN_MODIFY ? LIMIT_DIRECTORY_WRITING_USEC : 0;
	struct interest *interest;
	bool is_heard = false;

	if (event->mask & IN_Q_OVERFLOW) {
		handle_overflow(notify);
		return;
	}
	for (interest = first_interest(notify, event->wd); interest;
		interest = next_interest(interest)) {
		if (name[0] != '\0' && !has_name(interest, name))
			continue;
		notify->fn(interest->follower, delay_usec);
		is_heard = true;
	}
	if (is_heard && name[0] != '\0')
		update_writers(notify, event->wd, name, event->mask);
	/* The directory is gone or unmounted: the kernel has dropped the watch. */
	if (event->mask & IN_IGNORED)
		while ((interest = first_interest(notify, event->wd)))
			interest_free(interest);
}

void directory_notify_read(struct directory_notify *notify)
{
	_Alignas(struct inotify_event) char buffer[READ_SIZE];

	for (unsigned i = 0; i < READS; i++) {
		ssize_t n = read(notify->fd, buffer, sizeof(buffer));
		ssize_t off = 0;

		if (n <= 0)
			return;
		while (off < n) {
			const struct inotify_event *event = (const void *)(buffer + off);

			handle_event(notify, event);
			off += (ssize_t)(sizeof(*event) + event->len);
		}
	}
}

static void on_readable(unsigned events, void *userdata)
{
	(void)events;
	directory_notify_read(userdata);
}

static void warn_blind(struct directory_notify *notify, int error)
{
	if (notify->has_warned)
		return;
	notify->has_warned = true;
	log_warning("cannot watch every directory with inotify: %s; looking every second instead. "
		    "Raise fs.inotify.max_user_watches and fs.inotify.max_user_instances",
		strerror(error));
}

int directory_notify_new(
	struct loop *loop, directory_notify_fn fn, struct directory_notify **ret_notify)
{
	struct directory_notify *notify = calloc(1, sizeof(*notify));
	int r = 0;

	if (!notify)
		return -ENOMEM;
	notify->fn = fn;
	RB_INIT(&notify->interests);
	list_init(&notify->followers);
	list_init(&notify->writers);
	notify->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (notify->fd < 0)
		warn_blind(notify, errno);
	else
		r = loop_io_new(loop, notify->fd, on_readable, notify, &notify->io);
	if (r == 0 && notify->io)
		r = loop_io_want(notify->io, LOOP_READ);
	if (r < 0) {
		directory_notify_free(notify);
		return r;
	}
	*ret_notify = notify;
	return 0;
}

struct directory_notify *directory_notify_free(struct directory_notify *notify)
{
	if (!notify)
		return NULL;
	while (!list_is_empty(&notify->followers))
		directory_notify_unfollow(
			LIST_ENTRY(notify->followers.next, struct directory_follower, link));
	drop_writers(notify, 0, UINT64_MAX);
	loop_io_free(notify->io);
	std_closep(&notify->fd);
	free(notify);
	return NULL;
}

void directory_notify_follow(struct directory_notify *notify, struct directory_follower *follower)
{
	follower->notify = notify;
	list_init(&follower->interests);
	list_append(&notify->followers, &follower->link);
}

void directory_notify_unfollow(struct directory_follower *follower)
{
	while (!list_is_empty(&follower->interests))
		drop_interest(LIST_ENTRY(follower->interests.next, struct interest, follower_link));
	list_unlink(&follower->link);
}

void directory_notify_begin(struct directory_follower *follower)
{
	follower->round++;
	follower->is_blind = false;
}

static int add_watch(
	struct directory_follower *follower, int dir_fd, enum directory_interest_kind kind)
{
	uint32_t mask = kind == DIRECTORY_STEP ? STEP_MASK : FILE_MASK;
	char path[32];
	int wd;

	/* By descriptor: the directory that is read is the one that is watched. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dir_fd);
	wd = inotify_add_watch(follower->notify->fd, path, mask | FLAGS);
	/* Directories on the way may be closed to us: their changes are left to the resync. */
	if (wd < 0 && (errno != EACCES || kind == DIRECTORY_ENTRIES)) {
		follower->is_blind = true;
		warn_blind(follower->notify, errno);
	}
	return wd;
}

int directory_notify_add(struct directory_follower *follower, int dir_fd,
	enum directory_interest_kind kind, const char *name)
{
	int wd = add_watch(follower, dir_fd, kind);
	struct interest *interest;

	if (wd < 0)
		return -1;
	interest = find_interest(follower, wd);
	if (!interest)
		interest = interest_new(follower, wd);
	if (!interest) {
		follower->is_blind = true;
		release_watch(follower->notify, wd);
		return -1;
	}
	if (interest->round != follower->round)
		clear_names(interest);
	interest->round = follower->round;
	if (kind == DIRECTORY_ENTRIES)
		interest->has_visible = true;
	else
		add_name(interest, name);
	return wd;
}

void directory_notify_end(struct directory_follower *follower)
{
	struct list *node = follower->interests.next;

	while (node != &follower->interests) {
		struct interest *interest = LIST_ENTRY(node, struct interest, follower_link);

		node = node->next;
		if (interest->round != follower->round)
			drop_interest(interest);
	}
}

/* Rests long enough, for a file about whose writer nothing is known. */
static uint64_t unrested_usec(const struct stat *st, int64_t changed_nsec)
{
	int64_t age_usec = (file_clock() - changed_nsec) / (int64_t)NSEC_PER_USEC;
	int64_t rest_usec =
		st->st_size == 0 ? LIMIT_DIRECTORY_EMPTY_USEC : LIMIT_DIRECTORY_FRESH_USEC;

	/* A time in the future says nothing. */
	return age_usec >= 0 && age_usec < rest_usec ? (uint64_t)(rest_usec - age_usec) : 0;
}

uint64_t directory_notify_unsettled(const struct directory_follower *follower, int token,
	const char *name, const struct stat *st, bool is_link)
{
	const struct writer *writer = find_writer(follower->notify, token, name);
	const struct interest *interest = find_interest(follower, token);
	int64_t changed_nsec = st->st_ctim.tv_sec * (int64_t)NSEC_PER_SEC + st->st_ctim.tv_nsec;
	uint64_t now = loop_now();

	if (writer && writer->until > now) {
		/* A hard link, or a file that got its name when it was complete, is never closed.
		 */
		bool is_complete = !writer->is_written && (st->st_size > 0 || st->st_nlink > 1);

		return is_complete ? 0 : writer->until - now;
	}
	if (is_link || writer || (interest && changed_nsec > interest->since_nsec))
		return 0;
	return unrested_usec(st, changed_nsec);
}

bool directory_notify_is_visible(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && name[0] != '.' && name[len - 1] != '~';
}
