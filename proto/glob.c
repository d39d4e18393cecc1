#include "proto/glob.h"

/* A mismatch behind a '*' goes back to the last one only: linear in practice, bounded always. */
bool glob_matches(const char *glob, const char *text, size_t len)
{
	const char *end = text + len, *star = NULL, *retry = NULL;

	while (text < end) {
		if (*glob == '*') {
			star = glob++;
			retry = text;
		} else if (*glob == '?' || (*glob != '\0' && *glob == *text)) {
			glob++;
			text++;
		} else if (star) {
			glob = star + 1;
			text = ++retry;
		} else {
			return false;
		}
	}
	return glob[strspn(glob, "*")] == '\0';
}

bool glob_list_matches(const struct glob_list *list, const char *text, size_t len)
{
	for (unsigned i = 0; i < list->n; i++)
		if (glob_matches(list->globs[i], text, len))
			return true;
	return false;
}

bool glob_list_is_same(const struct glob_list *a, const struct glob_list *b)
{
	if (a->n != b->n)
		return false;
	for (unsigned i = 0; i < a->n; i++)
		if (!std_streq(a->globs[i], b->globs[i]))
			return false;
	return true;
}

int glob_list_copy(const struct glob_list *list, struct glob_list *ret_list)
{
	*ret_list = (struct glob_list){ .globs = calloc(list->n + 1, sizeof(*list->globs)) };
	if (!ret_list->globs)
		return -ENOMEM;
	for (; ret_list->n < list->n; ret_list->n++) {
		ret_list->globs[ret_list->n] = strdup(list->globs[ret_list->n]);
		if (!ret_list->globs[ret_list->n])
			return -ENOMEM;
	}
	return 0;
}

void glob_list_done(struct glob_list *list)
{
	for (unsigned i = 0; i < list->n; i++)
		free(list->globs[i]);
	free(list->globs);
	*list = (struct glob_list){ 0 };
}
