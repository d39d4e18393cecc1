/*
 * Knows the server's sessions, and nothing else that could be use: a service that lingers, or a
 * change that is published to nobody, keeps no daemon. A client that connects while the loop ends
 * waits in the manager's socket: nothing is accepted behind the decision.
 */
#include "daemon/idle.h"

#include "daemon/log.h"

struct idle {
	struct loop *loop;
	const struct server *server;
	uint64_t idle_usec;
	struct loop_timer *timer;
};

static void on_timer(void *userdata)
{
	struct idle *idle = userdata;
	uint64_t unused = server_unused_usec(idle->server);

	if (unused < idle->idle_usec) {
		loop_timer_arm(idle->timer, idle->idle_usec - unused);
		return;
	}
	log_info("nobody has used the daemon for %llu s: it ends until the next client comes",
		(unsigned long long)(unused / USEC_PER_SEC));
	loop_stop(idle->loop);
}

int idle_new(
	struct loop *loop, const struct server *server, uint64_t idle_usec, struct idle **ret_idle)
{
	struct idle *idle = calloc(1, sizeof(*idle));
	int r;

	if (!idle)
		return -ENOMEM;
	idle->loop = loop;
	idle->server = server;
	r = loop_timer_new(loop, on_timer, idle, &idle->timer);
	if (r < 0) {
		free(idle);
		return r;
	}
	idle_configure(idle, idle_usec);
	*ret_idle = idle;
	return 0;
}

struct idle *idle_free(struct idle *idle)
{
	if (!idle)
		return NULL;
	loop_timer_free(idle->timer);
	free(idle);
	return NULL;
}

void idle_configure(struct idle *idle, uint64_t idle_usec)
{
	idle->idle_usec = idle_usec;
	if (idle_usec > 0)
		loop_timer_arm(idle->timer, idle_usec);
	else
		loop_timer_disarm(idle->timer);
}
