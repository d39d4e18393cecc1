/*
 * The simplest use: open once, and read where a value is needed.
 *
 *	cc plain-getter.c $(pkg-config --cflags --libs consulcfg)
 *
 * A read costs no more than a look into a table of your own, and gives the newest value: keep no
 * copies. Each line on standard input stands for a request that the service handles.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <consulcfg.h>

static void handle_request(ccfg *cfg)
{
	/* Absent, or no number: the value behind the key's name. */
	long long ttl = ccfg_get_int64(cfg, "cache/ttl", 300);
	bool is_verbose = ccfg_get_bool(cfg, "log/verbose", false);
	uint64_t timeout_us = ccfg_get_duration_us(cfg, "db/timeout", 5 * 1000000);

	/* Text: ccfg_get() copies into a buffer, this one into memory of its own. */
	char *url = ccfg_get_dup(cfg, "db/url", NULL);

	printf("url %s ttl %lld verbose %d timeout %.3f s\n", url ? url : "(none)", ttl, is_verbose,
		(double)timeout_us / 1e6);
	fflush(stdout);
	free(url);
}

int main(void)
{
	char line[256];
	ccfg *cfg;
	int r;

	/* Waits up to 5 seconds for the daemon and the first data. */
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
