/*
 * Changes in an event loop of your own: ccfg_fd() is one descriptor among the others.
 *
 *	cc epoll-loop.c $(pkg-config --cflags --libs consulcfg)
 *
 * With CCFG_MANUAL the configuration changes in ccfg_dispatch() and nowhere else: between two turns
 * of the loop everything that is read is of one generation, and no read ever waits. SIGTERM and
 * SIGINT end the program.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/epoll.h>
#include <sys/signalfd.h>

#include <consulcfg.h>

/* Called by ccfg_dispatch(), in this thread. The pointers live until it returns. */
static void on_change(ccfg *cfg, const struct ccfg_change *change, void *userdata)
{
	const char *before = change->old_value ? change->old_value : "(none)";
	const char *after = change->new_value ? change->new_value : "(none)";

	(void)cfg;
	printf("%s: %s: %s -> %s\n", (const char *)userdata, change->key, before, after);
	fflush(stdout);
}

static int add(int epoll_fd, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data = { .fd = fd } };

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int run(ccfg *cfg, int epoll_fd, int signal_fd)
{
	int config_fd = ccfg_fd(cfg);
	struct epoll_event event;

	if (config_fd < 0 || add(epoll_fd, config_fd) < 0 || add(epoll_fd, signal_fd) < 0)
		return 1;
	for (;;) {
		if (epoll_wait(epoll_fd, &event, 1, -1) < 1)
			continue;
		if (event.data.fd == config_fd)
			ccfg_dispatch(cfg);
		else
			return 0;
	}
}

int main(void)
{
	const struct ccfg_options options = { .size = sizeof(options), .flags = CCFG_MANUAL };
	int epoll_fd, signal_fd, r;
	char label[] = "database";
	ccfg_watch *watch;
	sigset_t signals;
	ccfg *cfg;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	r = ccfg_open("billing", &options, &cfg);
	if (r == 0) {
		r = ccfg_on_change(cfg, "db/", on_change, label, &watch);
		if (r < 0)
			ccfg_close(cfg);
	}
	if (r < 0) {
		fprintf(stderr, "billing: %s\n", strerror(-r));
		return 1;
	}
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	puts("following");
	fflush(stdout);
	r = run(cfg, epoll_fd, signal_fd);

	close(signal_fd);
	close(epoll_fd);
	/* Closes the watch and the descriptor of ccfg_fd(), too. */
	ccfg_close(cfg);
	return r;
}
