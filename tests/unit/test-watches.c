#include "test.h"

#include "client/lib/watches.h"

struct item {
	const char *key;
	const char *value;
};

static char told[512];
static struct ccfg_watch *to_close;

static struct ccfg_view *view_of(const struct item *items, uint64_t generation)
{
	struct records records = { 0 };
	struct ccfg_view *view;

	for (; items->key; items++) {
		const struct record record = {
			.key = items->key,
			.key_len = (uint32_t)strlen(items->key),
			.value = items->value,
			.value_len = (uint32_t)strlen(items->value),
			.modify_index = generation, /* another one each time: content counts */
		};

		assert_int_equal(records_append(&records, &record), 0);
	}
	assert_int_equal(view_new(&records, 7, generation, &view), 0);
	records_done(&records);
	return view;
}

static void on_change(ccfg *cfg, const struct ccfg_change *change, void *userdata)
{
	size_t len = strlen(told);

	assert_null(cfg);
	assert_ptr_equal(userdata, told);
	assert_int_equal(change->size, sizeof(*change));
	assert_int_equal(change->key_len, strlen(change->key));
	assert_int_equal(change->old_len, change->old_value ? strlen(change->old_value) : 0);
	assert_int_equal(change->new_len, change->new_value ? strlen(change->new_value) : 0);
	assert_int_equal(change->generation, 2);
	snprintf(told + len, sizeof(told) - len, "%s:%s>%s ", change->key,
		change->old_value ? change->old_value : "-",
		change->new_value ? change->new_value : "-");
	if (to_close)
		to_close->is_closed = true;
}

static unsigned tell(const char *prefix, const struct item *before, const struct item *after)
{
	struct ccfg_view *old = view_of(before, 1), *new = view_of(after, 2);
	struct ccfg_watch *watch = watch_new(NULL, old, prefix, on_change, told);
	unsigned n;

	assert_non_null(watch);
	told[0] = '\0';
	n = watch_tell(watch, old, new);
	watch_free(watch);
	view_unref(old);
	view_unref(new);
	return n;
}

static const struct item before[] = { { "a", "1" }, { "db/pool", "7" }, { "db/url", "x" },
	{ "dc", "" }, { "z", "9" }, { NULL, NULL } };
static const struct item after[] = { { "a", "1" }, { "db/new", "" }, { "db/url", "y" },
	{ "dc", "" }, { "zz", "9" }, { NULL, NULL } };
static const struct item none[] = { { NULL, NULL } };

static void each_difference_is_told_in_key_order(void **state)
{
	(void)state;
	assert_int_equal(tell("", before, after), 5);
	assert_string_equal(told, "db/new:-> db/pool:7>- db/url:x>y z:9>- zz:->9 ");
	assert_int_equal(tell("", before, before), 0);
	assert_string_equal(told, "");
	assert_int_equal(tell("", none, before), 5);
	assert_int_equal(tell("", before, none), 5);
	assert_int_equal(tell("", none, none), 0);
}

static void only_what_is_below_the_prefix_is_told(void **state)
{
	(void)state;
	assert_int_equal(tell("db/", before, after), 3);
	assert_string_equal(told, "db/new:-> db/pool:7>- db/url:x>y ");
	assert_int_equal(tell("db/url", before, after), 1);
	assert_int_equal(tell("db/urls", before, after), 0);
	assert_int_equal(tell("dc", before, after), 0);
}

static void a_watch_that_is_closed_hears_no_more(void **state)
{
	struct ccfg_view *old = view_of(before, 1), *new = view_of(after, 2);
	struct watches watches = { 0 };

	(void)state;
	watches.first = watch_new(NULL, old, "", on_change, told);
	watches.first->next = watch_new(NULL, old, "a", on_change, told);
	to_close = watches.first;
	told[0] = '\0';
	assert_int_equal(watch_tell(watches.first, old, new), 1);
	assert_string_equal(told, "db/new:-> ");
	to_close = NULL;
	watches_sweep(&watches);
	assert_string_equal(watches.first->prefix, "a");
	assert_null(watches.first->next);
	watches_done(&watches);
	assert_null(watches.first);
	view_unref(old);
	view_unref(new);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_difference_is_told_in_key_order),
		cmocka_unit_test(only_what_is_below_the_prefix_is_told),
		cmocka_unit_test(a_watch_that_is_closed_hears_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
