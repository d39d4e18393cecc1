/*
 * What daemons leave behind at an agent, and what a file that anything may have happened to says.
 */
#include "daemon/ledger.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/loop.h"
#include "fake-loop.h"
#include "proto/le.h"
#include "proto/limits.h"
#include "test.h"

#define WAIT (30 * USEC_PER_SEC)
#define OVER (WAIT + WAIT / 16 + LIMIT_LEDGER_SLACK_USEC)

static char directory[] = "/tmp/ledger-XXXXXX";
static char path[64];

static int set_up(void **state)
{
	(void)state;
	unlink(path);
	return 0;
}

static struct ledger *new_ledger(void)
{
	struct ledger *ledger;
	bool is_lasting = false;

	assert_int_equal(ledger_new(directory, &ledger, &is_lasting), 0);
	assert_true(is_lasting);
	return ledger;
}

static void an_answered_poll_is_over(void **state)
{
	struct ledger *ledger = new_ledger();
	int one = ledger_open(ledger, 2, WAIT), other = ledger_open(ledger, 2, WAIT);

	(void)state;
	assert_int_equal(ledger_open(ledger, 2, WAIT), -EBUSY);
	assert_int_equal(ledger_n_open(ledger), 2);
	ledger_close(ledger, one);
	assert_int_equal(ledger_n_open(ledger), 1);
	assert_true(ledger_open(ledger, 2, WAIT) >= 0);
	ledger_close(ledger, other);
	ledger_free(ledger);
}

static void a_poll_that_nobody_waits_for_counts_until_its_time_is_over(void **state)
{
	struct ledger *ledger = new_ledger();
	int entry = ledger_open(ledger, 1, WAIT);

	(void)state;
	ledger_leave(ledger, entry);
	fake_loop_advance(OVER - 1);
	assert_int_equal(ledger_open(ledger, 1, WAIT), -EBUSY);
	fake_loop_advance(1);
	assert_int_equal(ledger_n_open(ledger), 0);
	assert_true(ledger_open(ledger, 1, WAIT) >= 0);
	ledger_free(ledger);
}

static void a_poll_that_runs_counts_however_long_it_takes(void **state)
{
	struct ledger *ledger = new_ledger();

	(void)state;
	ledger_open(ledger, 1, WAIT);
	fake_loop_advance(10 * OVER);
	assert_int_equal(ledger_open(ledger, 1, WAIT), -EBUSY);
	ledger_free(ledger);
}

static void the_next_daemon_counts_what_the_last_one_left(void **state)
{
	struct ledger *ledger = new_ledger();

	(void)state;
	ledger_open(ledger, 3, WAIT);
	fake_loop_advance(USEC_PER_SEC);
	ledger_open(ledger, 3, WAIT);
	ledger_close(ledger, ledger_open(ledger, 3, WAIT));
	ledger_free(ledger); /* as if it were killed: nothing is written at the end */
	ledger = new_ledger();
	assert_int_equal(ledger_n_open(ledger), 2);
	assert_int_equal(ledger_n_inherited(ledger), 2);
	assert_true(ledger_open(ledger, 3, WAIT) >= 0);
	assert_int_equal(ledger_n_inherited(ledger), 2);
	assert_int_equal(ledger_open(ledger, 3, WAIT), -EBUSY);
	ledger_free(ledger);
	ledger = new_ledger();
	assert_int_equal(ledger_n_open(ledger), 3);
	fake_loop_advance(OVER - USEC_PER_SEC);
	assert_int_equal(ledger_n_open(ledger), 2);
	fake_loop_advance(USEC_PER_SEC);
	assert_int_equal(ledger_n_open(ledger), 0);
	ledger_free(ledger);
}

static void what_is_left_is_inherited_after_a_move(void **state)
{
	struct ledger *ledger = new_ledger();

	(void)state;
	ledger_leave(ledger, ledger_open(ledger, 3, WAIT));
	assert_int_equal(ledger_n_inherited(ledger), 0);
	ledger_inherit(ledger);
	assert_int_equal(ledger_n_inherited(ledger), 1);
	ledger_open(ledger, 3, WAIT); /* over the new connections */
	assert_int_equal(ledger_n_inherited(ledger), 1);
	fake_loop_advance(OVER);
	assert_int_equal(ledger_n_inherited(ledger), 0);
	assert_int_equal(ledger_n_open(ledger), 1);
	ledger_free(ledger);
}

