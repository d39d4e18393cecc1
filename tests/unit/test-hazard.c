#include "test.h"

#include <pthread.h>
#include <sched.h>

#include "client/lib/clock.h"
#include "client/lib/hazard.h"

static int one, other;
static const void *_Atomic source;

static int set_up(void **state)
{
	(void)state;
	hazard_set_up();
	atomic_store(&source, &one);
	return 0;
}

static void what_is_read_is_held_until_it_is_left(void **state)
{
	struct hazard *hazard = hazard_of_thread();

	(void)state;
	assert_non_null(hazard);
	assert_false(hazard_is_held(&one));
	assert_ptr_equal(hazard_enter(hazard, &source), &one);
	atomic_store(&source, &other);
	assert_true(hazard_is_held(&one));
	assert_false(hazard_is_held(&other));
	hazard_leave(hazard);
	assert_false(hazard_is_held(&one));
	assert_ptr_equal(hazard_enter(hazard, &source), &other);
	hazard_leave(hazard);
}

static void *make(void *ret_hazard)
{
	*(struct hazard **)ret_hazard = hazard_of_thread();
	return NULL;
}

static void a_thread_that_ends_leaves_its_hazard_to_another(void **state)
{
	struct hazard *first, *second;
	pthread_t thread;

	(void)state;
	pthread_create(&thread, NULL, make, &first);
	pthread_join(thread, NULL);
	pthread_create(&thread, NULL, make, &second);
	pthread_join(thread, NULL);
	assert_ptr_equal(first, second);
	assert_ptr_not_equal(first, hazard_of_thread());
}

/* Readers and one who replaces what they read and scribbles over what nobody holds. */
static _Atomic(bool) shall_stop;
static _Atomic(unsigned) n_wrong;

static void *read_for_long(void *userdata)
{
	struct hazard *hazard = hazard_of_thread();

	(void)userdata;
	while (!atomic_load(&shall_stop)) {
		const _Atomic(int) *at = hazard_enter(hazard, &source);

		for (unsigned i = 0; i < 10; i++)
			if (atomic_load_explicit(at, memory_order_relaxed) != 1)
				atomic_fetch_add(&n_wrong, 1);
		hazard_leave(hazard);
	}
	return NULL;
}

static void replace_for_long(bool is_cheap)
{
	static _Atomic(int) places[8];
	bool was_cheap = hazard_is_cheap;
	pthread_t threads[3];
	uint64_t deadline = clock_after_usec(60 * USEC_PER_SEC);
	unsigned n_freed = 0, at = 0;

	hazard_is_cheap = is_cheap && was_cheap;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		atomic_store(&places[i], 1);
	atomic_store(&source, &places[0]);
	atomic_store(&shall_stop, false);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, read_for_long, NULL);
	/* A reader that is interrupted in the middle holds its place for as long as that takes. */
	while (n_freed < 2000 && clock_now_usec() < deadline) {
		unsigned next = (at + 1) % ARRAY_SIZE(places);

		atomic_store(&places[next], 1);
		atomic_store(&source, &places[next]);
		if (hazard_is_held(&places[at])) {
			/* Still read: it must stay; go on with it. */
			atomic_store(&source, &places[at]);
			sched_yield();
			continue;
		}
		atomic_store(&places[at], 0);
		n_freed++;
		at = next;
	}
	atomic_store(&shall_stop, true);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	hazard_is_cheap = was_cheap;
	assert_int_equal(atomic_load(&n_wrong), 0);
	assert_int_equal(n_freed, 2000);
}

static void nothing_is_taken_from_a_reader(void **state)
{
	(void)state;
	replace_for_long(true);
}

static void nor_where_readers_pay_for_the_barrier(void **state)
{
	(void)state;
	replace_for_long(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_is_read_is_held_until_it_is_left, set_up),
		cmocka_unit_test_setup(a_thread_that_ends_leaves_its_hazard_to_another, set_up),
		cmocka_unit_test_setup(nothing_is_taken_from_a_reader, set_up),
		cmocka_unit_test_setup(nor_where_readers_pay_for_the_barrier, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
