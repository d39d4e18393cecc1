#include "config-fixture.h"

#include <dirent.h>
#include <sys/stat.h>

static void without_settings_the_documented_defaults_hold(void **state)
{
	const struct config *config = config_fixture_load_well(*state);
	char host[256] = "";

	assert_int_equal(config->source, CONFIG_SOURCE_CONSUL);
	assert_null(config->dir);
	assert_false(config->keep_newline);
	assert_false(config->flat);
	config_fixture_check_address(config, "http://127.0.0.1:8500");
	assert_null(config->token);
	assert_null(config->token_file);
	assert_null(config->datacenter);
	assert_true(config->verify);
	assert_int_equal(config->wait_usec, 30000000);
	assert_int_equal(config->max_wait_usec, 300000000);
	assert_int_equal(config->max_connections, 16);
	assert_int_equal(config->n_preload, 0);
	assert_int_equal(config->linger_usec, 60000000);
	assert_int_equal(config->resync_usec, 900000000);
	assert_int_equal(config->max_value, 16 << 20);
	assert_int_equal(config->max_service, 64 << 20);
	assert_int_equal(config->max_services, 20000);
	gethostname(host, sizeof(host) - 1);
	host[strcspn(host, ".")] = '\0';
	assert_string_equal(config->host, host);
	assert_string_equal(config->runtime_directory, "/run/consulcfgd");
	assert_string_equal(config->state_directory, "/var/lib/consulcfgd");
	assert_string_equal(config->socket_path, "/run/consulcfgd/socket");
	assert_null(config->socket_group);
	assert_int_equal(config->socket_mode, 0666);
	assert_int_equal(config->n_operators, 1);
	assert_string_equal(config->operators[0], "user:root");
	assert_int_equal(config->operator_subjects[0].kind, ACCESS_USER);
	assert_int_equal(config->operator_subjects[0].id, 0);
	assert_int_equal(config->max_clients_per_user, 4096);
	assert_int_equal(config->log_level, LOG_LEVEL_INFO);
	config_fixture_check_layers(config, "billing", "config/billing/");
}

static void each_key_arrives_in_its_field(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	config_fixture_write(fixture,
		"[source]\ntype=dir\ndir=/tree\nkeep_newline=yes\nflat=on\n"
		"[consul]\naddress=https://a:1 b:2\ntoken_file=/token\ndatacenter=dc\n"
		"namespace=ns\npartition=p\nca_file=/ca\nca_path=/cas\ncert_file=/cert\n"
		"key_file=/key\ntls_server_name=server:8501\nverify=no\nwait=2s\nmax_wait=3s\n"
		"max_connections=5\n"
		"[services]\npreload=x y\nlinger=4s\nresync=5s\nmax_value=6K\nmax_service=7K\n"
		"max_services=8\nhost=h\n"
		"[socket]\npath=/s\ngroup=g\nmode=0600\noperators=user:0 anyone\n"
		"max_clients_per_user=9\n");
	config = config_fixture_load_well(fixture);
	assert_int_equal(config->source, CONFIG_SOURCE_DIR);
	assert_string_equal(config->dir, "/tree");
	assert_true(config->keep_newline);
	assert_true(config->flat);
	assert_int_equal(config->n_addresses, 2);
	assert_string_equal(config->addresses[0], "https://a:1");
	assert_string_equal(config->addresses[1], "http://b:2");
	assert_string_equal(config->token_file, "/token");
	assert_string_equal(config->datacenter, "dc");
	assert_string_equal(config->namespace, "ns");
	assert_string_equal(config->partition, "p");
	assert_string_equal(config->ca_file, "/ca");
	assert_string_equal(config->ca_path, "/cas");
	assert_string_equal(config->cert_file, "/cert");
	assert_string_equal(config->key_file, "/key");
	assert_string_equal(config->tls_server_name, "server");
	assert_false(config->verify);
	assert_int_equal(config->wait_usec, 2000000);
	assert_int_equal(config->max_wait_usec, 3000000);
	assert_int_equal(config->max_connections, 5);
	assert_int_equal(config->n_preload, 2);
	assert_string_equal(config->preload[1], "y");
	assert_int_equal(config->linger_usec, 4000000);
	assert_int_equal(config->resync_usec, 5000000);
	assert_int_equal(config->max_value, 6 << 10);
	assert_int_equal(config->max_service, 7 << 10);
	assert_int_equal(config->max_services, 8);
	assert_string_equal(config->host, "h");
	assert_string_equal(config->socket_path, "/s");
	assert_string_equal(config->socket_group, "g");
	assert_int_equal(config->socket_mode, 0600);
	assert_int_equal(config->n_operators, 2);
	assert_int_equal(config->operator_subjects[1].kind, ACCESS_ANYONE);
	assert_int_equal(config->max_clients_per_user, 9);
}

