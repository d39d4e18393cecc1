/*
 * Values for hot loops: bound to their keys once, parsed once per change, then read for the price
 * of a load from memory.
 *
 *	cc bound-value.c $(pkg-config --cflags --libs consulcfg)
 *
 * A text that does not parse never becomes the fallback of a value that was good: the last good one
 * stays, and ccfg_info() counts it. Each line on standard input stands for a round of work.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <consulcfg.h>

/* Bound values end with the handle: nothing to free. */
struct settings {
	ccfg_int64 *limit;
	ccfg_bool *is_strict;
	ccfg_double *ratio;
	ccfg_duration_us *pause;
};

static bool bind_settings(ccfg *cfg, struct settings *settings)
{
	settings->limit = ccfg_bind_int64(cfg, "worker/limit", 100);
	settings->is_strict = ccfg_bind_bool(cfg, "worker/strict", true);
	settings->ratio = ccfg_bind_double(cfg, "worker/ratio", 0.5);
	settings->pause = ccfg_bind_duration_us(cfg, "worker/pause", 10 * 1000);
	return settings->limit && settings->is_strict && settings->ratio && settings->pause;
}

static void work(ccfg *cfg, const struct settings *settings)
{
	struct ccfg_info info = { .size = sizeof(info) };
	int64_t n = 0;

	/* Thousands of reads, of which each sees the newest value. */
	while (n < ccfg_int64_value(settings->limit))
		n++;
	printf("%" PRId64 " done, strict %d, ratio %g, pause %" PRIu64 " us\n", n,
		ccfg_bool_value(settings->is_strict), ccfg_double_value(settings->ratio),
		ccfg_duration_us_value(settings->pause));
	if (ccfg_info(cfg, &info) == 0 && info.n_unparsable > 0)
		printf("%" PRIu64 " values do not parse\n", info.n_unparsable);
	fflush(stdout);
}

int main(void)
{
	struct settings settings;
	char line[256];
	ccfg *cfg;
	int r;

	r = ccfg_open("billing", NULL, &cfg);
	if (r < 0) {
		fprintf(stderr, "billing: %s\n", strerror(-r));
		return 1;
	}
	if (!bind_settings(cfg, &settings)) {
		perror("billing");
		ccfg_close(cfg);
		return 1;
	}
	while (fgets(line, sizeof(line), stdin))
		work(cfg, &settings);
	ccfg_close(cfg);
	return 0;
}
