#include <fcntl.h>
#include <sys/stat.h>

#include "daemon/log.h"
#include "daemon/token.h"
#include "proto/limits.h"
#include "test.h"

struct fixture {
	char folder[32];
	char path[64];
	struct token token;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	log_set_level(LOG_LEVEL_ERROR);
	strcpy(f->folder, "/tmp/test-token.XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->path, sizeof(f->path), "%s/token", f->folder);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	token_done(&f->token);
	unlink(f->path);
	rmdir(f->folder);
	free(f);
	return 0;
}

static void write_file(struct fixture *f, const char *text, size_t len)
{
	char other[80];
	int fd;

	/* Replaced as an agent does it. */
	snprintf(other, sizeof(other), "%s.new", f->path);
	fd = open(other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	close(fd);
	assert_int_equal(rename(other, f->path), 0);
}

static void put(struct fixture *f, const char *text)
{
	write_file(f, text, strlen(text));
}

static void without_a_file_it_is_the_configured_one(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(token_init(&f->token, NULL, "fixed"), 0);
	assert_string_equal(token_get(&f->token), "fixed");
	token_done(&f->token);
	assert_int_equal(token_init(&f->token, NULL, NULL), 0);
	assert_null(token_get(&f->token));
}

static void the_file_wins_and_is_read_again_when_it_changes(void **state)
{
	struct fixture *f = *state;

	put(f, "\n first \n");
	assert_int_equal(token_init(&f->token, f->path, "fixed"), 0);
	assert_string_equal(token_get(&f->token), "first");
	put(f, "second");
	assert_string_equal(token_get(&f->token), "second");
	assert_string_equal(token_get(&f->token), "second");
	put(f, "\n");
	assert_string_equal(token_get(&f->token), "fixed");
	put(f, "third");
	assert_string_equal(token_get(&f->token), "third");
}

static void a_file_that_cannot_be_read_leaves_the_last_token(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(token_init(&f->token, f->path, NULL), 0);
	assert_null(token_get(&f->token));
	put(f, "first");
	assert_string_equal(token_get(&f->token), "first");
	unlink(f->path);
	assert_string_equal(token_get(&f->token), "first");
	assert_int_equal(mkdir(f->path, 0700), 0);
	assert_string_equal(token_get(&f->token), "first");
	rmdir(f->path);
	put(f, "first");
	assert_string_equal(token_get(&f->token), "first");
	assert_int_equal(f->token.error, 0);
}

static void what_could_end_a_header_is_no_token(void **state)
{
	static const char *const bad[] = { "a\r\nHost: b", "a b", "a\tb", "t\xc3\xb6ken" };
	struct fixture *f = *state;
	static char large[LIMIT_TOKEN + 1];

	put(f, "good");
	assert_int_equal(token_init(&f->token, f->path, NULL), 0);
	assert_string_equal(token_get(&f->token), "good");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put(f, bad[i]);
		assert_string_equal(token_get(&f->token), "good");
	}
	write_file(f, "a\0b", 3);
	assert_string_equal(token_get(&f->token), "good");
	memset(large, 'x', sizeof(large));
	write_file(f, large, LIMIT_TOKEN + 1);
	assert_string_equal(token_get(&f->token), "good");
	write_file(f, large, LIMIT_TOKEN);
	assert_int_equal(strlen(token_get(&f->token)), LIMIT_TOKEN);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(without_a_file_it_is_the_configured_one),
		CASE(the_file_wins_and_is_read_again_when_it_changes),
		CASE(a_file_that_cannot_be_read_leaves_the_last_token),
		CASE(what_could_end_a_header_is_no_token),
	};

	return cmocka_run_group_tests_name("token", tests, NULL, NULL);
}