/* What the first line of a bad file says: "# error in line N: TEXT". */
static void read_expectation(const char *path, unsigned *ret_line, char ret_text[128])
{
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	if (fscanf(file, "# error in line %u: %127[^\n]", ret_line, ret_text) != 2)
		fail_msg("%s does not say what is wrong with it", path);
	fclose(file);
}

static void replay(struct config_fixture *fixture, const char *path, bool is_good)
{
	char text[128], place[600];
	unsigned line;

	fixture->options.config_file = path;
	if (is_good) {
		config_fixture_load_well(fixture);
		return;
	}
	read_expectation(path, &line, text);
	if (config_fixture_load(fixture) != -EINVAL)
		fail_msg("%s was taken", path);
	snprintf(place, sizeof(place), "%s:%u: ", path, line);
	if (strncmp(fixture->message, place, strlen(place)) != 0)
		fail_msg("%s: not line %u: %s", path, line, fixture->message);
	config_fixture_load_badly(fixture, text);
}

static void good_files_of_the_corpus_load_and_bad_ones_fail_in_the_right_line(void **state)
{
	const char *corpus = getenv("CORPUS");
	unsigned n_good = 0, n_bad = 0;
	char dir[200], path[512];
	struct dirent *entry;
	DIR *stream;

	snprintf(dir, sizeof(dir), "%s/config", corpus ? corpus : "tests/corpus");
	stream = opendir(dir);
	assert_non_null(stream);
	while ((entry = readdir(stream))) {
		bool is_good = strncmp(entry->d_name, "ok-", 3) == 0;

		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (is_good || strncmp(entry->d_name, "bad-", 4) == 0)
			replay(*state, path, is_good);
		n_good += is_good;
		n_bad += !is_good;
	}
	closedir(stream);
	assert_true(n_good > 10);
	assert_true(n_bad > 80);
}

static void a_named_file_must_exist(void **state)
{
	struct config_fixture *fixture = *state;

	unlink(fixture->file);
	config_fixture_load_badly(fixture, "a.conf: there is no such file");
}

static void what_is_no_file_is_refused(void **state)
{
	struct config_fixture *fixture = *state;

	fixture->options.config_file = fixture->dir;
	config_fixture_load_badly(fixture, "not a file");
	snprintf(fixture->file, sizeof(fixture->file), "%s/fifo", fixture->dir);
	assert_int_equal(mkfifo(fixture->file, 0600), 0);
	fixture->options.config_file = fixture->file;
	config_fixture_load_badly(fixture, "not a file"); /* and does not wait for a writer */
}

static void the_null_device_is_an_empty_file(void **state)
{
	struct config_fixture *fixture = *state;

	fixture->options.config_file = "/dev/null";
	config_fixture_load_well(fixture);
}

static void a_file_above_a_megabyte_is_refused(void **state)
{
	struct config_fixture *fixture = *state;
	size_t size = (1 << 20) + 1;
	AUTO_FREE char *text = malloc(size);

	memset(text, '\n', size);
	config_fixture_write_file(fixture->file, text, size - 1);
	config_fixture_load_well(fixture);
	config_fixture_write_file(fixture->file, text, size);
	assert_int_equal(config_fixture_load(fixture), -EFBIG);
	assert_non_null(strstr(fixture->message, "larger than 1048576 bytes"));
}

static void fragments_are_read_in_name_order_behind_the_file(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	config_fixture_write(fixture, "[consul]\nwait=1s\ndatacenter=a\npartition=a\n");
	config_fixture_write_fragment(fixture, "20.conf", "[consul]\nwait=3s\n");
	config_fixture_write_fragment(fixture, "10.conf", "[consul]\nwait=2s\npartition=b\n");
	config_fixture_write_fragment(fixture, "9.txt", "not a setting");
	config_fixture_write_fragment(fixture, ".hidden.conf", "not a setting");
	config_fixture_write_fragment(fixture, ".conf", "not a setting");
	config = config_fixture_load_well(fixture);
	assert_int_equal(config->wait_usec, 3000000);
	assert_string_equal(config->datacenter, "a");
	assert_string_equal(config->partition, "b");
}

static void an_error_in_a_fragment_names_it(void **state)
{
	struct config_fixture *fixture = *state;

	config_fixture_write_fragment(fixture, "10.conf", "[consul]\nwait=2x\n");
	config_fixture_load_badly(
		fixture, "a.conf.d/10.conf:2: [consul] wait: '2x' is not a duration");
}

