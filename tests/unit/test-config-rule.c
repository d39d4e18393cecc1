#include "config-fixture.h"

static void the_first_rule_that_matches_decides(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	config_fixture_write(fixture,
		"[service billing]\nlayers=exact/\n[service b*g]\nlayers=glob/\n"
		"[service b?ll*]\nlayers=mark/\n[service *-api-*]\nlayers=two/\n");
	config = config_fixture_load_well(fixture);
	config_fixture_check_layers(config, "billing", "exact/");
	config_fixture_check_layers(config, "bing", "glob/");
	config_fixture_check_layers(config, "bg", "glob/");
	config_fixture_check_layers(config, "bull", "mark/");
	config_fixture_check_layers(config, "bll", "config/bll/");
	config_fixture_check_layers(config, "a-ap-api-b", "two/");
	config_fixture_check_layers(config, "a-api", "config/a-api/");
	config_fixture_check_layers(config, "Billing", "config/Billing/");
	assert_null(config_rule_for(config, "other"));
}

static void the_star_section_sets_defaults_wherever_it_stands(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	config_fixture_write(fixture,
		"[service *]\nlayers=all/ {service}/\naccess=user:0\n"
		"[service a]\nlayers=a/\n[service b]\naccess=anyone\n[service c]\n");
	config = config_fixture_load_well(fixture);
	config_fixture_check_layers(config, "a", "a/");
	assert_string_equal(config_rule_for(config, "a")->access[0], "user:0");
	assert_int_equal(config_rule_for(config, "a")->access_subjects[0].kind, ACCESS_USER);
	config_fixture_check_layers(config, "b", "all/ b/");
	assert_string_equal(config_rule_for(config, "b")->access[0], "anyone");
	config_fixture_check_layers(config, "c", "all/ c/");
	config_fixture_check_layers(config, "d", "all/ d/");
	assert_int_equal(config_rule_for(config, "d")->n_access, 1);
}

static void how_long_to_hold_is_inherited_and_taken_back(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	config_fixture_write(fixture,
		"[service *]\nhold=2h\n[service a]\nhold=until-accepted\n[service b]\nhold=5\n"
		"[service c]\nlayers=c/\n");
	config_fixture_write_fragment(fixture, "10.conf", "[service b]\nhold=90s\n");
	config = config_fixture_load_well(fixture);
	assert_int_equal(config_rule_hold_usec(config, "a"), 0);
	assert_int_equal(config_rule_hold_usec(config, "b"), 90 * USEC_PER_SEC);
	assert_int_equal(config_rule_hold_usec(config, "c"), 7200 * USEC_PER_SEC);
	assert_int_equal(config_rule_hold_usec(config, "d"), 7200 * USEC_PER_SEC);
	config_fixture_write(fixture, "[service a]\nhold=1h\n");
	assert_int_equal(config_rule_hold_usec(config_fixture_load_well(fixture), "d"), 0);
}

static void a_rule_may_be_spread_over_files(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config_rule *rule;

	config_fixture_write(
		fixture, "[service a]\nlayers=a/\naccess=anyone\n[service *]\nlayers=z/\n");
	config_fixture_write_fragment(fixture, "10.conf", "[service a]\naccess=user:0 group:0\n");
	rule = config_rule_for(config_fixture_load_well(fixture), "a");
	assert_string_equal(rule->layers[0], "a/");
	assert_int_equal(rule->n_access, 2);
	assert_string_equal(rule->access[1], "group:0");
	assert_int_equal(rule->access_subjects[1].kind, ACCESS_GROUP);
}

static void layers_take_service_host_and_labels(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	config_fixture_write(fixture,
		"[services]\nhost=app-17\n[labels]\nenv=eu/prod\nRole_2=web\n"
		"[service *]\nlayers=c/{env}/{Role_2}/ {host}-{service}{service}/\n");
	config = config_fixture_load_well(fixture);
	config_fixture_check_layers(config, "a", "c/eu/prod/web/ app-17-aa/");
}

static void a_prefix_that_comes_twice_stays_on_top(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	config_fixture_write(fixture, "[service *]\nlayers=c/{service}/ c/x/ c/common/\n");
	config = config_fixture_load_well(fixture);
	config_fixture_check_layers(config, "a", "c/a/ c/x/ c/common/");
	config_fixture_check_layers(config, "common", "c/x/ c/common/");
	config_fixture_check_layers(config, "x", "c/x/ c/common/");
}

static void an_unknown_user_matches_nobody_and_is_no_error(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config_rule *rule;

	log_set_level(LOG_LEVEL_ERROR);
	config_fixture_write(
		fixture, "[service a]\naccess=user:no-such-user-here group:no-such-group\n");
	rule = config_rule_for(config_fixture_load_well(fixture), "a");
	assert_int_equal(rule->n_access, 2);
	assert_int_equal(rule->access_subjects[0].kind, ACCESS_NOBODY);
	assert_int_equal(rule->access_subjects[1].kind, ACCESS_NOBODY);
	log_set_level(LOG_LEVEL_INFO);
}

static void locks_are_inherited_as_a_list(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	config_fixture_write(fixture,
		"[service a]\nlock=tls/* *password\n[service *]\nlock=db/*\n[service b]\nlayers=b/\n");
	config = config_fixture_load_well(fixture);
	assert_int_equal(config_rule_for(config, "a")->n_lock, 2);
	assert_string_equal(config_rule_for(config, "a")->lock[1], "*password");
	assert_int_equal(config_rule_for(config, "b")->n_lock, 1);
	assert_string_equal(config_rule_for(config, "b")->lock[0], "db/*");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_first_rule_that_matches_decides),
		TEST(the_star_section_sets_defaults_wherever_it_stands),
		TEST(how_long_to_hold_is_inherited_and_taken_back),
		TEST(a_rule_may_be_spread_over_files),
		TEST(layers_take_service_host_and_labels),
		TEST(a_prefix_that_comes_twice_stays_on_top),
		TEST(locks_are_inherited_as_a_list),
		TEST(an_unknown_user_matches_nobody_and_is_no_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
