#include "daemon/http-answer.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

void http_answer_done(struct http_answer *answer)
{
	answer->gunzip = gunzip_free(answer->gunzip);
}

int http_answer_refuse(struct http_answer *answer, int error, const char *message)
{
	if (answer->error == 0) {
		answer->error = error;
		snprintf(answer->message, sizeof(answer->message), "%s", message);
	}
	return answer->error;
}

/* "Name: value" → value without spaces around it when the name is this one. */
static bool header_value(
	const char *line, size_t len, const char *name, const char **ret_value, size_t *ret_len)
{
	size_t name_len = strlen(name);

	if (len <= name_len || line[name_len] != ':' || strncasecmp(line, name, name_len) != 0)
		return false;
	line += name_len + 1;
	len -= name_len + 1;
	while (len > 0 && isspace((unsigned char)line[0])) {
		line++;
		len--;
	}
	while (len > 0 && isspace((unsigned char)line[len - 1]))
		len--;
	*ret_value = line;
	*ret_len = len;
	return true;
}

static bool is_word(const char *text, size_t len, const char *word)
{
	return len == strlen(word) && strncasecmp(text, word, len) == 0;
}

static bool parse_index(const char *text, size_t len, uint64_t *ret_index)
{
	uint64_t n = 0;

	for (size_t i = 0; i < len; i++)
		if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
			__builtin_add_overflow(n, (unsigned)(text[i] - '0'), &n))
			return false;
	*ret_index = n;
	return len > 0;
}

static void take_index(struct http_result *result, const char *value, size_t len)
{
	uint64_t index = 0;
	bool is_valid = parse_index(value, len, &index);

	/* Two that differ are a confused proxy: neither can be trusted. */
	result->is_index_valid =
		is_valid &&
		(!result->has_index || (result->is_index_valid && result->index == index));
	result->has_index = true;
	result->index = index;
}

static int take_encoding(struct http_answer *answer, const char *value, size_t len)
{
	if (len == 0 || is_word(value, len, "identity"))
		return 0;
	if (answer->gunzip || !is_word(value, len, "gzip"))
		return http_answer_refuse(answer, -EBADMSG, "an encoding that nobody asked for");
	if (gunzip_new(&answer->gunzip) < 0)
		return http_answer_refuse(answer, -ENOMEM, "out of memory");
	return 0;
}

static void begin_head(struct http_answer *answer, const char *line, size_t len)
{
	const char *space = memchr(line, ' ', len);
	size_t left = space ? len - (size_t)(space - line) : 0;

	answer->gunzip = gunzip_free(answer->gunzip);
	answer->result = (struct http_result){ 0 };
	for (size_t i = 1; i <= 3 && i < left && isdigit((unsigned char)space[i]); i++)
		answer->result.status = answer->result.status * 10 + (space[i] - '0');
}

int http_answer_take_line(struct http_answer *answer, const char *line, size_t len)
{
	const char *value;
	size_t value_len;

	answer->head_bytes += len;
	if (answer->head_bytes > LIMIT_HTTP_HEAD)
		return http_answer_refuse(answer, -EBADMSG, "an answer that is all headers");
	if (answer->has_head) /* a trailer */
		return 0;
	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
		begin_head(answer, line, len);
	else if (len <= 2)
		answer->has_head = answer->result.status >= 200; /* 103: the real one follows */
	else if (header_value(line, len, "X-Consul-Index", &value, &value_len))
		take_index(&answer->result, value, value_len);
	else if (header_value(line, len, "Content-Encoding", &value, &value_len))
		return take_encoding(answer, value, value_len);
	/* libcurl would inflate it, as much as one read brings, whatever was asked for. */
	else if (header_value(line, len, "Transfer-Encoding", &value, &value_len) &&
		 !is_word(value, value_len, "chunked"))
		return http_answer_refuse(
			answer, -EBADMSG, "a transfer encoding that nobody asked for");
	return 0;
}

static int take_unwanted(struct http_answer *answer, const void *data, size_t len)
{
	struct http_result *result = &answer->result;
	size_t n = MIN(len, sizeof(answer->error_body) - result->error_body_len);

	memcpy(answer->error_body + result->error_body_len, data, n);
	result->error_body_len += n;
	if (result->n_bytes <= LIMIT_HTTP_UNWANTED)
		return 0;
	answer->is_cut = true;
	return -ECANCELED;
}

static int take_decoded(struct http_answer *answer, const void *data, size_t len)
{
	int r;

	answer->result.n_bytes += len;
	if (answer->result.status != 200 || !answer->body)
		return take_unwanted(answer, data, len);
	if (answer->result.n_bytes > answer->max_bytes)
		return http_answer_refuse(answer, -EFBIG, "an answer that is too large");
	r = answer->body(data, len, answer->userdata);
	return r < 0 ? http_answer_refuse(answer, r, "an answer that was refused") : 0;
}

/* Moves on in *data; 1: the turn is over. */
static int take_gzip(
	struct http_answer *answer, const uint8_t **data, size_t *len, size_t *turn_bytes)
{
	ssize_t n;
	int r;

	while ((n = gunzip_step(answer->gunzip, data, len, answer->block, HTTP_ANSWER_BLOCK)) > 0) {
		r = take_decoded(answer, answer->block, (size_t)n);
		if (r < 0)
			return r;
		*turn_bytes += (size_t)n;
		if (*turn_bytes >= LIMIT_HTTP_TURN)
			return 1;
	}
	if (n < 0)
		return http_answer_refuse(
			answer, (int)n, n == -ENOMEM ? "out of memory" : "damaged gzip");
	return 0;
}

int http_answer_take_body(
	struct http_answer *answer, const void *data, size_t len, size_t *turn_bytes)
{
	size_t skipped = MIN(len, answer->n_skip), left = len - skipped;
	const uint8_t *bytes = (const uint8_t *)data + skipped;
	int r;

	if (*turn_bytes >= LIMIT_HTTP_TURN)
		return 1;
	answer->n_skip -= skipped;
	if (!answer->gunzip) {
		*turn_bytes += left;
		return take_decoded(answer, bytes, left);
	}
	r = take_gzip(answer, &bytes, &left, turn_bytes);
	if (r > 0)
		answer->n_skip = len - left;
	return r;
}

void http_answer_finish(struct http_answer *answer, bool is_whole)
{
	struct http_result *result = &answer->result;

	if (is_whole && !answer->is_cut && answer->gunzip && result->n_bytes > 0 &&
		!gunzip_is_complete(answer->gunzip))
		http_answer_refuse(answer, -EBADMSG, "an answer that was cut off");
	result->error = answer->error;
	result->message = answer->error < 0 ? answer->message : "no error";
	result->error_body = answer->error_body;
}
