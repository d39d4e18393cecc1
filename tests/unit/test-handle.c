#include "test.h"

#include <signal.h>
#include <sys/time.h>

#include "handle-fixture.h"

/* --- reads ------------------------------------------------------------------------------- */

static void values_are_read(void **state)
{
	ccfg *cfg = open_now(*state);
	char buf[8] = "xxxxxxx";
	size_t len = 0;
	char *copy;

	assert_int_equal(ccfg_get(cfg, "db/pool", buf, sizeof(buf)), 1);
	assert_string_equal(buf, "7");
	assert_int_equal(ccfg_get(cfg, "db/url", buf, sizeof(buf)), 12);
	assert_string_equal(buf, "postgre");
	assert_int_equal(ccfg_get(cfg, "db/url", NULL, 0), 12);
	assert_int_equal(ccfg_get(cfg, "db", buf, sizeof(buf)), -ENOENT);
	assert_int_equal(ccfg_get(cfg, NULL, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(ccfg_get(cfg, "db/url", NULL, 1), -EINVAL);
	assert_string_equal(buf, "postgre");

	copy = ccfg_get_dup(cfg, "db/url", &len);
	assert_string_equal(copy, "postgres://x");
	assert_int_equal(len, 12);
	free(copy);
	errno = 0;
	assert_null(ccfg_get_dup(cfg, "none", &len));
	assert_int_equal(errno, ENOENT);
	ccfg_close(cfg);
}

/* Short ones are copied in whole words: nothing of another value may get into the rest of buf. */
static void a_value_of_any_length_fills_a_buffer_of_any_size_and_no_more(void **state)
{
	static const size_t lengths[] = { 0, 15, 30, 31, 32, 63 };
	struct fake_daemon *d = *state;
	char text[64], buf[80], key[8];
	ccfg *cfg;

	memset(text, 'v', sizeof(text));
	for (size_t k = 0; k < ARRAY_SIZE(lengths); k++) {
		snprintf(key, sizeof(key), "n%zu", k);
		text[lengths[k]] = '\0';
		fake_daemon_put(d, key, text);
		text[lengths[k]] = 'v';
	}
	cfg = open_now(d);
	for (size_t k = 0; k < ARRAY_SIZE(lengths); k++)
		for (size_t size = 1; size < sizeof(buf); size++) {
			size_t n = MIN(lengths[k], size - 1);

			snprintf(key, sizeof(key), "n%zu", k);
			memset(buf, '-', sizeof(buf));
			assert_int_equal(ccfg_get(cfg, key, buf, size), lengths[k]);
			assert_memory_equal(buf, text, n);
			assert_int_equal(buf[n], '\0');
			for (size_t i = n + 1; i < sizeof(buf); i++)
				assert_true(buf[i] == '-' || (i < size && buf[i] == '\0'));
		}
	ccfg_close(cfg);
}

static void typed_values_are_read(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg;
	int64_t i = -1;
	double f = -1;
	uint64_t us = 1;
	bool b = false;

	fake_daemon_put(d, "on", "Yes");
	fake_daemon_put(d, "pi", "3.5");
	fake_daemon_put(d, "huge", "9223372036854775808");
	cfg = open_now(d);
	assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 7);
	assert_int_equal(ccfg_get_int64(cfg, "db/url", -1), -1);
	assert_int_equal(ccfg_get_int64(cfg, "none", -1), -1);
	assert_int_equal(ccfg_get_duration_us(cfg, "ttl", 0), 300 * USEC_PER_SEC);
	assert_true(ccfg_get_bool(cfg, "on", false));
	assert_true(ccfg_get_bool(cfg, "pi", true));
	assert_true(ccfg_get_double(cfg, "pi", 0) == 3.5);
	assert_int_equal(ccfg_read_int64(cfg, "db/pool", &i), 0);
	assert_int_equal(i, 7);
	assert_int_equal(ccfg_read_int64(cfg, "huge", &i), -ERANGE);
	assert_int_equal(ccfg_read_int64(cfg, "on", &i), -EINVAL);
	assert_int_equal(ccfg_read_int64(cfg, "none", &i), -ENOENT);
	assert_int_equal(ccfg_read_int64(cfg, NULL, &i), -EINVAL);
	assert_int_equal(i, 7);
	assert_int_equal(ccfg_read_bool(cfg, "on", &b), 0);
	assert_int_equal(ccfg_read_double(cfg, "pi", &f), 0);
	assert_int_equal(ccfg_read_duration_us(cfg, "ttl", &us), 0);
	assert_true(b && f == 3.5 && us == 300 * USEC_PER_SEC);
	ccfg_close(cfg);
}

/* A value that lies in a view is text with a length. */
static void the_grammar_is_there_without_a_handle(void **state)
{
	int64_t i = -1;
	double f = -1;
	uint64_t us = 1;
	bool b = false;

	(void)state;
	assert_int_equal(ccfg_parse_int64("-42\nrest", 4, &i), 0);
	assert_int_equal(i, -42);
	assert_int_equal(ccfg_parse_int64("42 ", 3, &i), -EINVAL);
	assert_int_equal(ccfg_parse_int64(NULL, 0, &i), -EINVAL);
	assert_int_equal(ccfg_parse_int64("9223372036854775808", 19, &i), -ERANGE);
	assert_int_equal(i, -42);
	assert_int_equal(ccfg_parse_bool("Yes", 3, &b), 0);
	assert_int_equal(ccfg_parse_double("1e-3", 4, &f), 0);
	assert_int_equal(ccfg_parse_duration_us("250ms", 5, &us), 0);
	assert_true(b && f == 1e-3 && us == 250 * USEC_PER_MSEC);
}

static void a_pinned_view_stays_as_it_is(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	const ccfg_view *before = ccfg_pin(cfg), *after;

	fake_daemon_put(d, "db/pool", "8");
	assert_true(comes_to(cfg, "db/pool", "8"));
	after = ccfg_pin(cfg);
	assert_int_not_equal(ccfg_view_generation(before), ccfg_view_generation(after));
	assert_string_equal(ccfg_view_get(before, "db/pool", 7, NULL), "7");
	ccfg_close(cfg);
	assert_string_equal(ccfg_view_get(before, "db/pool", 7, NULL), "7");
	assert_string_equal(ccfg_view_get(after, "db/pool", 7, NULL), "8");
	ccfg_unpin(before);
	ccfg_unpin(after);
}

/* --- opening ----------------------------------------------------------------------------- */

static void arguments_are_checked(void **state)
{
	struct fake_daemon *d = *state;
	struct {
		struct ccfg_options options;
		char newer[8];
	} later = { .options = { .size = sizeof(later), .socket_path = d->path } };
	struct ccfg_options options = { .size = sizeof(options.size), .socket_path = d->path };
	char path[200];
	ccfg *cfg = NULL;

	assert_int_equal(ccfg_open("../etc", NULL, &cfg), -EINVAL);
	assert_int_equal(ccfg_open("", NULL, &cfg), -EINVAL);
	assert_int_equal(ccfg_open(NULL, NULL, &cfg), -EINVAL);
	assert_int_equal(ccfg_open("billing", &options, &cfg), -EINVAL);
	assert_int_equal(open_at(d, SOON_MS, 0x8000, &cfg), -EINVAL);
	assert_int_equal(open_at(d, -2, 0, &cfg), -EINVAL);
	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	options = (struct ccfg_options){ .size = sizeof(options), .socket_path = path };
	assert_int_equal(ccfg_open("billing", &options, &cfg), -ENAMETOOLONG);
	assert_null(cfg);

	assert_int_equal(ccfg_open("billing", &later.options, &cfg), 0);
	ccfg_close(cfg);
	later.newer[0] = 1;
	assert_int_equal(ccfg_open("billing", &later.options, &cfg), -E2BIG);
	ccfg_close(NULL);
}

static void opening_without_a_daemon_ends_in_time(void **state)
{
	struct fake_daemon *d = *state;
	uint64_t begin = clock_now_usec();
	ccfg *cfg;

	fake_daemon_stop(d);
	assert_int_equal(open_at(d, 150, 0, &cfg), -ENOENT);
	assert_in_range(clock_now_usec() - begin, 149000, 3000000);
}

static void opening_without_data_or_answer_ends_in_time(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg;

	fake_daemon_set(d, generation, 0);
	assert_int_equal(open_at(d, 100, 0, &cfg), -ETIMEDOUT);
	fake_daemon_set(d, is_mute, true);
	assert_int_equal(open_at(d, 100, 0, &cfg), -ETIMEDOUT);
}

static void a_refusal_is_told_at_once(void **state)
{
	static const struct {
		unsigned status;
		int error;
	} cases[] = {
		{ WIRE_DENIED, -EACCES },
		{ WIRE_LIMIT, -ENOBUFS },
		{ WIRE_INTERNAL, -EIO },
	};
	struct fake_daemon *d = *state;
	ccfg *cfg;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fake_daemon_set(d, refusal, cases[i].status);
		assert_int_equal(open_at(d, -1, 0, &cfg), cases[i].error);
		assert_int_equal(open_at(d, -1, CCFG_NOWAIT, &cfg), cases[i].error);
	}
	fake_daemon_set(d, major, 2);
	assert_int_equal(open_at(d, -1, 0, &cfg), -EPROTONOSUPPORT);
}

