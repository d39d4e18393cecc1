/*
 * Places, messages, strings and lists of a configuration that is being read. Knows no key, and
 * nothing of where settings come from.
 */
#include "daemon/config-draft.h"

#include <stdarg.h>
#include <stdio.h>

#include "daemon/log.h"
#include "proto/key.h"

#define BLANKS " \t"

void config_draft_done(struct config_draft *draft)
{
	for (unsigned i = 0; i < draft->n_files; i++)
		free(draft->files[i]);
	free(draft->files);
	free(draft->rules);
	free(draft->labels);
	free(draft->sockets);
}

int config_draft_enter_file(struct config_draft *draft, const char *path)
{
	char **files = reallocarray(draft->files, draft->n_files + 1, sizeof(*files));

	if (!files)
		return -ENOMEM;
	draft->files = files;
	files[draft->n_files] = strdup(path);
	if (!files[draft->n_files])
		return -ENOMEM;
	config_draft_enter(draft, files[draft->n_files++]);
	return 0;
}

void config_draft_enter(struct config_draft *draft, const char *name)
{
	draft->place = (struct config_place){ .file = name };
	draft->section = NULL;
	draft->key = NULL;
}

static void write_place(const struct config_draft *draft, FILE *out)
{
	if (draft->place.file)
		fprintf(out, "%s:", draft->place.file);
	if (draft->place.line > 0)
		fprintf(out, "%u:", draft->place.line);
	if (draft->place.file)
		fputc(' ', out);
	if (draft->section)
		fprintf(out, "[%s] ", draft->section);
	if (draft->key)
		fprintf(out, "%s: ", draft->key);
}

/* NULL: there is no memory. */
PRINTF_FORMAT(2, 0)
static char *make_message(const struct config_draft *draft, const char *format, va_list args)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	write_place(draft, out);
	vfprintf(out, format, args);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

int config_draft_fail(struct config_draft *draft, const char *format, ...)
{
	va_list args;

	free(draft->message);
	va_start(args, format);
	draft->message = make_message(draft, format, args);
	va_end(args);
	return -EINVAL;
}

void config_draft_warn(const struct config_draft *draft, const char *format, ...)
{
	AUTO_FREE char *message = NULL;
	va_list args;

	va_start(args, format);
	message = make_message(draft, format, args);
	va_end(args);
	if (message)
		log_warning("%s", message);
}

void config_draft_return_to(struct config_draft *draft, const struct config_place *place,
	const char *section, const char *key)
{
	draft->place = *place;
	draft->section = section;
	draft->key = key;
}

const char *config_draft_quote(struct config_draft *draft, const char *text)
{
	char *buf = draft->quoted;

	buf[0] = '\'';
	key_escape(text, strlen(text), buf + 1, sizeof(draft->quoted) - 2);
	strcat(buf, "'");
	return buf;
}

/* Was `place` in the file that is being read now? */
static bool is_again(const struct config_draft *draft, const struct config_place *place)
{
	/* The names of files are copies of the draft's: equal pointers, same reading. */
	return draft->place.line > 0 && place->file == draft->place.file;
}

int config_draft_once(struct config_draft *draft, struct config_place *place)
{
	if (is_again(draft, place))
		return config_draft_fail(
			draft, "given in line %u already; remove one of the two", place->line);
	*place = draft->place;
	return 0;
}

int config_draft_set_string(char **target, const char *value)
{
	char *copy = NULL;

	if (*value != '\0') {
		copy = strdup(value);
		if (!copy)
			return -ENOMEM;
	}
	free(*target);
	*target = copy;
	return 0;
}

int config_draft_set_path(struct config_draft *draft, char **target, const char *path)
{
	AUTO_FREE char *directory = NULL;
	char *absolute;

	if (*path == '/')
		return config_draft_set_string(target, path);
	directory = get_current_dir_name();
	if (!directory)
		return config_draft_fail(draft,
			"%s begins in the working directory, which cannot be told: %m; begin it "
			"with '/'",
			config_draft_quote(draft, path));
	if (asprintf(&absolute, "%s/%s", directory, path) < 0)
		return -ENOMEM;
	free(*target);
	*target = absolute;
	return 0;
}

char **config_draft_free_words(char **words, unsigned n_words)
{
	for (unsigned i = 0; i < n_words; i++)
		free(words[i]);
	free(words);
	return NULL;
}

static bool has_word(char *const *words, unsigned n_words, const char *word)
{
	for (unsigned i = 0; i < n_words; i++)
		if (std_streq(words[i], word))
			return true;
	return false;
}

static int add_word(struct config_draft *draft, const char *text, size_t len,
	config_draft_word_fn fn, char ***words, unsigned *n_words)
{
	AUTO_FREE char *word = strndup(text, len);
	char **grown;
	int r;

	if (!word)
		return -ENOMEM;
	r = fn(draft, &word);
	if (r < 0)
		return r;
	if (has_word(*words, *n_words, word))
		return config_draft_fail(draft, "%s is in the list twice; remove one of the two",
			config_draft_quote(draft, word));
	if (*n_words == LIMIT_CONFIG_WORDS)
		return config_draft_fail(
			draft, "the list has more than %d words", LIMIT_CONFIG_WORDS);
	grown = reallocarray(*words, *n_words + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	*words = grown;
	grown[(*n_words)++] = TAKE_PTR(word);
	return 0;
}

int config_draft_set_words(struct config_draft *draft, struct config_place *place,
	const char *value, config_draft_word_fn fn, char ***words, unsigned *n_words)
{
	size_t len;
	int r;

	if (!is_again(draft, place)) {
		*words = config_draft_free_words(*words, *n_words);
		*n_words = 0;
	}
	*place = draft->place;
	for (const char *p = value + strspn(value, BLANKS); *p != '\0'; p += strspn(p, BLANKS)) {
		len = strcspn(p, BLANKS);
		r = add_word(draft, p, len, fn, words, n_words);
		if (r < 0)
			return r;
		p += len;
	}
	return 0;
}
