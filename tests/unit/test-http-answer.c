#include "test.h"

#include <zlib.h>

#include "daemon/http-answer.h"

static uint8_t block[HTTP_ANSWER_BLOCK];
static struct http_answer answer;
static char body[256];
static size_t n_body; /* all that came; `body` keeps the beginning */
static int refusal;

static int on_body(const void *data, size_t len, void *userdata)
{
	assert_ptr_equal(userdata, &refusal);
	if (n_body < sizeof(body))
		memcpy(body + n_body, data, MIN(len, sizeof(body) - n_body));
	n_body += len;
	return refusal;
}

static void begin(void)
{
	http_answer_done(&answer);
	answer = (struct http_answer){
		.body = on_body, .userdata = &refusal, .max_bytes = 64 << 20, .block = block
	};
	n_body = 0;
	refusal = 0;
}

static int set_up(void **state)
{
	(void)state;
	begin();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	http_answer_done(&answer);
	return 0;
}

static int line(const char *text)
{
	size_t len = strlen(text);
	char *copy = test_copy(text, len);
	int r = http_answer_take_line(&answer, copy, len);

	free(copy);
	return r;
}

/* Lines up to a NULL, each without its end. */
static void head_of(const char *const *lines)
{
	char text[256];

	begin();
	for (; *lines; lines++) {
		snprintf(text, sizeof(text), "%s\r\n", *lines);
		assert_int_equal(line(text), 0);
	}
	assert_int_equal(line("\r\n"), 0);
}

#define HEAD(...) head_of((const char *const[]){ __VA_ARGS__, NULL })
#define INDEX(text) "X-Consul-Index: " text

static int piece(const void *data, size_t len)
{
	size_t turn_bytes = 0;

	return http_answer_take_body(&answer, data, len, &turn_bytes);
}

static void a_status_is_three_digits(void **state)
{
	(void)state;
	HEAD("HTTP/1.1 200 OK");
	assert_int_equal(answer.result.status, 200);
	HEAD("HTTP/2 404 ");
	assert_int_equal(answer.result.status, 404);
	HEAD("HTTP/1.1 5000");
	assert_int_equal(answer.result.status, 500);
	HEAD("HTTP/1.1");
	assert_int_equal(answer.result.status, 0);
}

static void an_index_is_one_number_however_often_it_comes(void **state)
{
	(void)state;
	HEAD("HTTP/1.1 200 OK");
	assert_false(answer.result.has_index);
	HEAD("HTTP/1.1 200 OK", "x-consul-index:  42 ", INDEX("42"));
	assert_true(answer.result.has_index && answer.result.is_index_valid);
	assert_int_equal(answer.result.index, 42);
	HEAD("HTTP/1.1 200 OK", INDEX("18446744073709551615"));
	assert_true(answer.result.is_index_valid);
	assert_true(answer.result.index == UINT64_MAX);
	HEAD("HTTP/1.1 200 OK", "X-Consul-Index-Not: 7", "X-Consul-Inde: 7");
	assert_false(answer.result.has_index);
}

static void an_index_that_is_no_number_or_two_is_not_valid(void **state)
{
	static const char *const bad[] = { INDEX(""), INDEX("-1"), INDEX("4x"), INDEX("4 2"),
		INDEX("18446744073709551616"), INDEX("99999999999999999999") };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		HEAD("HTTP/1.1 200 OK", bad[i]);
		assert_true(answer.result.has_index);
		assert_false(answer.result.is_index_valid);
		HEAD("HTTP/1.1 200 OK", bad[i], INDEX("42"));
		assert_false(answer.result.is_index_valid);
	}
	HEAD("HTTP/1.1 200 OK", INDEX("42"), INDEX("43"), INDEX("43"));
	assert_false(answer.result.is_index_valid);
}

static void what_a_head_before_the_real_one_said_is_forgotten(void **state)
{
	(void)state;
	HEAD("HTTP/1.1 103 Early Hints", INDEX("1"));
	assert_false(answer.has_head);
	assert_int_equal(line("HTTP/1.1 200 OK\r\n"), 0);
	assert_int_equal(line("\r\n"), 0);
	assert_true(answer.has_head);
	assert_int_equal(answer.result.status, 200);
	assert_false(answer.result.has_index);
	/* A trailer says nothing any more. */
	assert_int_equal(line(INDEX("9") "\r\n"), 0);
	assert_false(answer.result.has_index);
}

static void codings_that_nobody_asked_for_are_refused(void **state)
{
	static const char *const bad[] = { "Content-Encoding: br\r\n",
		"Content-Encoding: gzip, gzip\r\n", "Transfer-Encoding: gzip, chunked\r\n" };

	(void)state;
	HEAD("HTTP/1.1 200 OK", "Content-Encoding: identity", "Transfer-Encoding: Chunked");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		begin();
		assert_int_equal(line("HTTP/1.1 200 OK\r\n"), 0);
		assert_int_equal(line(bad[i]), -EBADMSG);
	}
	begin();
	assert_int_equal(line("HTTP/1.1 200 OK\r\n"), 0);
	assert_int_equal(line("Content-Encoding: gzip\r\n"), 0);
	assert_int_equal(line("Content-Encoding: gzip\r\n"), -EBADMSG);
}