static void a_newer_minor_of_the_protocol_is_spoken_with(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg;

	fake_daemon_set(d, minor, 7);
	cfg = open_now(d);
	assert_int_equal(ccfg_get_int64(cfg, "db/pool", -1), 7);
	ccfg_close(cfg);
}

static void opening_waits_for_the_first_data(void **state)
{
	struct fake_daemon *d = *state;
	pthread_t thread;
	ccfg *cfg;

	fake_daemon_set(d, generation, 0);
	pthread_create(&thread, NULL, put_later, d);
	cfg = open_now(d);
	assert_int_equal(ccfg_get(cfg, "late", NULL, 0), 1);
	ccfg_close(cfg);
	pthread_join(thread, NULL);
}

static void *start_later(void *userdata)
{
	pause_ms(80);
	fake_daemon_start(userdata);
	return NULL;
}

static void opening_waits_for_the_daemon(void **state)
{
	struct fake_daemon *d = *state;
	pthread_t thread;
	ccfg *cfg;

	fake_daemon_stop(d);
	pthread_create(&thread, NULL, start_later, d);
	cfg = open_now(d);
	assert_int_equal(ccfg_get(cfg, "db/pool", NULL, 0), 1);
	ccfg_close(cfg);
	pthread_join(thread, NULL);
}

