#include "daemon/token.h"

#include <fcntl.h>

#include "daemon/log.h"
#include "proto/limits.h"

static char *wipe(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
	return NULL;
}

int token_init(struct token *token, const char *path, const char *fallback)
{
	*token = (struct token){ 0 };
	token->path = path ? strdup(path) : NULL;
	token->fallback = fallback ? strdup(fallback) : NULL;
	if ((path && !token->path) || (fallback && !token->fallback)) {
		token_done(token);
		return -ENOMEM;
	}
	return 0;
}

void token_done(struct token *token)
{
	free(token->path);
	wipe(token->fallback);
	wipe(token->value);
	*token = (struct token){ 0 };
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* One word of printable ASCII, spaces around it; anything else could end a header early. */
static int parse(const char *text, size_t len, char **ret_value)
{
	while (len > 0 && is_space(text[0])) {
		text++;
		len--;
	}
	while (len > 0 && is_space(text[len - 1]))
		len--;
	for (size_t i = 0; i < len; i++)
		if (text[i] < '!' || text[i] > '~')
			return -EILSEQ;
	if (len == 0)
		return -ENODATA;
	*ret_value = strndup(text, len);
	return *ret_value ? 0 : -ENOMEM;
}

static int read_file(const char *path, struct file_stamp *ret_seen, char **ret_value)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char buf[LIMIT_TOKEN + 1];
	struct stat st;
	ssize_t n;
	int r;

	*ret_seen = (struct file_stamp){ 0 };
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	*ret_seen = file_stamp_of(&st);
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	n = read(fd, buf, sizeof(buf));
	if (n < 0)
		return -errno;
	r = n > LIMIT_TOKEN ? -EFBIG : parse(buf, (size_t)n, ret_value);
	explicit_bzero(buf, sizeof(buf));
	return r;
}

int token_check(const char *path)
{
	struct file_stamp seen;
	char *value = NULL;
	int r = read_file(path, &seen, &value);

	wipe(value);
	return r;
}

static bool uses_fallback(const struct token *token)
{
	return token->error == -ENODATA && token->fallback;
}

const char *token_error(int error)
{
	switch (-error) {
	case ENODATA:
		return "it is empty";
	case EILSEQ:
		return "it holds more than one word of ASCII";
	case EFBIG:
		return "it is too large for a token";
	case EINVAL:
		return "it is no file";
	default:
		return strerror(-error);
	}
}

static const char *consequence(const struct token *token)
{
	if (token->value)
		return "keeping the last token";
	return uses_fallback(token) ? "using CONSUL_HTTP_TOKEN" : "not asking without a token";
}

static void refresh(struct token *token)
{
	struct file_stamp now = file_stamp_at(token->path), none = { 0 };
	int last_error = token->error;
	char *value = NULL;

	if (!file_stamp_same(&now, &none) && file_stamp_same(&now, &token->seen))
		return;
	token->error = read_file(token->path, &token->seen, &value);
	if (token->error == 0) {
		wipe(token->value);
		token->value = value;
	}
	if (token->error == last_error)
		return;
	if (token->error == 0)
		log_event(LOG_LEVEL_INFO, ABOUT(LOG_TOKEN_FOUND),
			"token_file %s: there is a token again", token->path);
	else
		log_event(LOG_LEVEL_WARNING, ABOUT(LOG_TOKEN_LOST), "token_file %s: %s; %s",
			token->path, token_error(token->error), consequence(token));
}

int token_get(struct token *token, const char **ret_value)
{
	if (token->path)
		refresh(token);
	if (token->path && !token->value && !uses_fallback(token))
		return token->error;
	*ret_value = token->value ? token->value : token->fallback;
	return 0;
}