static void an_answer_that_is_all_headers_is_refused(void **state)
{
	size_t n = 0;
	int r = 0;

	(void)state;
	while (r == 0 && n <= LIMIT_HTTP_HEAD) {
		r = line("X-Filler: 0123456789\r\n");
		n += strlen("X-Filler: 0123456789\r\n");
	}
	assert_int_equal(r, -EBADMSG);
	assert_true(n > LIMIT_HTTP_HEAD);
}

static void a_body_goes_on_as_it_came_up_to_its_limit(void **state)
{
	(void)state;
	HEAD("HTTP/1.1 200 OK");
	answer.max_bytes = 6;
	assert_int_equal(piece("abc", 3), 0);
	assert_int_equal(piece("def", 3), 0);
	assert_memory_equal(body, "abcdef", 6);
	assert_int_equal(piece("g", 1), -EFBIG);
	assert_int_equal(n_body, 6);
	http_answer_finish(&answer, false);
	assert_int_equal(answer.result.error, -EFBIG);
}

static void what_the_body_callback_refuses_is_the_error(void **state)
{
	(void)state;
	HEAD("HTTP/1.1 200 OK");
	refusal = -EUCLEAN;
	assert_int_equal(piece("abc", 3), -EUCLEAN);
	assert_int_equal(http_answer_refuse(&answer, -EIO, "a later one"), -EUCLEAN);
	http_answer_finish(&answer, false);
	assert_int_equal(answer.result.error, -EUCLEAN);
	assert_string_equal(answer.result.message, "an answer that was refused");
}

static void of_an_error_the_beginning_is_kept_and_the_rest_is_cut(void **state)
{
	char text[LIMIT_ERROR_BODY] = "No cluster leader";
	int r = 0;

	(void)state;
	HEAD("HTTP/1.1 500 Internal Server Error");
	for (size_t n = 0; n < LIMIT_HTTP_UNWANTED; n += sizeof(text)) {
		assert_int_equal(r, 0);
		r = piece(text, sizeof(text));
	}
	assert_int_equal(r, 0);
	assert_false(answer.is_cut);
	assert_int_equal(piece("x", 1), -ECANCELED);
	assert_true(answer.is_cut);
	http_answer_finish(&answer, true);
	assert_int_equal(answer.result.error, 0);
	assert_int_equal(answer.result.error_body_len, sizeof(text));
	assert_memory_equal(answer.result.error_body, text, sizeof(text));
	assert_int_equal(n_body, 0);
}

static uint8_t packed[8192];

/* So many zeros as gzip. */
static size_t gzip_zeros(size_t n)
{
	uint8_t *zeros = calloc(1, n);
	z_stream stream = { .next_in = zeros,
		.avail_in = (uInt)n,
		.next_out = packed,
		.avail_out = sizeof(packed) };

	assert_non_null(zeros);
	assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, 0), Z_OK);
	assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
	deflateEnd(&stream);
	free(zeros);
	return stream.total_out;
}

static void a_gzipped_body_stops_at_the_end_of_a_turn_and_goes_on_in_the_next(void **state)
{
	size_t size = 4 * LIMIT_HTTP_TURN + 1, len = gzip_zeros(size);
	unsigned n_turns = 0;
	int r = 1;

	(void)state;
	HEAD("HTTP/1.1 200 OK", "Content-Encoding: gzip");
	while (r == 1 && n_turns < 100) {
		size_t turn_bytes = 0, before = n_body;

		r = http_answer_take_body(&answer, packed, len, &turn_bytes);
		assert_int_equal(n_body - before, turn_bytes);
		assert_true(turn_bytes < LIMIT_HTTP_TURN + HTTP_ANSWER_BLOCK);
		if (r == 1)
			assert_int_equal(
				http_answer_take_body(&answer, packed, len, &turn_bytes), 1);
		n_turns++;
	}
	assert_int_equal(r, 0);
	assert_int_equal(n_turns, 5);
	assert_int_equal(n_body, size);
	http_answer_finish(&answer, true);
	assert_int_equal(answer.result.error, 0);
	assert_int_equal(answer.result.n_bytes, size);
}

static void gzip_that_is_damaged_cut_off_or_too_large_is_refused(void **state)
{
	size_t len = gzip_zeros(100000);

	(void)state;
	HEAD("HTTP/1.1 200 OK", "Content-Encoding: gzip");
	assert_int_equal(piece("no gzip", 7), -EBADMSG);
	HEAD("HTTP/1.1 200 OK", "Content-Encoding: gzip");
	assert_int_equal(piece(packed, len - 1), 0);
	http_answer_finish(&answer, true);
	assert_int_equal(answer.result.error, -EBADMSG);
	HEAD("HTTP/1.1 200 OK", "Content-Encoding: gzip");
	answer.max_bytes = 99999;
	assert_int_equal(piece(packed, len), -EFBIG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_status_is_three_digits),
		TEST(an_index_is_one_number_however_often_it_comes),
		TEST(an_index_that_is_no_number_or_two_is_not_valid),
		TEST(what_a_head_before_the_real_one_said_is_forgotten),
		TEST(codings_that_nobody_asked_for_are_refused),
		TEST(an_answer_that_is_all_headers_is_refused),
		TEST(a_body_goes_on_as_it_came_up_to_its_limit),
		TEST(what_the_body_callback_refuses_is_the_error),
		TEST(of_an_error_the_beginning_is_kept_and_the_rest_is_cut),
		TEST(a_gzipped_body_stops_at_the_end_of_a_turn_and_goes_on_in_the_next),
		TEST(gzip_that_is_damaged_cut_off_or_too_large_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
