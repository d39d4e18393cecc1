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

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
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
	*ret_value = len > 0 ? strndup(text, len) : NULL;
	return len > 0 && !*ret_value ? -ENOMEM : 0;
}

static int read_file(const char *path, struct stat *ret_seen, char **ret_value)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char buf[LIMIT_TOKEN + 1];
	ssize_t n;
	int r;

	if (fd < 0 || fstat(fd, ret_seen) < 0)
		return -errno;
	if (!S_ISREG(ret_seen->st_mode))
		return -EINVAL;
	n = read(fd, buf, sizeof(buf));
	if (n < 0)
		return -errno;
	r = n > LIMIT_TOKEN ? -EFBIG : parse(buf, (size_t)n, ret_value);
	explicit_bzero(buf, sizeof(buf));
	return r;
}

static void refresh(struct token *token)
{
	struct stat now = { 0 };
	char *value = NULL;
	int r = 0;

	if (stat(token->path, &now) < 0)
		r = -errno;
	else if (is_same_file(&now, &token->seen))
		return;
	if (r == 0)
		r = read_file(token->path, &token->seen, &value);
	if (r == 0) {
		wipe(token->value);
		token->value = value;
	} else if (r != token->error) {
		log_warning("token_file %s: %s; %s", token->path, strerror(-r),
			token->value ? "keeping the last token" : "going on without");
	}
	token->error = r;
}

const char *token_get(struct token *token)
{
	if (token->path)
		refresh(token);
	return token->value ? token->value : token->fallback;
}