static void on_layer(ccfg *cfg, const struct ccfg_layer *layer, void *userdata)
{
	unsigned *n = userdata;

	(void)cfg;
	assert_int_equal(layer->number, (*n)++);
	if (layer->number == 0) {
		assert_string_equal(layer->prefix, "common/");
		assert_null(layer->value);
		assert_true(layer->age_us == UINT64_MAX && !layer->wins);
		return;
	}
	assert_string_equal(layer->prefix, "config/billing/");
	assert_string_equal(layer->value, "post");
	assert_int_equal(layer->sent_len, 4);
	assert_int_equal(layer->value_len, 12);
	assert_int_equal(layer->index, 42);
	assert_int_equal(layer->modify_index, 41);
	assert_int_equal(layer->state, CCFG_LIVE);
	assert_true(layer->wins && !layer->is_locked);
}

static void where_a_value_comes_from_is_explained(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	unsigned n = 0;

	assert_int_equal(ccfg_explain(cfg, "db/url", on_layer, &n), 2);
	assert_int_equal(n, 2);
	assert_int_equal(ccfg_explain(cfg, "", on_layer, &n), -EINVAL);
	assert_int_equal(ccfg_explain(cfg, NULL, on_layer, &n), -EINVAL);
	fake_daemon_stop(d);
	assert_true(ccfg_explain(cfg, "db/url", on_layer, &n) < 0);
	assert_int_equal(n, 2);
	ccfg_close(cfg);
}

static void without_waiting_a_handle_opens_empty_and_fills(void **state)
{
	struct fake_daemon *d = *state;
	struct ccfg_info info = { .size = sizeof(info) };
	uint64_t begin;
	ccfg *cfg;

	assert_int_equal(open_at(d, 0, CCFG_NOWAIT, &cfg), 0);
	assert_int_equal(ccfg_get(cfg, "db/pool", NULL, 0), 1);
	ccfg_close(cfg);

	fake_daemon_stop(d);
	begin = clock_now_usec();
	assert_int_equal(open_at(d, 0, CCFG_NOWAIT, &cfg), 0);
	assert_in_range(clock_now_usec() - begin, 0, 1000000);
	assert_int_equal(ccfg_get(cfg, "db/pool", NULL, 0), -ENOENT);
	assert_int_equal(ccfg_info(cfg, &info), 0);
	assert_int_equal(info.state, CCFG_LOADING);
	assert_int_equal(info.error, -ENOENT);
	assert_int_equal(info.generation, 0);
	assert_true(info.age_us == UINT64_MAX);

	fake_daemon_set(d, generation, 0);
	fake_daemon_start(d);
	pause_ms(150);
	assert_int_equal(ccfg_get(cfg, "db/pool", NULL, 0), -ENOENT);
	fake_daemon_touch(d);
	assert_true(comes_to(cfg, "db/pool", "7"));
	ccfg_close(cfg);
}

