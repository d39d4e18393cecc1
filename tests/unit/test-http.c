/*
 * The HTTP client's answers: what counts as one, what it says, when it is too late or too large.
 */
#include "http-fixture.h"
#include "test.h"

static void an_answer_comes_with_its_status_index_and_body(void **state)
{
	static const char *const paths[] = { "/ok", "/chunked", "/until-closed" };
	struct http_fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct http_asked asked = http_fixture_ask_one(f, paths[i]);

		assert_int_equal(asked.result.error, 0);
		assert_int_equal(asked.result.status, 200);
		assert_true(asked.result.has_index);
		assert_true(asked.result.is_index_valid);
		assert_int_equal(asked.result.index, 7);
		assert_int_equal(asked.result.n_bytes, 5);
		assert_true(asked.result.answered_usec > 0);
		assert_string_equal(asked.body, "hello");
	}
}

static void an_early_head_is_not_the_answer(void **state)
{
	struct http_asked asked = http_fixture_ask_one(*state, "/early");

	assert_int_equal(asked.result.status, 200);
	assert_int_equal(asked.result.index, 7);
}

static void the_body_of_a_failure_is_kept_apart(void **state)
{
	struct http_asked asked = http_fixture_ask_one(*state, "/no-leader");

	assert_int_equal(asked.result.error, 0);
	assert_int_equal(asked.result.status, 500);
	assert_false(asked.result.has_index);
	assert_int_equal(asked.n_body, 0);
	assert_string_equal(asked.error_body, "No cluster leader");
	asked = http_fixture_ask_one(*state, "/absent");
	assert_int_equal(asked.result.status, 404);
	assert_true(asked.result.is_index_valid);
	assert_int_equal(asked.result.index, 12);
}

static void the_index_is_a_number_or_not_valid(void **state)
{
	static const struct {
		const char *path;
		bool has, is_valid;
		uint64_t index;
	} cases[] = {
		{ "/no-index", false, false, 0 },
		{ "/garbage-index", true, false, 0 },
		{ "/negative-index", true, false, 0 },
		{ "/empty-index", true, false, 0 },
		{ "/huge-index", true, true, UINT64_MAX },
		{ "/too-huge-index", true, false, 0 },
		{ "/two-indexes", true, false, 0 },
		{ "/same-index-twice", true, true, 7 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct http_asked asked = http_fixture_ask_one(*state, cases[i].path);

		assert_int_equal(asked.result.has_index, cases[i].has);
		assert_int_equal(asked.result.is_index_valid, cases[i].is_valid);
		if (cases[i].is_valid)
			assert_int_equal(asked.result.index, cases[i].index);
	}
}

static void redirects_are_not_followed(void **state)
{
	struct http_fixture *f = *state;
	struct http_asked asked = http_fixture_ask_one(f, "/redirect");

	assert_int_equal(asked.result.status, 302);
	assert_int_equal(f->server.n_requests, 1);
}

static void broken_answers_are_errors(void **state)
{
	static const struct {
		const char *path;
		int error;
	} cases[] = {
		{ "/cut", -EBADMSG },
		{ "/cut-chunk", -EBADMSG },
		{ "/nothing", -ECONNRESET },
		{ "/no-http", -EBADMSG },
		{ "/brotli", -EBADMSG },
		{ "/twice-gzip", -EBADMSG },
		{ "/gzip-twice", -EBADMSG },
		{ "/transfer-gzip", -EBADMSG },
		{ "/gzip-cut", -EBADMSG },
		{ "/gzip-bad", -EBADMSG },
		{ "/gzip-trailed", -EBADMSG },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct http_asked asked = http_fixture_ask_one(*state, cases[i].path);

		if (asked.result.error != cases[i].error)
			fail_msg("%s: %d (%s)", cases[i].path, asked.result.error, asked.message);
		assert_true(asked.message[0] != '\0');
	}
}

static void gzip_is_inflated_in_turns(void **state)
{
	struct http_fixture *f = *state;
	struct http_asked asked = http_fixture_ask_one(f, "/gzip");

	assert_int_equal(asked.result.error, 0);
	assert_string_equal(asked.body, "hello");
	loop_timer_arm(f->tick, 0);
	asked = http_fixture_ask_one(f, "/bomb");
	assert_int_equal(asked.result.error, 0);
	assert_int_equal(asked.result.n_bytes, 8 << 20);
	assert_int_equal(asked.n_body, 8 << 20);
	f->n_ticks = 0;
	asked = http_fixture_ask_one(f, "/bomb");
	/* 8 kB of input, one read: still the loop had its turns in between. */
	assert_true(f->n_ticks >= 7);
	for (uint64_t i = 0, sum = 0; i <= 8 << 20; i++) {
		if (i == 8 << 20)
			assert_int_equal(asked.sum, sum);
		sum = sum * 31 + 'x';
	}
}

static void decoded_bytes_are_limited(void **state)
{
	struct http_fixture *f = *state;
	struct http_asked asked;

	f->get.max_bytes = 5;
	assert_int_equal(http_fixture_ask_one(f, "/ok").result.error, 0);
	assert_int_equal(http_fixture_ask_one(f, "/gzip").result.error, 0);
	f->get.max_bytes = 4;
	assert_int_equal(http_fixture_ask_one(f, "/ok").result.error, -EFBIG);
	assert_int_equal(http_fixture_ask_one(f, "/gzip").result.error, -EFBIG);
	f->get.max_bytes = 3 << 20;
	asked = http_fixture_ask_one(f, "/bomb");
	assert_int_equal(asked.result.error, -EFBIG);
	assert_true(asked.n_body <= 3 << 20);
}

static void what_the_reader_refuses_ends_with_its_error(void **state)
{
	struct http_fixture *f = *state;
	struct http_asked asked = { .refuse = -ENOTSUP };

	http_fixture_ask(f, "/ok", &asked);
	http_fixture_run(f, 1);
	assert_int_equal(asked.result.error, -ENOTSUP);
}

static void deadlines_are_kept(void **state)
{
	struct http_fixture *f = *state;
	struct http_asked asked;
	uint64_t begin = loop_now();

	f->get.answer_usec = 50000;
	asked = http_fixture_ask_one(f, "/silent");
	assert_int_equal(asked.result.error, -ETIMEDOUT);
	assert_string_equal(asked.message, "no answer in time");
	assert_true(loop_now() - begin >= 50000);
	f->get.body_usec = 60000;
	asked = http_fixture_ask_one(f, "/silent-body");
	assert_int_equal(asked.result.error, -ETIMEDOUT);
	assert_string_equal(asked.message, "the answer did not end in time");
}

#define CASE(name)                                                                                 \
	cmocka_unit_test_setup_teardown(name, http_fixture_set_up, http_fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(an_answer_comes_with_its_status_index_and_body),
		CASE(an_early_head_is_not_the_answer),
		CASE(the_body_of_a_failure_is_kept_apart),
		CASE(the_index_is_a_number_or_not_valid),
		CASE(redirects_are_not_followed),
		CASE(broken_answers_are_errors),
		CASE(gzip_is_inflated_in_turns),
		CASE(decoded_bytes_are_limited),
		CASE(what_the_reader_refuses_ends_with_its_error),
		CASE(deadlines_are_kept),
	};

	return cmocka_run_group_tests_name(
		"http", tests, http_fixture_make_scripts, http_fixture_free_scripts);
}
