#include "daemon/directory.h"

#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "daemon/directory-notify.h"
#include "daemon/directory-scan.h"
#include "daemon/log.h"
#include "proto/limits.h"

struct directory {
	struct source source;
	struct loop *loop;
	struct directory_notify *notify;
	struct directory_scan_settings settings;
	uint64_t resync_usec, confirm_usec;
	struct list feeds;
	struct list waiting; /* feeds that are to be scanned: FEED_WAITING */
	struct list active; /* feeds that are being scanned, in turn: FEED_SCANNING */
	unsigned n_active;
	struct loop_timer *turn; /* the next slice */
	struct loop_timer *confirm;
};

enum feed_phase {
	FEED_IDLE,
	FEED_WAITING,
	FEED_SCANNING,
	FEED_PROVING, /* all is read; does anyone object? */
};

struct feed {
	struct list link; /* directory::feeds */
	struct list turn_link; /* directory::waiting, then directory::active */
	enum feed_phase phase;
	struct directory *directory;
	struct tree *tree;
	struct directory_follower follower;
	struct directory_scan *scan;
	struct loop_timer *next; /* the next scan, or the end of this one */
	struct loop_timer *resync;
	/* When to scan next, loop_now(), 0: for no such reason. All but retry_at count from the
	 * start of the last scan: what they say makes its result doubtful. */
	uint64_t burst_at; /* the first change since then */
	uint64_t written_at; /* a write that began since then is given up waiting for */
	uint64_t retry_at;
	uint64_t started_at; /* the scan */
	uint64_t rest_until;
	uint64_t held_since; /* scans wait for all to be at rest */
	uint64_t failing_since;
	unsigned n_retries;
	bool is_good; /* the last scan became the tree's contents */
	bool is_resync; /* nothing but the clock asked for the scan */
	bool has_device;
	/* Of the scan that last became the tree's contents. */
	dev_t device; /* of the root */
	uint64_t empties;
};

/* Spreads the resyncs of many trees: up to an eighth earlier. */
static uint64_t jittered(uint64_t usec)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		return usec;
	return usec - usec / 8 * (random % 1024) / 1024;
}

/* A large tree that changes all the time may take half of our time, not all of it. */
static uint64_t burst_end(const struct feed *feed, uint64_t now)
{
	uint64_t end =
		MIN(now + LIMIT_DIRECTORY_QUIET_USEC, feed->burst_at + LIMIT_DIRECTORY_BURST_USEC);

	return MAX(end, feed->rest_until);
}

/* Arms the feed's next scan at the earliest time that something asks for. */
static void schedule(struct feed *feed)
{
	uint64_t now = loop_now();
	uint64_t at = UINT64_MAX;

	if (feed->phase != FEED_IDLE)
		return;
	if (feed->retry_at != 0)
		at = feed->retry_at;
	if (feed->written_at != 0)
		at = MIN(at, feed->written_at);
	if (feed->burst_at != 0)
		at = MIN(at, burst_end(feed, now));
	if (at == UINT64_MAX)
		loop_timer_disarm(feed->next);
	else
		loop_timer_arm(feed->next, at > now ? at - now : 0);
}

static void on_notice(struct directory_follower *follower, uint64_t delay_usec)
{
	struct feed *feed = CONTAINER_OF(follower, struct feed, follower);
	uint64_t now = loop_now();

	if (delay_usec > 0)
		feed->written_at = now + delay_usec;
	else if (feed->burst_at == 0)
		feed->burst_at = now;
	feed->is_resync = false;
	schedule(feed);
}

/* Only so many scans at a time: each holds descriptors. */
static void activate_feeds(struct directory *directory)
{
	while (directory->n_active < LIMIT_DIRECTORY_SCANS && !list_is_empty(&directory->waiting)) {
		struct feed *feed = LIST_ENTRY(directory->waiting.next, struct feed, turn_link);

		list_unlink(&feed->turn_link);
		list_append(&directory->active, &feed->turn_link);
		feed->phase = FEED_SCANNING;
		directory->n_active++;
	}
	if (directory->n_active > 0 && !loop_timer_is_armed(directory->turn))
		loop_timer_arm(directory->turn, 0);
}

static void queue_scan(struct feed *feed)
{
	if (feed->phase != FEED_IDLE)
		return;
	loop_timer_disarm(feed->next);
	feed->phase = FEED_WAITING;
	list_append(&feed->directory->waiting, &feed->turn_link);
	activate_feeds(feed->directory);
}

/* Out of the list that it is in. */
static void leave_turn(struct feed *feed, enum feed_phase phase)
{
	uint64_t now = loop_now();

	if (feed->phase == FEED_SCANNING) {
		feed->directory->n_active--;
		feed->rest_until = now + (now - feed->started_at);
	}
	list_unlink(&feed->turn_link);
	feed->phase = phase;
	activate_feeds(feed->directory);
}

