#include "client/tools/news.h"

#include <time.h>

static void print_line(struct output *output, const char *line, size_t len, const char *more)
{
	char text[32];
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ ", &tm);
	output_text(output, text);
	output_bytes(output, line, len);
	output_text(output, more);
	output_text(output, "\n");
}

/* Whether one of the lines begins so. */
static bool has_line(const char *lines, const char *start, size_t len)
{
	for (const char *line = lines; line[0] != '\0'; line += strcspn(line, "\n") + 1)
		if (strncmp(line, start, len) == 0)
			return true;
	return false;
}

void news_print(struct output *output, const char *before, const char *now)
{
	for (const char *line = now; line[0] != '\0'; line += strcspn(line, "\n") + 1) {
		size_t len = strcspn(line, "\n");

		if (!has_line(before, line, len + 1))
			print_line(output, line, len, "");
	}
	for (const char *line = before; line[0] != '\0'; line += strcspn(line, "\n") + 1) {
		size_t len = strcspn(line, " ");

		if (!has_line(now, line, len + 1))
			print_line(output, line, len, " is not in use any more");
	}
}