static void what_two_settings_get_wrong_is_reported_where_one_stands(void **state)
{
	struct config_fixture *fixture = *state;

	config_fixture_write(fixture, "[services]\n\nmax_value=2M\n");
	config_fixture_write_fragment(fixture, "10.conf", "[services]\nmax_service=1M\n");
	config_fixture_load_badly(fixture, "a.conf:3: [services] max_value");
}

static void defaults_move_with_what_was_set(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	config_fixture_write(fixture, "[consul]\nwait=8min\n[services]\nmax_service=1M\n");
	config = config_fixture_load_well(fixture);
	assert_int_equal(config->max_wait_usec, 480000000);
	assert_int_equal(config->max_value, 1 << 20);
}

static void a_list_goes_on_in_its_file_and_starts_over_in_the_next(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	config_fixture_write(
		fixture, "[services]\npreload=a b\npreload=c\n[service s]\nlayers=a/\nlayers=b/\n");
	config = config_fixture_load_well(fixture);
	assert_int_equal(config->n_preload, 3);
	assert_string_equal(config->preload[2], "c");
	config_fixture_check_layers(config, "s", "a/ b/");
	config_fixture_write_fragment(
		fixture, "10.conf", "[services]\npreload=d\n[service s]\nlayers=c/\n");
	config = config_fixture_load_well(fixture);
	assert_int_equal(config->n_preload, 1);
	assert_string_equal(config->preload[0], "d");
	config_fixture_check_layers(config, "s", "c/");
}

static void an_empty_value_takes_a_setting_back(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	setenv("CONSUL_NAMESPACE", "team", 1);
	config_fixture_write(
		fixture, "[consul]\ndatacenter=fra1\nnamespace=\n[services]\npreload=a\n");
	config_fixture_write_fragment(
		fixture, "10.conf", "[consul]\ndatacenter=\n[services]\npreload=\n");
	config = config_fixture_load_well(fixture);
	assert_null(config->datacenter);
	assert_null(config->namespace);
	assert_int_equal(config->n_preload, 0);
}

static void the_command_line_beats_the_file(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	config_fixture_write(fixture,
		"[source]\ntype=consul\n[consul]\nwait=1s\naddress=a b\n"
		"[socket]\npath=/file\n[labels]\nenv=file\n[service a.b]\nlayers=f/\n");
	config_fixture_set(fixture, "consul.wait=2s");
	config_fixture_set(fixture, "consul.address=c d");
	config_fixture_set(fixture, "consul.wait=3s");
	config_fixture_set(fixture, "labels.env=set");
	config_fixture_set(fixture, "service a.b.layers={env}/ a=b/");
	fixture->options.socket_path = "/option";
	fixture->options.log_level = "debug";
	config = config_fixture_load_well(fixture);
	assert_int_equal(config->wait_usec, 3000000);
	assert_int_equal(config->n_addresses, 2);
	assert_string_equal(config->addresses[0], "http://c");
	config_fixture_check_layers(config, "a.b", "set/ a=b/");
	assert_string_equal(config->socket_path, "/option");
	assert_int_equal(config->log_level, LOG_LEVEL_DEBUG);
}

static void a_bad_setting_of_the_command_line_names_its_option(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{ "consul.wait=2x", "--set: [consul] wait: '2x'" },
		{ "consul.token=5ca1ab1e", "--set: [consul] token: " },
		{ "consul.foo=5ca1ab1e", "--set: [consul] foo: unknown key" },
		{ "consol.wait=2s", "--set: [consol] unknown section" },
		{ "service a.layers=x", "--set: [service a] layers: 'x'" },
		{ "service a/b.layers=x/", "--set: [service a/b] this is neither" },
		{ "exit.idle=never", "--set: [exit] idle: 'never' is not a duration" },
		{ "wait=2s", "SECTION.KEY=VALUE" },
		{ "consul.wait", "SECTION.KEY=VALUE" },
		{ ".wait=2s", "SECTION.KEY=VALUE" },
		{ "consul.=2s", "SECTION.KEY=VALUE" },
		{ "", "SECTION.KEY=VALUE" },
		{ "service aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.layers=a/",
			"49" },
	};
	struct config_fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fixture->options.n_sets = 0;
		config_fixture_set(fixture, rows[i].text);
		config_fixture_load_badly(fixture, rows[i].says);
	}
}