static void end_scan(struct feed *feed)
{
	feed->scan = directory_scan_free(feed->scan);
	loop_timer_disarm(feed->next);
	leave_turn(feed, FEED_IDLE);
}

static enum tree_error_kind kind_of_error(int error)
{
	switch (error) {
	case -EACCES:
	case -EPERM:
		return TREE_DENIED;
	case -EFBIG:
	case -E2BIG:
	case -ENOMEM:
		return TREE_LIMIT;
	case -EAGAIN:
	case -ELOOP:
		return TREE_INVALID;
	default:
		return TREE_UNREACHABLE;
	}
}

/* Every second at first, then after an eighth of the time that it fails already. */
static uint64_t retry_delay(const struct feed *feed, uint64_t now)
{
	uint64_t delay = MAX((now - feed->failing_since) / 8, LIMIT_RETRY_EARLY_USEC);

	if (now - feed->failing_since < LIMIT_RETRY_EARLY_SPAN_USEC || feed->follower.is_blind)
		delay = LIMIT_RETRY_EARLY_USEC;
	return MIN(delay, LIMIT_RETRY_MAX_USEC);
}

/* The tree may be given back while it is told: nothing of the feed is touched afterwards. */
static void fail_scan(struct feed *feed, int error, const char *message)
{
	char copy[TREE_MESSAGE];
	uint64_t now = loop_now();

	/* A link that is being replaced, a directory that is being renamed: look again first. */
	if (feed->n_retries < LIMIT_DIRECTORY_RETRIES) {
		feed->n_retries++;
		feed->retry_at = now + LIMIT_DIRECTORY_AGAIN_USEC;
		end_scan(feed);
		schedule(feed);
		return;
	}
	if (feed->failing_since == 0)
		feed->failing_since = now;
	feed->is_good = false;
	feed->retry_at = now + retry_delay(feed, now);
	snprintf(copy, sizeof(copy), "%s", message);
	end_scan(feed);
	schedule(feed);
	tree_fail(feed->tree, kind_of_error(error), feed->retry_at, "%s", copy);
}

/* A file is being written, or a scan may be partly old and partly new: the tree waits until all is
 * at rest, but not for ever. */
static void hold_scan(struct feed *feed, uint64_t wait_usec)
{
	uint64_t now = loop_now();

	if (feed->held_since == 0)
		feed->held_since = now;
	feed->retry_at = wait_usec > 0 ? now + wait_usec : 0;
	end_scan(feed);
	schedule(feed);
}

/* A volume that is unmounted leaves an empty directory behind; that deletes nothing. */
static bool is_unmounted(const struct feed *feed)
{
	const struct kvset *content = feed->tree->content;

	return feed->has_device && content && content->records.n > 0 &&
	       directory_scan_is_bare(feed->scan) &&
	       directory_scan_device(feed->scan) != feed->device;
}

/* The tree may be given back while it is told: nothing of the feed is touched afterwards. */
static void publish_scan(struct feed *feed)
{
	struct tree *tree = feed->tree;
	struct kvset *set = directory_scan_take(feed->scan);

	feed->device = directory_scan_device(feed->scan);
	feed->has_device = true;
	feed->empties = directory_scan_empties(feed->scan);
	feed->is_good = true;
	feed->n_retries = 0;
	feed->held_since = feed->failing_since = 0;
	feed->retry_at = feed->follower.is_blind ? loop_now() + LIMIT_DIRECTORY_POLL_USEC : 0;
	directory_notify_end(&feed->follower);
	if (feed->is_resync && !feed->follower.is_blind && tree->content &&
		!kvset_same(tree->content, set))
		log_event(LOG_LEVEL_INFO, ABOUT(LOG_RESYNC_REPAIRED, .prefix = tree->prefix),
			"%s: the resync found a change that was not notified", tree->prefix);
	feed->is_resync = false;
	end_scan(feed);
	schedule(feed);
	tree_apply(tree, set);
}

static bool is_patient(const struct feed *feed)
{
	return feed->held_since == 0 || loop_now() - feed->held_since < LIMIT_DIRECTORY_HOLD_USEC;
}

static void fail_unmounted(struct feed *feed)
{
	char message[TREE_MESSAGE];

	snprintf(message, sizeof(message), "nothing is mounted any more on %s",
		feed->directory->settings.root);
	fail_scan(feed, -ENODEV, message);
}

static bool has_emptied(const struct feed *feed)
{
	uint64_t empties = directory_scan_empties(feed->scan);

	return feed->has_device && empties != 0 && empties != feed->empties;
}

/*
 * The kernel shows a link that is switched a moment before it queues the notice, and a file that
 * is cut to be rewritten a longer moment, with its old times: a scan is proven when all that it
 * may have seen has had the time to be told.
 */
