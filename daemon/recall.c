#include "daemon/recall.h"

#include "daemon/backup-history.h"
#include "daemon/backup-load.h"

#define RECALL_BUDGET_USEC 2000 /* CPU time of one turn of the loop */

struct recall {
	struct backup_load *load;
	struct loop_timer *timer;
	uint64_t confirmed_at;
	recall_fn fn;
	void *userdata;
};

static void on_timer(void *userdata)
{
	struct recall *recall = userdata;
	uint64_t end = loop_cpu_usec() + RECALL_BUDGET_USEC;
	int r;

	do
		r = backup_load_step(recall->load);
	while (r > 0 && loop_cpu_usec() < end);
	if (r > 0)
		loop_timer_arm(recall->timer, 0);
	else
		recall->fn(recall->userdata, r == 0 ? backup_load_take(recall->load) : NULL, r);
}

static int start(struct recall *recall, struct loop *loop, struct backups *backups,
	const char *service, uint64_t generation)
{
	struct backup_clock clock;
	int r;

	r = backup_history_load(backups, service, generation, &recall->load);
	if (r == 0)
		r = loop_timer_new(loop, on_timer, recall, &recall->timer);
	if (r < 0)
		return r;
	backup_format_clock(&clock);
	recall->confirmed_at =
		loop_now() -
		backup_format_age_usec(&backup_load_format(recall->load)->footer, &clock);
	return loop_timer_arm(recall->timer, 0);
}

int recall_new(struct loop *loop, struct backups *backups, const char *service, uint64_t generation,
	recall_fn fn, void *userdata, struct recall **ret_recall)
{
	struct recall *recall = calloc(1, sizeof(*recall));
	int r;

	if (!recall)
		return -ENOMEM;
	recall->fn = fn;
	recall->userdata = userdata;
	r = start(recall, loop, backups, service, generation);
	if (r < 0) {
		recall_free(recall);
		return r;
	}
	*ret_recall = recall;
	return 0;
}

struct recall *recall_free(struct recall *recall)
{
	if (!recall)
		return NULL;
	backup_load_free(recall->load);
	loop_timer_free(recall->timer);
	free(recall);
	return NULL;
}

uint64_t recall_confirmed_at(const struct recall *recall)
{
	return recall->confirmed_at;
}
