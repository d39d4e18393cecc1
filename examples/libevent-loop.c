/*
 * Changes in libevent; other loops are alike: call ccfg_dispatch() when ccfg_fd() is readable.
 *
 *	cc libevent-loop.c $(pkg-config --cflags --libs consulcfg libevent_core)
 *
 * SIGTERM and SIGINT end the program.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <event2/event.h>

#include <consulcfg.h>

/* Whatever takes time to make from the configuration is made anew here. */
static void on_change(ccfg *cfg, const struct ccfg_change *change, void *userdata)
{
	(void)cfg;
	(void)userdata;
	printf("%s is now %s\n", change->key, change->new_value ? change->new_value : "gone");
	fflush(stdout);
}

static void on_readable(evutil_socket_t fd, short what, void *cfg)
{
	(void)fd;
	(void)what;
	ccfg_dispatch((ccfg *)cfg);
}

static void on_signal(evutil_socket_t number, short what, void *base)
{
	(void)number;
	(void)what;
	event_base_loopbreak((struct event_base *)base);
}

static int run(ccfg *cfg, struct event_base *base)
{
	int fd = ccfg_fd(cfg);
	struct event *events[] = {
		event_new(base, fd, EV_READ | EV_PERSIST, on_readable, cfg),
		evsignal_new(base, SIGTERM, on_signal, base),
		evsignal_new(base, SIGINT, on_signal, base),
	};
	size_t n_events = sizeof(events) / sizeof(events[0]);
	bool is_ready = fd >= 0;

	for (size_t i = 0; i < n_events; i++)
		is_ready = is_ready && events[i] && event_add(events[i], NULL) == 0;
	if (is_ready) {
		puts("following");
		fflush(stdout);
		is_ready = event_base_dispatch(base) >= 0;
	}
	/* Before ccfg_close(), which closes the descriptor. */
	for (size_t i = 0; i < n_events; i++)
		if (events[i])
			event_free(events[i]);
	return is_ready ? 0 : 1;
}

int main(void)
{
	struct event_base *base;
	ccfg_watch *watch;
	ccfg *cfg;
	int r;

	r = ccfg_open("billing", NULL, &cfg);
	if (r == 0) {
		r = ccfg_on_change(cfg, "", on_change, NULL, &watch);
		if (r < 0)
			ccfg_close(cfg);
	}
	if (r < 0) {
		fprintf(stderr, "billing: %s\n", strerror(-r));
		return 1;
	}
	base = event_base_new();
	r = base ? run(cfg, base) : 1;
	if (base)
		event_base_free(base);
	ccfg_close(cfg);
	return r;
}
