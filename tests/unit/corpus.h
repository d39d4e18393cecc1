/*
 * The files of a folder of tests/corpus: those called ok-* must be taken, those called bad-*
 * refused.
 */
#pragma once

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/unit/test.h"

typedef void (*corpus_fn)(
	const char *name, const uint8_t *data, size_t size, bool is_good, void *userdata);

static inline void corpus_read(const char *folder, const char *name, corpus_fn fn, void *userdata)
{
	char path[1024];
	struct stat st;
	uint8_t *data;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fstat(fileno(file), &st), 0);
	/* As long as it is: a byte too far is found. */
	data = malloc(st.st_size > 0 ? (size_t)st.st_size : 1);
	assert_non_null(data);
	assert_int_equal(fread(data, 1, (size_t)st.st_size, file), st.st_size);
	fclose(file);
	fn(name, data, (size_t)st.st_size, name[0] == 'o', userdata);
	free(data);
}

/* All of them; there must be so many at least. */
static inline void corpus_each(
	const char *name, unsigned min_good, unsigned min_bad, corpus_fn fn, void *userdata)
{
	unsigned n_good = 0, n_bad = 0;
	struct dirent *entry;
	char folder[512];
	DIR *dir;

	snprintf(folder, sizeof(folder), "%s/%s", getenv("CORPUS") ?: "tests/corpus", name);
	dir = opendir(folder);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		bool is_good = strncmp(entry->d_name, "ok-", 3) == 0;

		if (!is_good && strncmp(entry->d_name, "bad-", 4) != 0)
			continue;
		corpus_read(folder, entry->d_name, fn, userdata);
		n_good += is_good;
		n_bad += !is_good;
	}
	closedir(dir);
	assert_true(n_good >= min_good);
	assert_true(n_bad >= min_bad);
}
