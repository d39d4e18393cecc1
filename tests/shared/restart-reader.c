/*
 * Reads a number that only rises, a thousand times a second, while the daemon is killed and started
 * again: a read that fails, or gives an older value, is the end. Standard input brings the last
 * value; when that is read, or ten seconds later, it prints how many reads there were and what came
 * last.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "client/lib/consulcfg.h"

#define WAITS 10000 /* of a millisecond each */

static int fail(const char *what, int64_t before, int64_t now)
{
	printf("wrong: %s (before %" PRId64 ", now %" PRId64 ")\n", what, before, now);
	return 1;
}

int main(int argc, char *argv[])
{
	const struct ccfg_options options = {
		.size = sizeof(options),
		.socket_path = argc > 2 ? argv[2] : NULL,
		.timeout_ms = 20000,
		.flags = CCFG_NO_BACKUP,
	};
	struct pollfd input = { .fd = 0, .events = POLLIN };
	int64_t last = 0, value = 0;
	uint64_t n_reads = 0, generation = 0;
	int64_t wanted = INT64_MAX;
	unsigned n_waits = 0;
	ccfg *cfg;
	int r;

	if (argc < 3)
		return 2;
	r = ccfg_open(argv[1], &options, &cfg);
	if (r < 0)
		return fail(strerror(-r), 0, 0);
	puts("open");
	fflush(stdout);
	while (last < wanted && n_waits < WAITS) {
		const ccfg_view *view = ccfg_pin(cfg);
		uint64_t now = ccfg_view_generation(view);

		ccfg_unpin(view);
		r = ccfg_read_int64(cfg, "counter", &value);
		if (r < 0)
			return fail(strerror(-r), last, 0);
		if (value < last)
			return fail("an older value", last, value);
		if (now < generation)
			return fail("an older generation", (int64_t)generation, (int64_t)now);
		last = value;
		generation = now;
		n_reads++;
		if (wanted != INT64_MAX)
			n_waits += poll(NULL, 0, 1) == 0;
		else if (poll(&input, 1, 1) > 0 && scanf("%" SCNd64, &wanted) != 1)
			return fail("no last value", last, 0);
	}
	printf("%" PRIu64 " %" PRId64 "\n", n_reads, last);
	ccfg_close(cfg);
	return 0;
}
