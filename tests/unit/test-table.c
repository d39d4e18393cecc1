#include "test.h"

#include "client/tools/json.h"
#include "client/tools/table.h"
#include "proto/limits.h"

/* --- json -------------------------------------------------------------------------------- */

static void on_member(void *userdata, size_t item, const char *path, const char *text, size_t len)
{
	struct output *output = userdata;
	char number[8];

	snprintf(number, sizeof(number), "%zu ", item);
	output_text(output, number);
	output_text(output, path);
	output_text(output, "=");
	output_bytes(output, text ? text : "(null)", text ? len : 6);
	output_text(output, "\n");
}

static void members_are_named_by_their_path(void **state)
{
	static const char text[] =
		"{\"a\":1,\"b\":{\"c\":\"x\\ny\",\"d\":{\"e\":null}},\"f\":[{\"g\":true}"
		",{\"g\":2.5}],\"h\":[7,8]}, {\"a\":\"second\"}";
	struct output output = { 0 };

	(void)state;
	assert_int_equal(json_walk(text, sizeof(text) - 1, on_member, &output), 0);
	output_bytes(&output, "", 1);
	assert_string_equal(output.data, "0 a=1\n0 b.c=x\ny\n0 b.d.e=(null)\n0 f.g=true\n"
					 "0 f.g=2.5\n0 h=7\n0 h=8\n1 a=second\n");
	output_done(&output);
}

static void what_is_no_array_of_objects_is_refused(void **state)
{
	static const char *const bad[] = { "{", "{\"a\":1}]", "1", "[1]", "\"x\"", "{\"a\":}",
		"{\"a\":1} {\"a\":2}", "{\"a\":1},", "\xff" };
	char deep[200], path[400] = "{\"", *p = path + 2;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct output output = { 0 };

		assert_int_equal(json_walk(bad[i], strlen(bad[i]), on_member, &output), -EBADMSG);
		output_done(&output);
	}
	memset(deep, '[', sizeof(deep));
	memcpy(deep, "{\"a\":", 5);
	assert_int_equal(json_walk(deep, sizeof(deep), on_member, NULL), -EBADMSG);
	memset(p, 'x', 300);
	strcpy(p + 300, "\":1}");
	assert_int_equal(json_walk(path, strlen(path), on_member, NULL), -EBADMSG);
}

/* --- table ------------------------------------------------------------------------------- */

static const char the_daemon[] =
	"{\"version\":\"1.2\",\"pid\":7,\"uptime_seconds\":300.5,"
	"\"source\":\"consul:http://127.0.0.1:8500\",\"source_connections\":2,"
	"\"clients\":3,\"new_member\":[{}]}";

static const struct table_style wide, narrow = { .columns = 20 }, colored = { .has_color = true };

static char *table_in(const struct table_style *style, const char *services)
{
	struct output output = { 0 };
	struct output daemon = { .data = (char *)(uintptr_t)the_daemon,
		.len = sizeof(the_daemon) - 1 };
	struct output all = { .data = (char *)(uintptr_t)services, .len = strlen(services) };

	assert_int_equal(table_print(&output, style, &daemon, &all), 0);
	output_bytes(&output, "", 1);
	return output.data;
}

static char *table_of(const char *services)
{
	return table_in(&wide, services);
}

static void what_needs_somebody_comes_first(void **state)
{
	AUTO_FREE char *table = table_of(
		"{\"name\":\"well\",\"state\":\"live\",\"keys\":12,\"bytes\":9999,\"age_seconds\":3.2,"
		"\"clients\":2,\"layers\":[{\"prefix\":\"config/well/\",\"state\":\"stale\","
		"\"keys\":99}],\"held\":null,\"frozen\":null,\"last_error\":null,"
		"\"backup\":{\"age_seconds\":1,\"error\":null}},"
		"{\"name\":\"away\",\"state\":\"stale\",\"keys\":1,\"age_seconds\":400,"
		"\"clients\":0,\"last_error\":{\"kind\":\"unreachable\","
		"\"message\":\"refused\\u001b[2J\","
		"\"retry_in_seconds\":2.5}},"
		"{\"name\":\"strange\",\"state\":\"held\",\"keys\":40,\"bytes\":55555,\"age_seconds\":1,"
		"\"clients\":1,\"held\":{\"reason\":\"30 of 40 keys are gone\",\"since\":7,"
		"\"keys\":10,\"digest\":\"00\"},\"layers\":[{\"held\":{\"reason\":\"30 of 40 keys are "
		"gone\"}}]}");

	(void)state;
	assert_string_equal(table,
		"consulcfgd 1.2, pid 7, up 5 min, source: consul:http://127.0.0.1:8500, "
		"connections to it: 2, clients: 3\n"
		"\n"
		"SERVICE  STATE         AGE     KEYS     SIZE  CLIENTS\n"
		"strange  held          1 s       40    56 kB        1\n"
		"    an answer with 10 keys is withheld: 30 of 40 keys are gone; check the keys "
		"and the token's policy in Consul, or take it: consulcfg-accept strange\n"
		"away     stale       6 min        1        -        0\n"
		"    unreachable: refused\\x1b[2J; asked again in 2 s\n"
		"    the source is away, clients read the copy in memory: check the source; "
		"nothing is "
		"lost meanwhile\n"
		"well     live          3 s       12   9999 B        2\n");
}

