#include "daemon/id-file.h"

#include <stdio.h>

#include "proto/key.h"
#include "proto/limits.h"
#include "proto/value.h"

#define CHECK_SECONDS 1 /* between two looks at the file's time */

struct id_name {
	char name[LIMIT_SERVICE_NAME + 1];
	uint32_t id;
};

int id_file_init(struct id_file *file, const char *path)
{
	*file = (struct id_file){ .path = strdup(path), .checked_at = -CHECK_SECONDS };
	return file->path ? 0 : -ENOMEM;
}

void id_file_done(struct id_file *file)
{
	free(file->path);
	free(file->ids);
	*file = (struct id_file){ 0 };
}

/* A line "name:password:number:...". False: none that a service can be named like. */
static bool parse_line(const char *line, struct id_name *ret_id)
{
	size_t name_len = strcspn(line, ":\n");
	const char *number;
	int64_t n;

	if (line[name_len] != ':' || !key_is_service_name(line, name_len))
		return false;
	number = strchr(line + name_len + 1, ':');
	if (!number || value_int64(number + 1, strcspn(number + 1, ":\n"), &n) < 0 || n < 0 ||
		n >= UINT32_MAX)
		return false;
	*ret_id = (struct id_name){ .id = (uint32_t)n };
	memcpy(ret_id->name, line, name_len);
	return true;
}

static int compare_names(const void *a, const void *b)
{
	const struct id_name *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int read_ids(FILE *in, struct id_name **ret_ids, size_t *ret_n)
{
	AUTO_FREE struct id_name *ids = NULL;
	AUTO_FREE char *line = NULL;
	size_t line_size = 0, n = 0, allocated = 0;
	struct id_name id;

	while (getline(&line, &line_size, in) >= 0) {
		if (!parse_line(line, &id))
			continue;
		if (n == allocated) {
			struct id_name *grown;

			allocated = allocated ? 2 * allocated : 64;
			grown = reallocarray(ids, allocated, sizeof(*ids));
			if (!grown)
				return -ENOMEM;
			ids = grown;
		}
		ids[n++] = id;
	}
	if (ferror(in))
		return -EIO;
	if (n > 0)
		qsort(ids, n, sizeof(*ids), compare_names);
	*ret_ids = TAKE_PTR(ids);
	*ret_n = n;
	return 0;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* A file that cannot be read leaves the names as they were: it is being replaced. */
static void refresh(struct id_file *file)
{
	struct timespec now;
	struct id_name *ids;
	struct stat st;
	FILE *in;
	size_t n;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec < file->checked_at + CHECK_SECONDS)
		return;
	file->checked_at = now.tv_sec;
	if (stat(file->path, &st) < 0 || is_same_file(&st, &file->stat))
		return;
	in = fopen(file->path, "re");
	if (!in)
		return;
	if (fstat(fileno(in), &st) == 0 && read_ids(in, &ids, &n) == 0) {
		free(file->ids);
		file->ids = ids;
		file->n_ids = n;
		file->stat = st;
	}
	fclose(in);
}

bool id_file_find(struct id_file *file, const char *name, uint32_t *ret_id)
{
	struct id_name wanted = { 0 };
	const struct id_name *found;

	refresh(file);
	if (file->n_ids == 0 || !key_is_service_name(name, strlen(name)))
		return false;
	strcpy(wanted.name, name);
	found = bsearch(&wanted, file->ids, file->n_ids, sizeof(*file->ids), compare_names);
	if (found)
		*ret_id = found->id;
	return found != NULL;
}