static void prove_scan(struct feed *feed)
{
	leave_turn(feed, FEED_PROVING);
	loop_timer_arm(feed->next,
		has_emptied(feed) ? LIMIT_DIRECTORY_EMPTIED_USEC : LIMIT_DIRECTORY_PROOF_USEC);
}

/* Files that never rest are taken as they are in the end; half of one tree and half of another are
 * not, however long that goes on. */
static void fail_mixed(struct feed *feed)
{
	fail_scan(feed, -EAGAIN, "directories are replaced faster than they can be read");
}

static void complete_scan(struct feed *feed)
{
	bool is_mixed = directory_scan_is_mixed(feed->scan);

	directory_notify_read(feed->directory->notify);
	if (is_mixed && feed->burst_at == 0)
		feed->burst_at = loop_now();
	if ((feed->burst_at != 0 || feed->written_at != 0) && is_patient(feed))
		hold_scan(feed, 0);
	else if (has_emptied(feed) && directory_scan_is_cutting(feed->scan) && is_patient(feed))
		hold_scan(feed, LIMIT_DIRECTORY_EMPTIED_USEC);
	else if (is_mixed)
		fail_mixed(feed);
	else if (is_unmounted(feed))
		fail_unmounted(feed);
	else
		publish_scan(feed);
}

static int start_scan(struct feed *feed)
{
	/* Changes that the scan is going to see do not make it doubtful. */
	directory_notify_read(feed->directory->notify);
	feed->burst_at = feed->written_at = feed->retry_at = 0;
	feed->started_at = loop_now();
	return directory_scan_new(&feed->directory->settings, feed->tree->prefix, &feed->follower,
		is_patient(feed), &feed->scan);
}

static void work_on_scan(struct feed *feed)
{
	int r = 0;

	if (!feed->scan)
		r = start_scan(feed);
	if (r < 0) {
		fail_scan(feed, r, strerror(-r));
		return;
	}
	r = directory_scan_step(feed->scan);
	if (r > 0) {
		list_unlink(&feed->turn_link);
		list_append(&feed->directory->active, &feed->turn_link);
	} else if (r == 0) {
		prove_scan(feed);
	} else if (r == -EBUSY) {
		hold_scan(feed, directory_scan_wait_usec(feed->scan));
	} else if (r == -EAGAIN && is_patient(feed)) {
		hold_scan(feed, LIMIT_DIRECTORY_AGAIN_USEC);
	} else {
		fail_scan(feed, r, directory_scan_message(feed->scan));
	}
}

static void on_turn(void *userdata)
{
	struct directory *directory = userdata;

	if (list_is_empty(&directory->active))
		return;
	work_on_scan(LIST_ENTRY(directory->active.next, struct feed, turn_link));
	activate_feeds(directory);
}

static void on_next(void *userdata)
{
	struct feed *feed = userdata;

	if (feed->phase == FEED_PROVING)
		complete_scan(feed);
	else
		queue_scan(feed);
}

static void on_resync(void *userdata)
{
	struct feed *feed = userdata;

	loop_timer_arm(feed->resync, jittered(feed->directory->resync_usec));
	if (feed->phase != FEED_IDLE)
		return;
	feed->is_resync = feed->burst_at == 0 && feed->written_at == 0;
	queue_scan(feed);
}

static bool is_quiet(const struct feed *feed)
{
	return feed->is_good && feed->phase == FEED_IDLE && feed->burst_at == 0 &&
	       feed->written_at == 0 && feed->held_since == 0;
}

/* As long as nothing is heard of a change, the contents are what the source says. */
static void on_confirm(void *userdata)
{
	struct directory *directory = userdata;
	struct stat st;
	bool is_there = stat(directory->settings.root, &st) == 0;
	struct list unseen = LIST_INIT(unseen);

	if (list_is_empty(&directory->feeds))
		return; /* the next tree sets the clock going again */
	loop_timer_arm(directory->confirm, directory->confirm_usec);
	/* Trees may come and go while they are told. */
	list_splice(&unseen, &directory->feeds);
	while (!list_is_empty(&unseen)) {
		struct feed *feed = LIST_ENTRY(unseen.next, struct feed, link);

		list_unlink(&feed->link);
		list_append(&directory->feeds, &feed->link);
		if (is_quiet(feed) && is_there)
			tree_confirm(feed->tree);
		else if (is_quiet(feed))
			queue_scan(feed);
	}
}

static struct feed *stop_feed(struct feed *feed)
{
	leave_turn(feed, FEED_IDLE);
	directory_scan_free(feed->scan);
	directory_notify_unfollow(&feed->follower);
	loop_timer_free(feed->next);
	loop_timer_free(feed->resync);
	list_unlink(&feed->link);
	free(feed);
	return NULL;
}

