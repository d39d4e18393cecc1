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

static const char *token_of(struct fixture *f)
{
	const char *value = "nothing";

	assert_int_equal(token_get(&f->token, &value), 0);
	return value;
}

static void assert_token(struct fixture *f, const char *expected)
{
	assert_string_equal(token_of(f), expected);
}

static void assert_refused(struct fixture *f, int error)
{
	const char *value;

	assert_int_equal(token_get(&f->token, &value), error);
}

static void without_a_file_it_is_the_configured_one(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(token_init(&f->token, NULL, "fixed"), 0);
	assert_token(f, "fixed");
	token_done(&f->token);
	assert_int_equal(token_init(&f->token, NULL, NULL), 0);
	assert_null(token_of(f));
}

static void the_file_wins_and_is_read_again_when_it_changes(void **state)
{
	struct fixture *f = *state;

	put(f, "\n first \n");
	assert_int_equal(token_init(&f->token, f->path, "fixed"), 0);
	assert_token(f, "first");
	put(f, "second");
	assert_token(f, "second");
	assert_token(f, "second");
	put(f, "third");
	assert_token(f, "third");
}

static void a_file_that_cannot_be_read_leaves_the_last_token(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(token_init(&f->token, f->path, NULL), 0);
	put(f, "first");
	assert_token(f, "first");
	unlink(f->path);
	assert_token(f, "first");
	assert_int_equal(mkdir(f->path, 0700), 0);
	assert_token(f, "first");
	rmdir(f->path);
	put(f, "first");
	assert_token(f, "first");
	assert_int_equal(f->token.error, 0);
}

/* truncate(2), then write(2): between the two it is empty. */
static void a_file_that_is_rewritten_in_place_leaves_the_last_token_while_it_is_empty(void **state)
{
	struct fixture *f = *state;
	int fd;

	put(f, "first");
	assert_int_equal(token_init(&f->token, f->path, "fixed"), 0);
	assert_token(f, "first");
	fd = open(f->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_token(f, "first");
	assert_int_equal(f->token.error, -ENODATA);
	assert_int_equal(write(fd, "second\n", 7), 7);
	assert_token(f, "second");
	assert_int_equal(f->token.error, 0);
	close(fd);
}

static void without_a_token_yet_nobody_is_asked(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(token_init(&f->token, f->path, NULL), 0);
	assert_refused(f, -ENOENT);
	put(f, " \n");
	assert_refused(f, -ENODATA);
	assert_refused(f, -ENODATA);
	put(f, "two words");
	assert_refused(f, -EILSEQ);
	put(f, "first");
	assert_token(f, "first");
}

static void the_configured_one_stands_in_for_an_empty_file_only(void **state)
{
	struct fixture *f = *state;

	put(f, "");
	assert_int_equal(token_init(&f->token, f->path, "fixed"), 0);
	assert_token(f, "fixed");
	unlink(f->path);
	assert_refused(f, -ENOENT);
	put(f, "first");
	assert_token(f, "first");
}

static void what_could_end_a_header_is_no_token(void **state)
{
	static const char *const bad[] = { "a\r\nHost: b", "a b", "a\tb", "t\xc3\xb6ken" };
	struct fixture *f = *state;
	static char large[LIMIT_TOKEN + 1];

	put(f, "good");
	assert_int_equal(token_init(&f->token, f->path, NULL), 0);
	assert_token(f, "good");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put(f, bad[i]);
		assert_token(f, "good");
	}
	write_file(f, "a\0b", 3);
	assert_token(f, "good");
	memset(large, 'x', sizeof(large));
	write_file(f, large, LIMIT_TOKEN + 1);
	assert_token(f, "good");
	write_file(f, large, LIMIT_TOKEN);
	assert_int_equal(strlen(token_of(f)), LIMIT_TOKEN);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(without_a_file_it_is_the_configured_one),
		CASE(the_file_wins_and_is_read_again_when_it_changes),
		CASE(a_file_that_cannot_be_read_leaves_the_last_token),
		CASE(a_file_that_is_rewritten_in_place_leaves_the_last_token_while_it_is_empty),
		CASE(without_a_token_yet_nobody_is_asked),
		CASE(the_configured_one_stands_in_for_an_empty_file_only),
		CASE(what_could_end_a_header_is_no_token),
	};

	return cmocka_run_group_tests_name("token", tests, NULL, NULL);
}