/* --- changes ----------------------------------------------------------------------------- */

static void reads_see_changes(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);

	fake_daemon_put(d, "db/pool", "8");
	assert_true(comes_to(cfg, "db/pool", "8"));
	fake_daemon_put(d, "db/pool", NULL);
	assert_true(comes_to(cfg, "db/pool", NULL));
	fake_daemon_put(d, "new", "1");
	assert_true(comes_to(cfg, "new", "1"));
	assert_int_equal(d->n_accepted, 1);
	ccfg_close(cfg);
}

static void waiting_ends_with_the_next_generation(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg = open_now(d);
	const ccfg_view *view = ccfg_pin(cfg);
	uint64_t generation = ccfg_view_generation(view), begin;
	pthread_t thread;

	assert_int_equal(ccfg_wait(cfg, 0, 0), 0);
	assert_int_equal(ccfg_wait(cfg, generation, 0), -ETIMEDOUT);
	begin = clock_now_usec();
	assert_int_equal(ccfg_wait(cfg, generation, 50), -ETIMEDOUT);
	assert_in_range(clock_now_usec() - begin, 49000, 3000000);
	pthread_create(&thread, NULL, put_later, d);
	assert_int_equal(ccfg_wait(cfg, generation, -1), 0);
	assert_int_equal(ccfg_get(cfg, "late", NULL, 0), 1);
	pthread_join(thread, NULL);
	ccfg_unpin(view);
	ccfg_close(cfg);
}

static void on_alarm(int signo)
{
	(void)signo;
}

static void a_signal_ends_a_wait(void **state)
{
	const struct itimerval soon = { .it_value.tv_usec = 30000 };
	const struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct fake_daemon *d = *state;
	sigset_t alarm_only, old;
	ccfg *cfg;

	/* The daemon's thread inherits the block. */
	fake_daemon_stop(d);
	sigemptyset(&alarm_only);
	sigaddset(&alarm_only, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm_only, &old);
	fake_daemon_start(d);
	cfg = open_now(d);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	assert_int_equal(ccfg_wait(cfg, d->generation, SOON_MS), -EINTR);
	assert_int_equal(ccfg_get(cfg, "db/pool", NULL, 0), 1);
	ccfg_close(cfg);
}

static void a_service_comes_in_pages(void **state)
{
	struct fake_daemon *d = *state;
	ccfg *cfg;

	fake_daemon_set(d, page_entries, 1);
	cfg = open_now(d);
	assert_int_equal(ccfg_get(cfg, "ttl", NULL, 0), 5);
	fake_daemon_set(d, change_on_page, d->n_lists + 2);
	fake_daemon_put(d, "db/pool", "8");
	assert_true(comes_to(cfg, "db/pool", "8"));
	assert_int_equal(ccfg_get(cfg, "ttl", NULL, 0), 5);
	fake_daemon_set(d, cut_on_page, d->n_lists + 2);
	fake_daemon_put(d, "db/pool", "9");
	assert_true(comes_to(cfg, "db/pool", "9"));
	assert_int_equal(d->n_accepted, 2);
	ccfg_close(cfg);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, handle_set_up, handle_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(values_are_read),
		TEST(a_value_of_any_length_fills_a_buffer_of_any_size_and_no_more),
		TEST(typed_values_are_read),
		TEST(the_grammar_is_there_without_a_handle),
		TEST(a_pinned_view_stays_as_it_is),
		TEST(arguments_are_checked),
		TEST(opening_without_a_daemon_ends_in_time),
		TEST(opening_without_data_or_answer_ends_in_time),
		TEST(a_refusal_is_told_at_once),
		TEST(a_newer_minor_of_the_protocol_is_spoken_with),
		TEST(opening_waits_for_the_first_data),
		TEST(opening_waits_for_the_daemon),
		TEST(where_a_value_comes_from_is_explained),
		TEST(without_waiting_a_handle_opens_empty_and_fills),
		TEST(reads_see_changes),
		TEST(waiting_ends_with_the_next_generation),
		TEST(a_signal_ends_a_wait),
		TEST(a_service_comes_in_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
