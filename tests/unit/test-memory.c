#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/memory.h"
#include "test.h"

#define MB (1u << 20)

struct fixture {
	char mount[64];
	char membership[80];
};

static void write_at(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void PRINTF_FORMAT(3, 4) put(struct fixture *f, const char *name, const char *format, ...)
{
	char path[256], text[512];
	va_list args;

	snprintf(path, sizeof(path), "%s/%s", f->mount, name);
	for (char *slash = path + strlen(f->mount) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdir(path, 0700) < 0)
			assert_int_equal(errno, EEXIST);
		*slash = '/';
	}
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	write_at(path, text);
}

static uint64_t left(const struct fixture *f)
{
	return memory_left(f->membership, f->mount);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->mount, "/tmp/test-memory.XXXXXX");
	assert_non_null(mkdtemp(f->mount));
	snprintf(f->membership, sizeof(f->membership), "%s/cgroup", f->mount);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	snprintf(command, sizeof(command), "rm -r --one-file-system -- '%s'", f->mount);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
	free(f);
	return 0;
}

static void without_a_limit_there_is_none(void **state)
{
	struct fixture *f = *state;

	assert_true(left(f) == MEMORY_UNLIMITED); /* no such file */
	put(f, "cgroup", "4:memory:/\n0::/a\n");
	assert_true(left(f) == MEMORY_UNLIMITED);
	put(f, "a/memory.max", "max\n");
	put(f, "a/memory.current", "7\n");
	put(f, "memory/memory.limit_in_bytes", "9223372036854771712\n");
	put(f, "memory/memory.usage_in_bytes", "7\n");
	assert_true(left(f) == MEMORY_UNLIMITED);
}

static void the_tightest_of_all_groups_around_counts(void **state)
{
	struct fixture *f = *state;

	put(f, "cgroup", "0::/a/b\n");
	put(f, "a/b/memory.max", "max\n");
	put(f, "a/b/memory.current", "%u\n", 30 * MB);
	put(f, "a/memory.max", "%u\n", 100 * MB);
	put(f, "a/memory.current", "%u\n", 40 * MB);
	assert_int_equal(left(f), 60 * MB);
	put(f, "a/b/memory.max", "%u\n", 50 * MB);
	assert_int_equal(left(f), 20 * MB);
	put(f, "a/b/memory.high", "%u\n", 35 * MB);
	assert_int_equal(left(f), 5 * MB);
	put(f, "a/memory.current", "%u\n", 200 * MB);
	assert_int_equal(left(f), 0);
}

static void pages_of_files_can_be_dropped(void **state)
{
	struct fixture *f = *state;

	put(f, "cgroup", "0::/\n");
	put(f, "memory.max", "%u\n", 100 * MB);
	put(f, "memory.current", "%u\n", 90 * MB);
	put(f, "memory.stat", "anon 1\nfile 99\nshmem 5\ninactive_file %u\nactive_file %u\n",
		20 * MB, 10 * MB);
	assert_int_equal(left(f), 40 * MB);
}

static void the_first_version_of_the_controller_counts_too(void **state)
{
	struct fixture *f = *state;

	put(f, "cgroup", "9:cpu:/x\n4:memory:/a/0::b\n0::/\n");
	put(f, "memory/a/0::b/memory.limit_in_bytes", "%u\n", 100 * MB);
	put(f, "memory/a/0::b/memory.usage_in_bytes", "%u\n", 60 * MB);
	put(f, "memory/a/0::b/memory.stat",
		"inactive_file 1\ntotal_inactive_file %u\ntotal_active_file 0\n", 5 * MB);
	assert_int_equal(left(f), 45 * MB);
}

static void a_group_of_another_namespace_is_what_is_mounted(void **state)
{
	struct fixture *f = *state;

	put(f, "cgroup", "0::/../elsewhere\n");
	put(f, "memory.max", "%u\n", 100 * MB);
	put(f, "memory.current", "%u\n", 60 * MB);
	assert_int_equal(left(f), 40 * MB);
}

static char *last_line(const struct fixture *f)
{
	static char line[256];
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/log", f->mount);
	file = fopen(path, "r");
	assert_non_null(file);
	line[0] = '\0';
	while (fgets(line, sizeof(line), file))
		;
	fclose(file);
	return line;
}

/* Small services fit while a large one does not: that is one shortage, told once. */
static void a_shortage_ends_when_all_that_was_refused_would_fit(void **state)
{
	struct fixture *f = *state;
	struct memory_shortage shortage = { 0 };
	int saved = dup(STDERR_FILENO);
	char path[128];

	snprintf(path, sizeof(path), "%s/log", f->mount);
	assert_non_null(freopen(path, "w", stderr));
	assert_false(memory_has(&shortage, 100 * MB, 50 * MB));
	assert_non_null(strstr(last_line(f), "memory is short"));
	for (unsigned i = 0; i < 3; i++) {
		assert_true(memory_has(&shortage, 10 * MB, 60 * MB));
		assert_false(memory_has(&shortage, 90 * MB, 60 * MB));
	}
	assert_non_null(strstr(last_line(f), "short: 50 MB"));
	assert_true(memory_has(&shortage, 10 * MB, 100 * MB));
	assert_non_null(strstr(last_line(f), "no longer short"));
	assert_false(memory_has(&shortage, 90 * MB, 60 * MB));
	assert_non_null(strstr(last_line(f), "short: 60 MB"));
	assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	close(saved);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(without_a_limit_there_is_none),
		CASE(the_tightest_of_all_groups_around_counts),
		CASE(pages_of_files_can_be_dropped),
		CASE(the_first_version_of_the_controller_counts_too),
		CASE(a_shortage_ends_when_all_that_was_refused_would_fit),
		CASE(a_group_of_another_namespace_is_what_is_mounted),
	};

	return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
