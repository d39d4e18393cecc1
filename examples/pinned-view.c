/*
 * Values that belong together: pin a view, and all reads are of one generation.
 *
 *	cc pinned-view.c $(pkg-config --cflags --libs consulcfg)
 *
 * Two plain reads may see two generations, the host of one and the port of the next. A pinned view
 * does not change; its values are read where they lie, without a copy. Pin per request rather than
 * for ever: a view keeps its memory, and grows old.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <consulcfg.h>

static const char *text_of(const ccfg_view *view, const char *key, const char *fallback)
{
	const char *value = ccfg_view_get(view, key, strlen(key), NULL);

	return value ? value : fallback;
}

static void handle_request(ccfg *cfg)
{
	const ccfg_view *view = ccfg_pin(cfg);
	struct ccfg_entry entry = { .size = sizeof(entry) };
	size_t cursor = 0;

	printf("db %s:%s, generation %" PRIu64 "\n", text_of(view, "db/host", "localhost"),
		text_of(view, "db/port", "5432"), ccfg_view_generation(view));

	/* All keys below a prefix, in their order. */
	while (ccfg_view_next(view, "feature/", &cursor, &entry))
		printf("  %s = %s (%zu bytes)\n", entry.key, entry.value, entry.value_len);
	puts("done");
	fflush(stdout);

	/* The pointers end here. */
	ccfg_unpin(view);
}

int main(void)
{
	char line[256];
	ccfg *cfg;
	int r;

	r = ccfg_open("billing", NULL, &cfg);
	if (r < 0) {
		fprintf(stderr, "billing: %s\n", strerror(-r));
		return 1;
	}
	while (fgets(line, sizeof(line), stdin))
		handle_request(cfg);
	ccfg_close(cfg);
	return 0;
}