static int start_feed(struct source *source, struct tree *tree, struct feed **ret_feed)
{
	struct directory *directory = CONTAINER_OF(source, struct directory, source);
	struct feed *feed = calloc(1, sizeof(*feed));
	int r;

	if (!feed)
		return -ENOMEM;
	feed->directory = directory;
	feed->tree = tree;
	list_init(&feed->turn_link);
	list_append(&directory->feeds, &feed->link);
	directory_notify_follow(directory->notify, &feed->follower);
	r = loop_timer_new(directory->loop, on_next, feed, &feed->next);
	if (r == 0)
		r = loop_timer_new(directory->loop, on_resync, feed, &feed->resync);
	if (r == 0)
		r = loop_timer_arm(feed->resync, jittered(directory->resync_usec));
	if (r == 0 && !loop_timer_is_armed(directory->confirm))
		r = loop_timer_arm(directory->confirm, directory->confirm_usec);
	if (r < 0) {
		stop_feed(feed);
		return r;
	}
	queue_scan(feed);
	*ret_feed = feed;
	return 0;
}

static void resync_feed(struct feed *feed)
{
	on_resync(feed);
}

static unsigned count_connections(const struct source *source)
{
	(void)source;
	return 0;
}

static int copy_settings(const struct config *config, struct directory_scan_settings *ret_settings)
{
	char *root = strdup(config->dir);

	if (!root)
		return -ENOMEM;
	*ret_settings = (struct directory_scan_settings){
		.root = root,
		.keep_newline = config->keep_newline,
		.flat = config->flat,
		.max_value = config->max_value,
		.max_bytes = config->max_service,
	};
	return 0;
}

int directory_source_new(struct loop *loop, const struct config *config, struct source **ret_source)
{
	struct directory *directory = calloc(1, sizeof(*directory));
	int r;

	if (!directory)
		return -ENOMEM;
	directory->source = (struct source){
		.name = "dir",
		.start = start_feed,
		.stop = stop_feed,
		.resync = resync_feed,
		.n_connections = count_connections,
	};
	directory->loop = loop;
	directory->resync_usec = config->resync_usec;
	directory->confirm_usec = config->wait_usec;
	list_init(&directory->feeds);
	list_init(&directory->waiting);
	list_init(&directory->active);
	r = copy_settings(config, &directory->settings);
	if (r == 0)
		r = directory_notify_new(loop, on_notice, &directory->notify);
	if (r == 0)
		r = loop_timer_new(loop, on_turn, directory, &directory->turn);
	if (r == 0)
		r = loop_timer_new(loop, on_confirm, directory, &directory->confirm);
	if (r < 0) {
		directory_source_free(&directory->source);
		return r;
	}
	*ret_source = &directory->source;
	return 0;
}

struct source *directory_source_free(struct source *source)
{
	struct directory *directory;

	if (!source)
		return NULL;
	directory = CONTAINER_OF(source, struct directory, source);
	loop_timer_free(directory->turn);
	loop_timer_free(directory->confirm);
	directory_notify_free(directory->notify);
	free(directory->settings.root);
	free(directory);
	return NULL;
}

/* The last good contents stay until the first scan of the new ones is complete. */
static void restart_feed(struct feed *feed)
{
	end_scan(feed);
	directory_notify_unfollow(&feed->follower);
	directory_notify_follow(feed->directory->notify, &feed->follower);
	feed->burst_at = feed->written_at = feed->retry_at = 0;
	feed->held_since = feed->failing_since = feed->rest_until = 0;
	feed->n_retries = 0;
	feed->is_good = feed->is_resync = feed->has_device = false;
	queue_scan(feed);
}

static bool is_same_settings(
	const struct directory_scan_settings *a, const struct directory_scan_settings *b)
{
	return std_streq(a->root, b->root) && a->keep_newline == b->keep_newline &&
	       a->flat == b->flat && a->max_value == b->max_value && a->max_bytes == b->max_bytes;
}

int directory_source_reconfigure(struct source *source, const struct config *config)
{
	struct directory *directory = CONTAINER_OF(source, struct directory, source);
	bool is_new_resync = directory->resync_usec != config->resync_usec;
	struct directory_scan_settings settings;
	bool is_same;
	int r = copy_settings(config, &settings);

	if (r < 0)
		return r;
	is_same = is_same_settings(&directory->settings, &settings);
	free(directory->settings.root);
	directory->settings = settings;
	directory->resync_usec = config->resync_usec;
	directory->confirm_usec = config->wait_usec;
	loop_timer_arm(directory->confirm, directory->confirm_usec);
	LIST_FOREACH (node, &directory->feeds) {
		struct feed *feed = LIST_ENTRY(node, struct feed, link);

		if (is_new_resync)
			loop_timer_arm(feed->resync, jittered(directory->resync_usec));
		if (!is_same)
			restart_feed(feed);
	}
	return 0;
}
