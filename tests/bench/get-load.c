/*
 * When does a program that reads a key by shared memory see a new value?
 *
 *	get-load SERVICE KEY	a line "NANOSECONDS VALUE" (CLOCK_MONOTONIC) for each value it sees
 *
 * It looks every 20 us: often enough for the figure, and seldom enough to leave the processor to
 * the others.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "client/lib/consulcfg.h"

#define BETWEEN_NSEC 20000
#define VALUE_MAX 256

int main(int argc, char *argv[])
{
	const struct timespec between = { .tv_nsec = BETWEEN_NSEC };
	char seen[VALUE_MAX] = "", value[VALUE_MAX];
	struct timespec now;
	ccfg *cfg;

	if (argc != 3 || ccfg_open(argv[1], NULL, &cfg) < 0) {
		fputs("usage: get-load SERVICE KEY, with a daemon\n", stderr);
		return EXIT_FAILURE;
	}
	prctl(PR_SET_TIMERSLACK, 1UL);
	for (;;) {
		ssize_t len = ccfg_get(cfg, argv[2], value, sizeof(value));

		if (len >= 0 && strcmp(value, seen) != 0) {
			clock_gettime(CLOCK_MONOTONIC, &now);
			memcpy(seen, value, sizeof(seen));
			printf("%llu %s\n",
				(unsigned long long)now.tv_sec * 1000000000 +
					(unsigned long long)now.tv_nsec,
				seen);
			fflush(stdout);
		}
		nanosleep(&between, NULL);
	}
}