/* The lines about one service, one after the other. */
static void expect_trouble(const char *service, const char *wanted)
{
	AUTO_FREE char *table = table_of(service);
	const char *found = strstr(table, "\n    ");

	assert_non_null(found);
	assert_string_equal(found + 1, wanted);
}

static void each_trouble_has_something_to_do(void **state)
{
	(void)state;
	setenv("TZ", "UTC", 1);
	expect_trouble(
		"{\"name\":\"a\",\"state\":\"frozen\",\"frozen\":{\"by\":\"root\",\"since\":5,"
		"\"until\":86400.5,\"reason\":\"a bad push\"}}",
		"    frozen by root since 1970-01-01 00:00:05 until 1970-01-02 00:00:00: a bad push; "
		"to take changes again: consulcfg-thaw a\n");
	expect_trouble("{\"name\":\"a\",\"state\":\"frozen\",\"frozen\":{\"by\":\"root\","
		       "\"until\":null,\"reason\":\"\"}}",
		"    frozen by root; to take changes again: consulcfg-thaw a\n");
	expect_trouble("{\"name\":\"a\",\"state\":\"held\",\"layers\":[{\"held\":null}],\"held\":{"
		       "\"reason\":\"db/pool is no integer\",\"keys\":3},\"last_error\":{"
		       "\"kind\":\"invalid\",\"message\":\"withheld, it breaks the schema: db/pool "
		       "is no integer\"}}",
		"    new contents with 3 keys are withheld: db/pool is no integer; correct the key or "
		"the schema\n");
	expect_trouble("{\"name\":\"a\",\"state\":\"loading\",\"last_error\":{\"kind\":\"timeout\","
		       "\"message\":\"no answer\"}}",
		"    timeout: no answer\n"
		"    there is no copy, clients wait: check the source\n");
	expect_trouble("{\"name\":\"a\",\"state\":\"live\",\"last_error\":{\"kind\":\"limit\","
		       "\"message\":\"too large\"}}",
		"    limit: too large\n"
		"    make it smaller, or raise max_value or max_service of consulcfgd.conf: "
		"man consulcfgd-operations\n");
	expect_trouble("{\"name\":\"a\",\"state\":\"live\",\"backup\":{\"error\":\"no space\"}}",
		"    no backup: no space: check the state directory\n");
}

static void overrides_are_named_with_who_when_and_why(void **state)
{
	static const char one[] =
		"{\"name\":\"a\",\"state\":\"live\",\"overrides\":1,\"overridden\":[{"
		"\"key\":\"db/pool\",\"by\":\"uid 0\",\"since\":5,\"until\":null,"
		"\"reason\":\"\"}]}";
	char many[64 * (LIMIT_STATUS_LINES + 3)], wanted[64];
	AUTO_FREE char *table = NULL;
	size_t len;

	(void)state;
	setenv("TZ", "UTC", 1);
	expect_trouble(one,
		"    1 key has a value of an operator: consulcfg-override --clear a takes the "
		"source's\n"
		"    db/pool: by uid 0 since 1970-01-01 00:00:05\n");
	expect_trouble("{\"name\":\"a\",\"state\":\"live\",\"overrides\":2,\"overridden\":[{"
		       "\"key\":\"a\\nb\",\"by\":\"uid 7\",\"since\":5,\"until\":86400.5,"
		       "\"reason\":\"for a while\"},{\"key\":\"z\",\"by\":\"uid 8\",\"since\":6,"
		       "\"until\":null,\"reason\":\"\"}]}",
		"    2 keys have values of operators: consulcfg-override --clear a takes the "
		"source's\n"
		"    a\\x0ab: by uid 7 since 1970-01-01 00:00:05 until 1970-01-02 00:00:00: for a "
		"while\n"
		"    z: by uid 8 since 1970-01-01 00:00:06\n");
	len = (size_t)snprintf(many, sizeof(many),
		"{\"name\":\"a\",\"state\":\"live\",\"overrides\":%d,\"overridden\":[",
		LIMIT_STATUS_LINES + 2);
	for (unsigned i = 0; i < LIMIT_STATUS_LINES + 2; i++)
		len += (size_t)snprintf(many + len, sizeof(many) - len,
			"%s{\"key\":\"k%u\",\"by\":\"uid 1\"}", i > 0 ? "," : "", i);
	strcpy(many + len, "]}");
	table = table_of(many);
	snprintf(wanted, sizeof(wanted),
		"    k%d: by uid 1\n    and 2 more: ", LIMIT_STATUS_LINES - 1);
	assert_non_null(strstr(table, wanted));
}

