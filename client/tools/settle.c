#include "client/tools/settle.h"

#include <sys/random.h>
#include <time.h>

#include "client/lib/clock.h"
#include "proto/limits.h"

void settle_wait(ccfg *cfg)
{
	uint64_t end = clock_after_usec(LIMIT_BURST_USEC), generation;
	int r;

	do {
		const ccfg_view *view = ccfg_pin(cfg);

		generation = ccfg_view_generation(view);
		ccfg_unpin(view);
		r = ccfg_wait(cfg, generation, LIMIT_QUIET_MS);
	} while (r != -ETIMEDOUT && clock_now_usec() < end);
}

void settle_splay(uint64_t splay_usec)
{
	uint64_t random = 0;
	struct timespec left;

	if (splay_usec == 0 ||
		getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		return;
	random %= splay_usec;
	left.tv_sec = (time_t)(random / USEC_PER_SEC);
	left.tv_nsec = (long)(random % USEC_PER_SEC * NSEC_PER_USEC);
	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}
