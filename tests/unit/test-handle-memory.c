/*
 * Every allocation of the client library fails once: an error or an older answer, never a crash,
 * and once there is memory again the newest values.
 *
 * Linked with --wrap for malloc, calloc, realloc and aligned_alloc.
 */
#include "test.h"

#include "handle-fixture.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *ptr, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

/* Of this thread: the fake daemon's has memory. */
static _Thread_local unsigned fail_at, n_calls;

static bool is_failing(void)
{
	return fail_at > 0 && ++n_calls == fail_at;
}

void *__wrap_malloc(size_t size)
{
	return is_failing() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return is_failing() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *ptr, size_t size)
{
	return is_failing() ? NULL : __real_realloc(ptr, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return is_failing() ? NULL : __real_aligned_alloc(alignment, size);
}

static void on_change(ccfg *cfg, const struct ccfg_change *change, void *userdata)
{
	(void)cfg;
	(void)change;
	++*(unsigned *)userdata;
}

static void use(struct fake_daemon *d, ccfg *cfg)
{
	struct ccfg_info info = { .size = sizeof(info) };
	static unsigned n_told;
	ccfg_watch *watch = NULL;
	char *copy;

	(void)ccfg_bind_int64(cfg, "db/pool", -1);
	if (ccfg_on_change(cfg, "", on_change, &n_told, &watch) < 0)
		watch = NULL;
	fake_daemon_put(d, "db/pool", "8");
	assert_in_range(ccfg_get_int64(cfg, "db/pool", 7), 7, 8);
	copy = ccfg_get_dup(cfg, "db/url", NULL);
	free(copy);
	ccfg_unpin(ccfg_pin(cfg));
	assert_int_equal(ccfg_info(cfg, &info), 0);
	(void)ccfg_dispatch(cfg);
	ccfg_watch_close(watch);
}

/* Whether something failed: false, it is through. */
static bool fail_once(struct fake_daemon *d, unsigned at)
{
	ccfg *cfg = NULL;
	bool has_failed;
	int r;

	fake_daemon_put(d, "db/pool", "7");
	n_calls = 0;
	fail_at = at;
	r = open_at(d, SOON_MS, 0, &cfg);
	if (r == 0)
		use(d, cfg);
	else
		assert_int_equal(r, -ENOMEM);
	has_failed = n_calls >= at;
	fail_at = 0;
	if (r == 0)
		assert_true(comes_to(cfg, "db/pool", "8"));
	ccfg_close(cfg);
	return has_failed;
}

static void fail_each(struct fake_daemon *d)
{
	unsigned at = 1;

	while (fail_once(d, at))
		at++;
	assert_in_range(at, 8, 500);
}

static void without_memory_for_a_moment(void **state)
{
	struct fake_daemon *d = *state;

	fake_daemon_stop(d);
	d->image = FAKE_IMAGE_GOOD;
	d->genfile_kind = FAKE_GENFILE_GOOD;
	fake_daemon_start(d);
	fail_each(d);
}

static void and_over_the_socket(void **state)
{
	fail_each(*state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, handle_set_up, handle_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_memory_for_a_moment),
		TEST(and_over_the_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
