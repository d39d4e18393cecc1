#include "test.h"

#include <sys/mman.h>

#include "daemon/announcer.h"

#define N_SLOTS 8
#define PATIENCE_USEC 10000000

static char directory[] = "/tmp/announcer-XXXXXX";
static struct loop *loop;
static struct loop_timer *turn_timer;
static struct genfile *genfile;
static struct announcer *announcer;

static void on_turn(void *userdata)
{
	(void)userdata;
	loop_stop(loop);
}

static int set_up_without_file(void **state)
{
	(void)state;
	genfile = NULL;
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(loop_timer_new(loop, on_turn, NULL, &turn_timer), 0);
	assert_int_equal(announcer_new(loop, NULL, &announcer), 0);
	return 0;
}

static int set_up(void **state)
{
	bool is_lasting;

	set_up_without_file(state);
	announcer_free(announcer);
	strcpy(directory, "/tmp/announcer-XXXXXX");
	assert_non_null(mkdtemp(directory));
	assert_int_equal(genfile_new(directory, N_SLOTS, &genfile, &is_lasting), 0);
	assert_true(is_lasting);
	assert_int_equal(announcer_new(loop, genfile, &announcer), 0);
	return 0;
}

static int tear_down_without_file(void **state)
{
	(void)state;
	assert_null(announcer_free(announcer));
	genfile_free(genfile);
	loop_timer_free(turn_timer);
	loop_free(loop);
	return 0;
}

static int tear_down(void **state)
{
	char path[64];

	tear_down_without_file(state);
	snprintf(path, sizeof(path), "%s/generations", directory);
	unlink(path);
	snprintf(path, sizeof(path), "%s/generations.lock", directory);
	unlink(path);
	assert_int_equal(rmdir(directory), 0);
	return 0;
}

/* What is due now runs; what that arms waits for the next turn. */
static void turn(void)
{
	loop_timer_arm(turn_timer, 0);
	assert_int_equal(loop_run(loop), 0);
}

static void turns(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		turn();
}

/* As clients see it, who do not ask. */
static uint64_t seen(const struct announcement *announcement)
{
	return genfile_change(genfile, announcement->slot);
}

static void a_slot_is_raised_in_the_next_turn(void **state)
{
	struct announcement a, other;
	uint64_t before, before_other;

	(void)state;
	announcer_add(announcer, &a);
	announcer_add(announcer, &other);
	before = seen(&a);
	before_other = seen(&other);
	turns(3);
	announcer_raise_soon(announcer, &a);
	assert_int_equal(seen(&a), before);
	turn();
	assert_int_not_equal(seen(&a), before);
	assert_int_equal(seen(&other), before_other);
	announcer_remove(announcer, &a);
	announcer_remove(announcer, &other);
}

static void publications_without_end_put_none_off(void **state)
{
	struct announcement a, b;
	uint64_t before_a;

	(void)state;
	announcer_add(announcer, &a);
	announcer_add(announcer, &b);
	before_a = seen(&a);
	announcer_raise_soon(announcer, &a);
	/* Armed anew it would come behind the end of this turn. */
	loop_timer_arm(turn_timer, 0);
	announcer_raise_soon(announcer, &b);
	assert_int_equal(loop_run(loop), 0);
	assert_int_not_equal(seen(&a), before_a);
	announcer_remove(announcer, &a);
	announcer_remove(announcer, &b);
}

static void many_publications_raise_it_once(void **state)
{
	struct announcement a, model;
	uint64_t before, once;

	(void)state;
	announcer_add(announcer, &model);
	before = seen(&model);
	genfile_raise(genfile, model.slot);
	once = seen(&model) - before;
	announcer_add(announcer, &a);
	before = seen(&a);
	for (unsigned i = 0; i < 5; i++)
		announcer_raise_soon(announcer, &a);
	turns(5);
	assert_int_equal(seen(&a) - before, once);
	announcer_raise_soon(announcer, &a);
	turns(2);
	assert_int_equal(seen(&a) - before, 2 * once);
	announcer_remove(announcer, &a);
	announcer_remove(announcer, &model);
}

static void who_asks_sees_it_raised_at_once_and_only_once(void **state)
{
	struct announcement a;
	uint64_t before, after;

	(void)state;
	announcer_add(announcer, &a);
	before = announcer_change(announcer, &a);
	assert_int_equal(announcer_change(announcer, &a), before);
	announcer_raise_soon(announcer, &a);
	after = announcer_change(announcer, &a);
	assert_int_not_equal(after, before);
	assert_int_equal(seen(&a), after);
	turns(3);
	assert_int_equal(seen(&a), after);
	announcer_remove(announcer, &a);
}