static void one_key_is_one_key(void **state)
{
	static const char service[] =
		"{\"name\":\"a\",\"state\":\"live\",\"generation\":7,\"keys\":1}";
	struct output output = { 0 };
	struct output daemon = { .data = (char *)(uintptr_t)the_daemon,
		.len = sizeof(the_daemon) - 1 };
	struct output all = { .data = (char *)(uintptr_t)service, .len = sizeof(service) - 1 };

	(void)state;
	assert_int_equal(table_lines(&output, &daemon, &all), 0);
	output_bytes(&output, "", 1);
	assert_non_null(strstr(output.data, "a live, generation 7, 1 key\n"));
	output_done(&output);
}

static void a_narrow_terminal_has_all_words_in_its_columns(void **state)
{
	AUTO_FREE char *table = table_in(&narrow,
		"{\"name\":\"a-name-of-many-letters\",\"state\":\"backup\",\"keys\":12,"
		"\"age_seconds\":3.2,\"last_error\":{\"kind\":\"timeout\","
		"\"message\":\"one-word-that-is-wider-than-that\"}}");

	(void)state;
	for (const char *line = table; line[0] != '\0'; line += strcspn(line, "\n") + 1)
		assert_true(strcspn(line, "\n") <= 20);
	assert_non_null(strstr(table, "\na-name-of-  backup\n    timeout:\n"));
	assert_non_null(strstr(table, "\n    one-word-that-is\n    -wider-than-that\n"));
	assert_non_null(strstr(table, "lost\n    meanwhile\n"));
}

static void states_have_colors_where_they_are_wanted(void **state)
{
	AUTO_FREE char *table = table_in(&colored,
		"{\"name\":\"a\",\"state\":\"live\"},{\"name\":\"b\",\"state\":\"held\"},"
		"{\"name\":\"c\",\"state\":\"stale\"}");

	(void)state;
	assert_non_null(strstr(table, "\033[32mlive    \033[0m "));
	assert_non_null(strstr(table, "\033[31mheld    \033[0m "));
	assert_non_null(strstr(table, "\033[33mstale   \033[0m "));
}

static void a_daemon_without_services_is_told(void **state)
{
	AUTO_FREE char *table = table_of("");

	(void)state;
	assert_non_null(strstr(table, "no service that this user may see is in use\n"));
}

static void many_services_and_unknown_states_fit(void **state)
{
	char services[64 * 40] = "";
	AUTO_FREE char *table = NULL;
	size_t len = 0;

	(void)state;
	for (unsigned i = 0; i < 40; i++)
		len += (size_t)snprintf(services + len, sizeof(services) - len,
			"%s{\"name\":\"s%02u\",\"state\":\"%s\"}", i ? "," : "", i,
			i == 20 ? "brand-new" : "live");
	table = table_of(services);
	assert_true(strstr(table, "\ns20 ") < strstr(table, "\ns00 "));
	assert_true(strstr(table, "\ns00 ") < strstr(table, "\ns39 "));
	assert_non_null(strstr(table, "s20      brand-new"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_are_named_by_their_path),
		cmocka_unit_test(what_is_no_array_of_objects_is_refused),
		cmocka_unit_test(what_needs_somebody_comes_first),
		cmocka_unit_test(each_trouble_has_something_to_do),
		cmocka_unit_test(overrides_are_named_with_who_when_and_why),
		cmocka_unit_test(one_key_is_one_key),
		cmocka_unit_test(a_narrow_terminal_has_all_words_in_its_columns),
		cmocka_unit_test(states_have_colors_where_they_are_wanted),
		cmocka_unit_test(a_daemon_without_services_is_told),
		cmocka_unit_test(many_services_and_unknown_states_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