/* Not more than the budget, however often it is started, and all of it again a wait later. */
static void a_crash_loop_never_has_more_than_the_budget(void **state)
{
	struct ledger *ledger;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		ledger = new_ledger();
		while (ledger_open(ledger, 14, WAIT) >= 0)
			;
		assert_int_equal(ledger_n_open(ledger), 14);
		ledger_free(ledger);
		fake_loop_advance(10 * USEC_PER_MSEC);
	}
	fake_loop_advance(OVER);
	ledger = new_ledger();
	assert_int_equal(ledger_n_open(ledger), 0);
	ledger_free(ledger);
}

static void write_file(const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

static void bytes_that_no_daemon_wrote_hold_nothing_up(void **state)
{
	uint8_t bytes[4096];
	struct ledger *ledger;
	uint64_t random = 1;

	(void)state;
	fake_loop_advance(USEC_PER_SEC);
	memset(bytes, 0xff, sizeof(bytes));
	for (unsigned round = 0; round < 3; round++) {
		static const size_t lens[] = { 4096, 2048, 13 };

		write_file(bytes, lens[round]);
		ledger = new_ledger();
		assert_int_equal(ledger_n_open(ledger), 0);
		assert_true(ledger_open(ledger, 1, WAIT) >= 0);
		ledger_free(ledger);
		for (size_t i = 0; i < sizeof(bytes); i++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			bytes[i] = (uint8_t)(random >> 56);
		}
	}
}

/* Longer than Consul holds a query: of another clock, or of nobody. */
static void times_that_no_poll_can_have_are_none(void **state)
{
	uint64_t now = loop_now();
	uint64_t longest = LIMIT_WAIT_MAX_USEC + LIMIT_WAIT_MAX_USEC / 16 + LIMIT_LEDGER_SLACK_USEC;
	const le64 times[] = { le64_of(now), le64_of(now + longest), le64_of(now + longest + 1) };
	struct ledger *ledger;

	(void)state;
	write_file(times, sizeof(times));
	ledger = new_ledger();
	assert_int_equal(ledger_n_open(ledger), 1);
	ledger_free(ledger);
}

static void a_file_that_is_not_ours_is_left_alone(void **state)
{
	struct ledger *ledger;
	struct stat st;
	bool is_lasting = true;
	char victim[64];

	(void)state;
	snprintf(victim, sizeof(victim), "%s/victim", directory);
	close(open(victim, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(symlink(victim, path), 0);
	assert_int_equal(ledger_new(directory, &ledger, &is_lasting), 0);
	assert_false(is_lasting);
	assert_true(ledger_open(ledger, 1, WAIT) >= 0);
	assert_int_equal(stat(victim, &st), 0);
	assert_int_equal(st.st_size, 0);
	ledger_free(ledger);
	unlink(victim);
}

static void without_a_directory_it_counts_all_the_same(void **state)
{
	struct ledger *ledger;
	bool is_lasting = false;

	(void)state;
	assert_int_equal(ledger_new(NULL, &ledger, &is_lasting), 0);
	assert_true(is_lasting);
	assert_true(ledger_open(ledger, 1, WAIT) >= 0);
	assert_int_equal(ledger_open(ledger, 1, WAIT), -EBUSY);
	ledger_free(ledger);
}

#define CASE(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(an_answered_poll_is_over),
		CASE(a_poll_that_nobody_waits_for_counts_until_its_time_is_over),
		CASE(a_poll_that_runs_counts_however_long_it_takes),
		CASE(the_next_daemon_counts_what_the_last_one_left),
		CASE(what_is_left_is_inherited_after_a_move),
		CASE(a_crash_loop_never_has_more_than_the_budget),
		CASE(bytes_that_no_daemon_wrote_hold_nothing_up),
		CASE(times_that_no_poll_can_have_are_none),
		CASE(a_file_that_is_not_ours_is_left_alone),
		CASE(without_a_directory_it_counts_all_the_same),
	};
	struct loop *loop;
	int r;

	if (loop_new(&loop) < 0 || !mkdtemp(directory))
		return EXIT_FAILURE;
	snprintf(path, sizeof(path), "%s/polls", directory);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(directory);
	loop_free(loop);
	return r;
}
