#include "daemon/tally.h"

#include "daemon/loop.h"

/* One turn of the loop is 2 ms; coalesced changes wait 20, a doorbell's search takes longer. */
const uint64_t tally_bounds_usec[TALLY_N_BOUNDS] = { 500, 1000, 2500, 5000, 10000, 25000, 50000,
	100000, 250000, 1000000 };

static void add_delay(struct tally *tally, uint64_t delay_usec)
{
	unsigned bucket = 0;

	while (bucket < TALLY_N_BOUNDS && delay_usec > tally_bounds_usec[bucket])
		bucket++;
	tally->n_delays[bucket]++;
	tally->delays_usec += delay_usec;
}

void tally_update(struct tally *tally, uint64_t changed_at)
{
	tally->n_updates++;
	if (changed_at != 0)
		add_delay(tally, loop_now() - changed_at);
}
