#include "handle-fixture.h"

#include "test.h"

int handle_set_up(void **state)
{
	struct fake_daemon *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	fake_daemon_init(d);
	fake_daemon_put(d, "db/pool", "7");
	fake_daemon_put(d, "db/url", "postgres://x");
	fake_daemon_put(d, "ttl", "300s\n");
	fake_daemon_start(d);
	*state = d;
	return 0;
}

int handle_tear_down(void **state)
{
	struct fake_daemon *d = *state;

	fake_daemon_done(d);
	free(d);
	return 0;
}

int open_at(struct fake_daemon *d, int timeout_ms, unsigned flags, ccfg **ret_cfg)
{
	const struct ccfg_options options = {
		.size = sizeof(options),
		.socket_path = d->path,
		.timeout_ms = timeout_ms,
		.flags = flags,
	};

	return ccfg_open("billing", &options, ret_cfg);
}

ccfg *open_now(struct fake_daemon *d)
{
	ccfg *cfg;

	assert_int_equal(open_at(d, SOON_MS, 0, &cfg), 0);
	return cfg;
}

bool comes_to(ccfg *cfg, const char *key, const char *value)
{
	uint64_t deadline = clock_after_usec(SOON_MS * USEC_PER_MSEC);

	do {
		const struct timespec pause = { .tv_nsec = 1000000 };
		char buf[64];
		ssize_t n = ccfg_get(cfg, key, buf, sizeof(buf));

		if (value ? n >= 0 && strcmp(buf, value) == 0 : n == -ENOENT)
			return true;
		nanosleep(&pause, NULL);
	} while (clock_now_usec() < deadline);
	return false;
}

uint64_t handle_newest_generation(ccfg *cfg)
{
	return ((const struct ccfg_view *)atomic_load(&cfg->view))->generation;
}

void pause_ms(unsigned ms)
{
	const struct timespec pause = { .tv_nsec = (long)ms * 1000000 };

	nanosleep(&pause, NULL);
}

void *put_later(void *userdata)
{
	pause_ms(80);
	fake_daemon_put(userdata, "late", "1");
	return NULL;
}
