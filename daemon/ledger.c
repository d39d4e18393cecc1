/*
 * Invariant: what runs is open for as long as it runs, whatever its entry in the file says.
 */
#include "daemon/ledger.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/loop.h"
#include "proto/le.h"
#include "proto/limits.h"

#define NAME "polls"

struct entry {
	uint64_t over_at; /* loop_now() time; 0: free */
	bool is_running; /* of this daemon, and unanswered */
	bool is_inherited;
};

struct ledger {
	int fd; /* -1: none */
	struct entry entries[LIMIT_LEDGER];
};

static uint64_t over_after(uint64_t wait_usec)
{
	return wait_usec + wait_usec / 16 + LIMIT_LEDGER_SLACK_USEC;
}

/* A link in the directory, or a file of somebody else, is not ours to write. */
static int open_file(const char *directory)
{
	AUTO_CLOSE int folder = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int fd = -1;
	struct stat st;

	if (folder < 0)
		return -errno;
	fd = openat(folder, NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) && st.st_uid == geteuid() ? TAKE_FD(fd) : -EPERM;
}

static void read_file(struct ledger *ledger)
{
	uint64_t now = loop_now();
	le64 times[LIMIT_LEDGER];
	ssize_t n = pread(ledger->fd, times, sizeof(times), 0);

	for (size_t i = 0; n > 0 && i < (size_t)n / sizeof(times[0]); i++) {
		uint64_t over_at = le64_get(times[i]);

		if (over_at > now && over_at - now <= over_after(LIMIT_WAIT_MAX_USEC))
			ledger->entries[i] = (struct entry){ over_at, .is_inherited = true };
	}
}

/* A full disk makes the next daemon forget, no more. */
static void set(struct ledger *ledger, size_t i, uint64_t over_at)
{
	le64 time = le64_of(over_at);

	ledger->entries[i].over_at = over_at;
	if (ledger->fd >= 0)
		(void)!pwrite(ledger->fd, &time, sizeof(time), (off_t)(i * sizeof(time)));
}

static bool is_open(const struct entry *entry, uint64_t now)
{
	return entry->is_running || entry->over_at > now;
}

int ledger_new(const char *directory, struct ledger **ret_ledger, bool *ret_is_lasting)
{
	struct ledger *ledger = calloc(1, sizeof(*ledger));

	if (!ledger)
		return -ENOMEM;
	ledger->fd = directory ? open_file(directory) : -1;
	if (ledger->fd >= 0)
		read_file(ledger);
	*ret_is_lasting = !directory || ledger->fd >= 0;
	*ret_ledger = ledger;
	return 0;
}

struct ledger *ledger_free(struct ledger *ledger)
{
	if (!ledger)
		return NULL;
	if (ledger->fd >= 0)
		close(ledger->fd);
	free(ledger);
	return NULL;
}

unsigned ledger_n_open(const struct ledger *ledger)
{
	uint64_t now = loop_now();
	unsigned n = 0;

	for (size_t i = 0; i < LIMIT_LEDGER; i++)
		n += is_open(&ledger->entries[i], now);
	return n;
}

unsigned ledger_n_inherited(const struct ledger *ledger)
{
	uint64_t now = loop_now();
	unsigned n = 0;

	for (size_t i = 0; i < LIMIT_LEDGER; i++)
		n += ledger->entries[i].is_inherited && is_open(&ledger->entries[i], now);
	return n;
}

void ledger_inherit(struct ledger *ledger)
{
	for (size_t i = 0; i < LIMIT_LEDGER; i++)
		ledger->entries[i].is_inherited = true;
}

int ledger_open(struct ledger *ledger, unsigned limit, uint64_t wait_usec)
{
	uint64_t now = loop_now();
	size_t i = 0;

	if (ledger_n_open(ledger) >= MIN(limit, (unsigned)LIMIT_LEDGER))
		return -EBUSY;
	while (is_open(&ledger->entries[i], now))
		i++;
	set(ledger, i, now + over_after(wait_usec));
	ledger->entries[i].is_running = true;
	ledger->entries[i].is_inherited = false;
	return (int)i;
}

void ledger_close(struct ledger *ledger, int entry)
{
	ledger->entries[entry].is_running = false;
	set(ledger, (size_t)entry, 0);
}

void ledger_leave(struct ledger *ledger, int entry)
{
	ledger->entries[entry].is_running = false;
}
