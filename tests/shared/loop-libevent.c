/* A program on libevent whose loop has a handle's descriptor in it; ends when a key says so. */
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "client/lib/consulcfg.h"

static struct event_base *base;

static void on_change(ccfg *cfg, const struct ccfg_change *change, void *userdata)
{
	(void)cfg;
	(void)userdata;
	printf("%s: %s -> %s\n", change->key, change->old_value ? change->old_value : "none",
		change->new_value ? change->new_value : "none");
	fflush(stdout);
	if (strcmp(change->key, "end") == 0)
		event_base_loopbreak(base);
}

static void on_readable(evutil_socket_t fd, short events, void *userdata)
{
	(void)fd;
	(void)events;
	ccfg_dispatch(userdata);
}

int main(int argc, char **argv)
{
	struct ccfg_options options = { .size = sizeof(options), .flags = CCFG_MANUAL };
	struct event *event;
	ccfg_watch *watch;
	ccfg *cfg;

	if (argc < 3)
		return 2;
	options.socket_path = argv[2];
	if (ccfg_open(argv[1], &options, &cfg) < 0 ||
		ccfg_on_change(cfg, "", on_change, NULL, &watch) < 0)
		return 3;
	base = event_base_new();
	event = event_new(base, ccfg_fd(cfg), EV_READ | EV_PERSIST, on_readable, cfg);
	event_add(event, NULL);
	printf("ready\n");
	fflush(stdout);
	event_base_dispatch(base);
	event_free(event);
	event_base_free(base);
	ccfg_close(cfg);
	return 0;
}
