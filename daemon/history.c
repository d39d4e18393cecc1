#include "daemon/history.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "daemon/backup-load.h"

/* One file. */
struct entry {
	uint64_t generation, digest, n_entries, size;
	struct backup_format format;
	uint8_t tail[BACKUP_TAIL];
};

typedef bool (*entry_fn)(const struct entry *entry, void *userdata);

static int is_generation(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Not alphasort(): its order is that of the locale. */
static int newest_first(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*b)->d_name, (*a)->d_name);
}

/* A file that cannot be believed is passed over. */
static bool read_entry(int history, const char *name, struct entry *ret_entry)
{
	struct image_header header;
	AUTO_CLOSE int fd = -1;

	if (backup_load_peek(history, name, ret_entry->tail, &ret_entry->format, &fd) < 0 ||
		pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header))
		return false;
	ret_entry->generation = le64_get(ret_entry->format.footer.generation);
	ret_entry->digest = le64_get(header.digest);
	ret_entry->n_entries = le64_get(header.n_entries);
	ret_entry->size = le64_get(header.size);
	return true;
}

static int open_history(int directory, const char *service)
{
	int fd = openat(directory, service, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Newest first, until fn returns false. Their number or -errno. */
static int walk(int directory, const char *service, entry_fn fn, void *userdata)
{
	AUTO_CLOSE int history = open_history(directory, service);
	struct dirent **entries;
	bool goes_on = true;
	int n, n_walked = 0;

	if (history < 0)
		return history == -ENOENT ? 0 : history;
	n = scandirat(history, ".", &entries, is_generation, newest_first);
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		struct entry entry;

		if (goes_on && read_entry(history, entries[i]->d_name, &entry)) {
			goes_on = fn(&entry, userdata);
			n_walked++;
		}
		free(entries[i]);
	}
	free(entries);
	return n_walked;
}

static void put_uint(struct json *json, const char *key, uint64_t value)
{
	json_key(json, key);
	json_uint(json, value);
}

static void put_time(struct json *json, const char *key, uint64_t usec)
{
	json_key(json, key);
	json_seconds(json, usec);
}

struct listing_of_entries {
	struct json *json;
	unsigned n;
};

static bool put_entry(const struct entry *entry, void *userdata)
{
	struct listing_of_entries *listing = userdata;
	const struct backup_footer *footer = &entry->format.footer;
	struct json *json = listing->json;

	if (listing->n++ > 0)
		json_next(json);
	json_begin_object(json);
	put_uint(json, "generation", entry->generation);
	put_time(json, "published", le64_get(footer->published_at));
	put_time(json, "confirmed", le64_get(footer->confirmed_at));
	put_uint(json, "index", le64_get(footer->index));
	json_key(json, "digest");
	json_hex(json, entry->digest);
	put_uint(json, "keys", entry->n_entries);
	put_uint(json, "bytes", entry->size);
	json_end_object(json);
	return json_size(json) < LIMIT_STATUS_PAGE;
}

int history_list(int directory, const char *service, struct json *json)
{
	struct listing_of_entries listing = { .json = json };

	return walk(directory, service, put_entry, &listing);
}

int history_open(int directory, const char *service, uint64_t generation)
{
	AUTO_CLOSE int history = open_history(directory, service);
	char name[32];

	if (history < 0)
		return history;
	snprintf(name, sizeof(name), HISTORY_NAME, (unsigned long long)generation);
	return state_directory_open_file(history, name);
}

struct search {
	const struct backup_identity *identity;
	uint64_t generation, before, digest; /* what it must have; 0: anything */
	bool is_previous; /* other contents than `said`, which are the newest's without has_said */
	bool has_said;
	uint64_t said;
	uint64_t found; /* 0: nothing */
	bool has_foreign; /* one that is of something else */
};

static bool is_said(struct search *search, uint64_t digest)
{
	if (!search->has_said)
		search->said = digest;
	search->has_said = true;
	return digest == search->said;
}

static bool look_at(const struct entry *entry, void *userdata)
{
	struct search *search = userdata;

	if ((search->generation != 0 && entry->generation != search->generation) ||
		(search->before != 0 &&
			le64_get(entry->format.footer.published_at) >= search->before) ||
		(search->digest != 0 && entry->digest != search->digest))
		return true;
	if (!backup_format_has_identity(
		    &entry->format, search->identity->names, search->identity->size)) {
		search->has_foreign = true;
		return true;
	}
	if (search->is_previous && is_said(search, entry->digest))
		return true;
	search->found = entry->generation;
	return false;
}

struct newest {
	const struct backup_identity *identity;
	uint64_t digest;
	bool has_it;
};

static bool look_at_newest(const struct entry *entry, void *userdata)
{
	struct newest *newest = userdata;

	newest->has_it = entry->digest == newest->digest &&
			 backup_format_has_identity(
				 &entry->format, newest->identity->names, newest->identity->size);
	return false;
}

bool history_ends_with(
	int directory, const char *service, const struct backup_identity *identity, uint64_t digest)
{
	struct newest newest = { .identity = identity, .digest = digest };

	return walk(directory, service, look_at_newest, &newest) > 0 && newest.has_it;
}

struct twins {
	uint64_t generation, digest;
	bool has_it, has_twin;
};

static bool find_generation(const struct entry *entry, void *userdata)
{
	struct twins *twins = userdata;

	twins->has_it = entry->generation == twins->generation;
	twins->digest = entry->digest;
	return !twins->has_it;
}

static bool find_twin(const struct entry *entry, void *userdata)
{
	struct twins *twins = userdata;

	twins->has_twin = entry->generation != twins->generation && entry->digest == twins->digest;
	return !twins->has_twin;
}

int history_sole_digest(
	int directory, const char *service, uint64_t generation, uint64_t *ret_digest)
{
	struct twins twins = { .generation = generation };
	int r = walk(directory, service, find_generation, &twins);

	if (r > 0 && twins.has_it)
		r = walk(directory, service, find_twin, &twins);
	if (r < 0)
		return r;
	if (!twins.has_it || twins.has_twin)
		return -ENOENT;
	*ret_digest = twins.digest;
	return 0;
}

bool history_has_digest(int history, const char *name, uint64_t digest)
{
	struct entry entry;

	return read_entry(history, name, &entry) && entry.digest == digest;
}

static bool parse_number(const char *text, int base, uint64_t *ret_number)
{
	char *end;

	errno = 0;
	*ret_number = strtoull(text, &end, base);
	return *text >= '0' && errno == 0 && *end == '\0' && *ret_number != 0;
}

static bool parse_generation(
	const char *text, const struct history_target *target, struct search *search)
{
	if (!parse_number(text, 10, &search->generation))
		return false;
	/* What is served once more has the number of when it was served first. */
	if (search->generation == target->generation) {
		search->generation = 0;
		search->digest = target->digest;
	}
	return true;
}

static bool parse(const struct history_target *target, struct search *search)
{
	const char *text = target->text;

	if (!text)
		return true;
	if (std_streq(text, "previous")) {
		search->is_previous = true;
		search->has_said = target->has_said;
		search->said = target->said;
		return true;
	}
	if (strncmp(text, "digest:", 7) == 0)
		return parse_number(text + 7, 16, &search->digest);
	if (strncmp(text, "before:", 7) != 0)
		return parse_generation(text, target, search);
	if (!parse_number(text + 7, 10, &search->before) ||
		search->before >= UINT64_MAX / USEC_PER_SEC)
		return false;
	search->before *= USEC_PER_SEC;
	return true;
}

int history_find(int directory, const char *service, const struct backup_identity *identity,
	const struct history_target *target, uint64_t *ret_generation)
{
	struct search search = { .identity = identity };
	int r;

	if (!parse(target, &search))
		return -EINVAL;
	r = walk(directory, service, look_at, &search);
	if (r < 0)
		return r;
	if (search.found == 0)
		return search.has_foreign ? -EXDEV : -ENOENT;
	*ret_generation = search.found;
	return 0;
}