static void one_that_is_removed_raises_its_slot_and_gives_it_back(void **state)
{
	struct announcement a, next;
	uint64_t before, after;

	(void)state;
	announcer_add(announcer, &a);
	before = seen(&a);
	announcer_raise_soon(announcer, &a);
	announcer_remove(announcer, &a);
	after = seen(&a);
	assert_int_not_equal(after, before);
	memset(&a.link, 0xff, sizeof(a.link)); /* nobody looks at it any more */
	turns(3);
	assert_int_equal(seen(&a), after);
	announcer_add(announcer, &next);
	assert_int_equal(next.slot, a.slot);
	announcer_remove(announcer, &next);
}

static void one_without_a_slot_is_announced_to_nobody(void **state)
{
	struct announcement all[N_SLOTS + 1], *last = &all[N_SLOTS];
	uint64_t before[N_SLOTS];

	(void)state;
	for (unsigned i = 0; i <= N_SLOTS; i++)
		announcer_add(announcer, &all[i]);
	for (unsigned i = 0; i < N_SLOTS; i++)
		before[i] = seen(&all[i]);
	assert_int_equal(last->slot, GENFILE_NO_SLOT);
	announcer_raise_soon(announcer, last);
	turns(3);
	announcer_show(announcer, last, 0, 1, 1);
	announcer_raise_soon(announcer, last);
	assert_int_equal(announcer_change(announcer, last), seen(last));
	announcer_remove(announcer, last);
	for (unsigned i = 0; i < N_SLOTS; i++)
		assert_int_equal(seen(&all[i]), before[i]);
	for (unsigned i = 0; i < N_SLOTS; i++)
		announcer_remove(announcer, &all[i]);
}

static void without_a_file_all_goes_on(void **state)
{
	struct announcement a;

	(void)state;
	announcer_add(announcer, &a);
	assert_int_equal(a.slot, GENFILE_NO_SLOT);
	announcer_raise_soon(announcer, &a);
	turns(3);
	announcer_raise_soon(announcer, &a);
	assert_int_equal(announcer_change(announcer, &a), 0);
	announcer_show(announcer, &a, 0, 1, 1);
	announcer_remove(announcer, &a);
}

static void what_is_shown_stands_in_the_slot_of_its_own(void **state)
{
	AUTO_CLOSE int fd = genfile_open_fd(genfile);
	const struct genfile_header *header;
	const struct genfile_slot *slots;
	struct announcement a, b;
	size_t size = genfile_size(N_SLOTS);

	(void)state;
	header = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(header, MAP_FAILED);
	slots = (const struct genfile_slot *)(const void *)(header + 1);
	announcer_add(announcer, &a);
	announcer_add(announcer, &b);
	announcer_show(announcer, &b, 0, 77, 3);
	assert_int_equal(atomic_load(&slots[b.slot].index), 77);
	assert_int_equal(atomic_load(&slots[b.slot].state), 3);
	assert_int_not_equal(atomic_load(&slots[a.slot].index), 77);
	announcer_remove(announcer, &a);
	announcer_remove(announcer, &b);
	munmap((void *)(uintptr_t)header, size);
}

static void a_snapshot_put_aside_goes_when_the_next_comes_or_after_its_time(void **state)
{
	struct snapshot *first, *second;
	uint64_t begin = loop_now();

	(void)state;
	assert_int_equal(snapshot_new(&first), 0);
	assert_int_equal(snapshot_new(&second), 0);
	announcer_put_aside(announcer, snapshot_ref(first));
	turn();
	assert_int_equal(first->refs, 2);
	announcer_put_aside(announcer, snapshot_ref(second));
	assert_int_equal(first->refs, 1);
	assert_int_equal(second->refs, 2);
	while (second->refs > 1 && loop_now() < begin + PATIENCE_USEC) {
		loop_timer_arm(turn_timer, 1000);
		assert_int_equal(loop_run(loop), 0);
	}
	assert_int_equal(second->refs, 1);
	/* The last one goes with the announcer. */
	announcer_put_aside(announcer, first);
	snapshot_unref(second);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_slot_is_raised_in_the_next_turn),
		TEST(publications_without_end_put_none_off),
		TEST(many_publications_raise_it_once),
		TEST(who_asks_sees_it_raised_at_once_and_only_once),
		TEST(one_that_is_removed_raises_its_slot_and_gives_it_back),
		TEST(one_without_a_slot_is_announced_to_nobody),
		cmocka_unit_test_setup_teardown(
			without_a_file_all_goes_on, set_up_without_file, tear_down_without_file),
		TEST(what_is_shown_stands_in_the_slot_of_its_own),
		TEST(a_snapshot_put_aside_goes_when_the_next_comes_or_after_its_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