static void the_source_option_names_consul_or_a_directory(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	config_fixture_write(fixture, "[source]\ntype=dir\ndir=/tree\n[consul]\naddress=a b\n");
	fixture->options.source = "consul";
	config = config_fixture_load_well(fixture);
	assert_int_equal(config->source, CONFIG_SOURCE_CONSUL);
	assert_int_equal(config->n_addresses, 2);
	fixture->options.source = "consul:https://c:1/";
	config = config_fixture_load_well(fixture);
	assert_int_equal(config->source, CONFIG_SOURCE_CONSUL);
	config_fixture_check_address(config, "https://c:1");
	fixture->options.source = "consul:c:1";
	config_fixture_check_address(config_fixture_load_well(fixture), "http://c:1");
	fixture->options.source = "dir:./else where";
	config = config_fixture_load_well(fixture);
	assert_int_equal(config->source, CONFIG_SOURCE_DIR);
	assert_int_equal(config->dir[0], '/');
	assert_non_null(strstr(config->dir, "/./else where"));
}

static void a_bad_option_is_refused(void **state)
{
	struct config_fixture *fixture = *state;
	static const char *const sources[] = { "", "dir", "dir:", "consul:", "consul:ftp://x",
		"consul:http://u:5ca1ab1e@x", "/tree", "etcd:x" };
	char path[120];

	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		fixture->options.source = sources[i];
		config_fixture_load_badly(fixture, "--source: ");
	}
	fixture->options.source = NULL;
	fixture->options.log_level = "loud";
	config_fixture_load_badly(fixture, "--log-level: ");
	fixture->options.log_level = NULL;
	fixture->options.socket_path = "";
	config_fixture_load_badly(fixture, "--socket: ");
	memset(path, 'x', sizeof(path) - 1);
	path[107] = '\0';
	fixture->options.socket_path = path;
	config_fixture_load_well(fixture);
	path[107] = 'x';
	path[108] = '\0';
	config_fixture_load_badly(fixture, "has 108 bytes and the kernel takes 107");
	fixture->options.socket_path = NULL;
	fixture->options.runtime_directory = path;
	config_fixture_load_badly(fixture, "--socket");
}

static void too_much_of_anything_is_refused(void **state)
{
	struct config_fixture *fixture = *state;
	char *text = NULL;
	size_t size;
	FILE *out;

	out = open_memstream(&text, &size);
	for (int i = 0; i <= LIMIT_CONFIG_RULES; i++)
		fprintf(out, "[service s%d]\n", i);
	fclose(out);
	config_fixture_write(fixture, text);
	config_fixture_load_badly(fixture, ":1025: ");
	free(text);
	out = open_memstream(&text, &size);
	fputs("[labels]\n", out);
	for (int i = 0; i <= LIMIT_CONFIG_LABELS; i++)
		fprintf(out, "l%d=x\n", i);
	fclose(out);
	config_fixture_write(fixture, text);
	config_fixture_load_badly(fixture, ":258: ");
	free(text);
	out = open_memstream(&text, &size);
	fputs("[services]\n", out);
	for (int i = 0; i <= LIMIT_CONFIG_WORDS; i++)
		fprintf(out, "preload=s%d\n", i);
	fclose(out);
	config_fixture_write(fixture, text);
	config_fixture_load_badly(fixture, ":1026: ");
	free(text);
}

static void a_failed_load_leaves_the_result_alone(void **state)
{
	struct config_fixture *fixture = *state;
	struct config *config = fixture->config;

	config_fixture_write(fixture, "[consul]\nwait=x\n");
	assert_int_equal(config_load(&fixture->options, &config, &fixture->message), -EINVAL);
	assert_ptr_equal(config, fixture->config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_settings_the_documented_defaults_hold),
		TEST(each_key_arrives_in_its_field),
		TEST(good_files_of_the_corpus_load_and_bad_ones_fail_in_the_right_line),
		TEST(a_named_file_must_exist),
		TEST(what_is_no_file_is_refused),
		TEST(the_null_device_is_an_empty_file),
		TEST(a_file_above_a_megabyte_is_refused),
		TEST(fragments_are_read_in_name_order_behind_the_file),
		TEST(an_error_in_a_fragment_names_it),
		TEST(what_two_settings_get_wrong_is_reported_where_one_stands),
		TEST(defaults_move_with_what_was_set),
		TEST(a_list_goes_on_in_its_file_and_starts_over_in_the_next),
		TEST(an_empty_value_takes_a_setting_back),
		TEST(the_command_line_beats_the_file),
		TEST(a_bad_setting_of_the_command_line_names_its_option),
		TEST(the_source_option_names_consul_or_a_directory),
		TEST(a_bad_option_is_refused),
		TEST(too_much_of_anything_is_refused),
		TEST(a_failed_load_leaves_the_result_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
