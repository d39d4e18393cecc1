#include "test.h"

#include <dirent.h>
#include <sys/stat.h>

#include "daemon/access.h"
#include "daemon/config.h"
#include "daemon/options.h"

/* A directory of its own for each test, and what was loaded last. */
struct fixture {
	char dir[64];
	char file[128];
	struct options options;
	struct config *config;
	char *message;
};

static const char *const variables[] = { "CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN",
	"CONSUL_HTTP_TOKEN_FILE", "CONSUL_HTTP_AUTH", "CONSUL_HTTP_SSL", "CONSUL_HTTP_SSL_VERIFY",
	"CONSUL_CACERT", "CONSUL_CAPATH", "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY",
	"CONSUL_TLS_SERVER_NAME", "CONSUL_NAMESPACE", "CONSUL_PARTITION", "RUNTIME_DIRECTORY",
	"STATE_DIRECTORY" };

static void write_file(const char *path, const void *data, size_t len)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static void write_config(struct fixture *fixture, const char *text)
{
	write_file(fixture->file, text, strlen(text));
}

/* F.d/NAME */
static void write_fragment(struct fixture *fixture, const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s.d", fixture->file);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s.d/%s", fixture->file, name);
	write_file(path, text, strlen(text));
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
		unsetenv(variables[i]);
	strcpy(fixture->dir, "/tmp/test-config.XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	snprintf(fixture->file, sizeof(fixture->file), "%s/a.conf", fixture->dir);
	fixture->options.config_file = fixture->file;
	write_config(fixture, "");
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	char command[128];

	config_free(fixture->config);
	free(fixture->message);
	snprintf(command, sizeof(command), "rm -rf --one-file-system %s", fixture->dir);
	assert_int_equal(system(command), 0);
	free(fixture);
	return 0;
}

static int load(struct fixture *fixture)
{
	fixture->config = config_free(fixture->config);
	free(fixture->message);
	fixture->message = NULL;
	return config_load(&fixture->options, &fixture->config, &fixture->message);
}

static const struct config *load_well(struct fixture *fixture)
{
	int r = load(fixture);

	if (r < 0)
		fail_msg("%s", fixture->message);
	return fixture->config;
}

static void load_badly(struct fixture *fixture, const char *says)
{
	assert_int_equal(load(fixture), -EINVAL);
	if (!strstr(fixture->message, says))
		fail_msg("no '%s' in: %s", says, fixture->message);
	if (strchr(fixture->message, '\n') || strstr(fixture->message, "5ca1ab1e"))
		fail_msg("not for a log: %s", fixture->message);
}

static void set_option(struct fixture *fixture, const char *text)
{
	fixture->options.sets[fixture->options.n_sets++] = text;
}

static void check_layers(const struct config *config, const char *service, const char *expected)
{
	char *prefixes[LIMIT_LAYERS], text[1024] = "";
	int n = config_layers(config, service, prefixes);

	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		strcat(strcat(text, i > 0 ? " " : ""), prefixes[i]);
		free(prefixes[i]);
	}
	assert_string_equal(text, expected);
}

static void check_address(const struct config *config, const char *expected)
{
	assert_int_equal(config->n_addresses, 1);
	assert_string_equal(config->addresses[0], expected);
}

static void without_settings_the_documented_defaults_hold(void **state)
{
	const struct config *config = load_well(*state);
	char host[256] = "";

	assert_int_equal(config->source, CONFIG_SOURCE_CONSUL);
	assert_null(config->dir);
	assert_false(config->keep_newline);
	assert_false(config->flat);
	check_address(config, "http://127.0.0.1:8500");
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
	check_layers(config, "billing", "config/billing/");
}

static void each_key_arrives_in_its_field(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	write_config(fixture,
		"[source]\ntype=dir\ndir=/tree\nkeep_newline=yes\nflat=on\n"
		"[consul]\naddress=https://a:1 b:2\ntoken_file=/token\ndatacenter=dc\n"
		"namespace=ns\npartition=p\nca_file=/ca\nca_path=/cas\ncert_file=/cert\n"
		"key_file=/key\ntls_server_name=server:8501\nverify=no\nwait=2s\nmax_wait=3s\n"
		"max_connections=5\n"
		"[services]\npreload=x y\nlinger=4s\nresync=5s\nmax_value=6K\nmax_service=7K\n"
		"max_services=8\nhost=h\n"
		"[socket]\npath=/s\ngroup=g\nmode=0600\noperators=user:0 anyone\n"
		"max_clients_per_user=9\n");
	config = load_well(fixture);
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

static void replay(struct fixture *fixture, const char *path, bool is_good)
{
	char text[128], place[600];
	unsigned line;

	fixture->options.config_file = path;
	if (is_good) {
		load_well(fixture);
		return;
	}
	read_expectation(path, &line, text);
	if (load(fixture) != -EINVAL)
		fail_msg("%s was taken", path);
	snprintf(place, sizeof(place), "%s:%u: ", path, line);
	if (strncmp(fixture->message, place, strlen(place)) != 0)
		fail_msg("%s: not line %u: %s", path, line, fixture->message);
	load_badly(fixture, text);
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
	struct fixture *fixture = *state;

	unlink(fixture->file);
	load_badly(fixture, "a.conf: there is no such file");
}

static void what_is_no_file_is_refused(void **state)
{
	struct fixture *fixture = *state;

	fixture->options.config_file = fixture->dir;
	load_badly(fixture, "not a file");
	snprintf(fixture->file, sizeof(fixture->file), "%s/fifo", fixture->dir);
	assert_int_equal(mkfifo(fixture->file, 0600), 0);
	fixture->options.config_file = fixture->file;
	load_badly(fixture, "not a file"); /* and does not wait for a writer */
}

static void the_null_device_is_an_empty_file(void **state)
{
	struct fixture *fixture = *state;

	fixture->options.config_file = "/dev/null";
	load_well(fixture);
}

static void a_file_above_a_megabyte_is_refused(void **state)
{
	struct fixture *fixture = *state;
	size_t size = (1 << 20) + 1;
	AUTO_FREE char *text = malloc(size);

	memset(text, '\n', size);
	write_file(fixture->file, text, size - 1);
	load_well(fixture);
	write_file(fixture->file, text, size);
	assert_int_equal(load(fixture), -EFBIG);
	assert_non_null(strstr(fixture->message, "larger than 1048576 bytes"));
}

static void fragments_are_read_in_name_order_behind_the_file(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	write_config(fixture, "[consul]\nwait=1s\ndatacenter=a\npartition=a\n");
	write_fragment(fixture, "20.conf", "[consul]\nwait=3s\n");
	write_fragment(fixture, "10.conf", "[consul]\nwait=2s\npartition=b\n");
	write_fragment(fixture, "9.txt", "not a setting");
	write_fragment(fixture, ".hidden.conf", "not a setting");
	write_fragment(fixture, ".conf", "not a setting");
	config = load_well(fixture);
	assert_int_equal(config->wait_usec, 3000000);
	assert_string_equal(config->datacenter, "a");
	assert_string_equal(config->partition, "b");
}

static void an_error_in_a_fragment_names_it(void **state)
{
	struct fixture *fixture = *state;

	write_fragment(fixture, "10.conf", "[consul]\nwait=2x\n");
	load_badly(fixture, "a.conf.d/10.conf:2: [consul] wait: '2x' is not a duration");
}

static void what_two_settings_get_wrong_is_reported_where_one_stands(void **state)
{
	struct fixture *fixture = *state;

	write_config(fixture, "[services]\n\nmax_value=2M\n");
	write_fragment(fixture, "10.conf", "[services]\nmax_service=1M\n");
	load_badly(fixture, "a.conf:3: [services] max_value");
}

static void defaults_move_with_what_was_set(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	write_config(fixture, "[consul]\nwait=8min\n[services]\nmax_service=1M\n");
	config = load_well(fixture);
	assert_int_equal(config->max_wait_usec, 480000000);
	assert_int_equal(config->max_value, 1 << 20);
}

static void a_list_goes_on_in_its_file_and_starts_over_in_the_next(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	write_config(
		fixture, "[services]\npreload=a b\npreload=c\n[service s]\nlayers=a/\nlayers=b/\n");
	config = load_well(fixture);
	assert_int_equal(config->n_preload, 3);
	assert_string_equal(config->preload[2], "c");
	check_layers(config, "s", "a/ b/");
	write_fragment(fixture, "10.conf", "[services]\npreload=d\n[service s]\nlayers=c/\n");
	config = load_well(fixture);
	assert_int_equal(config->n_preload, 1);
	assert_string_equal(config->preload[0], "d");
	check_layers(config, "s", "c/");
}

static void an_empty_value_takes_a_setting_back(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	setenv("CONSUL_NAMESPACE", "team", 1);
	write_config(fixture, "[consul]\ndatacenter=fra1\nnamespace=\n[services]\npreload=a\n");
	write_fragment(fixture, "10.conf", "[consul]\ndatacenter=\n[services]\npreload=\n");
	config = load_well(fixture);
	assert_null(config->datacenter);
	assert_null(config->namespace);
	assert_int_equal(config->n_preload, 0);
}

static void the_command_line_beats_the_file(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	write_config(fixture,
		"[source]\ntype=consul\n[consul]\nwait=1s\naddress=a b\n"
		"[socket]\npath=/file\n[labels]\nenv=file\n[service a.b]\nlayers=f/\n");
	set_option(fixture, "consul.wait=2s");
	set_option(fixture, "consul.address=c d");
	set_option(fixture, "consul.wait=3s");
	set_option(fixture, "labels.env=set");
	set_option(fixture, "service a.b.layers={env}/ a=b/");
	fixture->options.socket_path = "/option";
	fixture->options.log_level = "debug";
	config = load_well(fixture);
	assert_int_equal(config->wait_usec, 3000000);
	assert_int_equal(config->n_addresses, 2);
	assert_string_equal(config->addresses[0], "http://c");
	check_layers(config, "a.b", "set/ a=b/");
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
		{ "exit.idle=5min", "--set: [exit] this section is not supported" },
		{ "wait=2s", "SECTION.KEY=VALUE" },
		{ "consul.wait", "SECTION.KEY=VALUE" },
		{ ".wait=2s", "SECTION.KEY=VALUE" },
		{ "consul.=2s", "SECTION.KEY=VALUE" },
		{ "", "SECTION.KEY=VALUE" },
		{ "service aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.layers=a/",
			"49" },
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fixture->options.n_sets = 0;
		set_option(fixture, rows[i].text);
		load_badly(fixture, rows[i].says);
	}
}

static void the_source_option_names_consul_or_a_directory(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	write_config(fixture, "[source]\ntype=dir\ndir=/tree\n[consul]\naddress=a b\n");
	fixture->options.source = "consul";
	config = load_well(fixture);
	assert_int_equal(config->source, CONFIG_SOURCE_CONSUL);
	assert_int_equal(config->n_addresses, 2);
	fixture->options.source = "consul:https://c:1/";
	config = load_well(fixture);
	assert_int_equal(config->source, CONFIG_SOURCE_CONSUL);
	check_address(config, "https://c:1");
	fixture->options.source = "consul:c:1";
	check_address(load_well(fixture), "http://c:1");
	fixture->options.source = "dir:./else where";
	config = load_well(fixture);
	assert_int_equal(config->source, CONFIG_SOURCE_DIR);
	assert_string_equal(config->dir, "./else where");
}

static void a_bad_option_is_refused(void **state)
{
	struct fixture *fixture = *state;
	static const char *const sources[] = { "", "dir", "dir:", "consul:", "consul:ftp://x",
		"consul:http://u:5ca1ab1e@x", "/tree", "etcd:x" };
	char path[120];

	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		fixture->options.source = sources[i];
		load_badly(fixture, "--source: ");
	}
	fixture->options.source = NULL;
	fixture->options.log_level = "loud";
	load_badly(fixture, "--log-level: ");
	fixture->options.log_level = NULL;
	fixture->options.socket_path = "";
	load_badly(fixture, "--socket: ");
	memset(path, 'x', sizeof(path) - 1);
	path[107] = '\0';
	fixture->options.socket_path = path;
	load_well(fixture);
	path[107] = 'x';
	path[108] = '\0';
	load_badly(fixture, "has 108 bytes and the kernel takes 107");
	fixture->options.socket_path = NULL;
	fixture->options.runtime_directory = path;
	load_badly(fixture, "--socket");
}

static void directories_come_from_option_manager_or_default(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	setenv("RUNTIME_DIRECTORY", "/run/one:/run/two", 1);
	setenv("STATE_DIRECTORY", "/var/lib/one", 1);
	config = load_well(fixture);
	assert_string_equal(config->runtime_directory, "/run/one");
	assert_string_equal(config->state_directory, "/var/lib/one");
	assert_string_equal(config->socket_path, "/run/one/socket");
	fixture->options.runtime_directory = "run";
	fixture->options.state_directory = "state";
	config = load_well(fixture);
	assert_string_equal(config->runtime_directory, "run");
	assert_string_equal(config->state_directory, "state");
	assert_string_equal(config->socket_path, "run/socket");
	fixture->options.runtime_directory = NULL;
	setenv("RUNTIME_DIRECTORY", "", 1);
	assert_string_equal(load_well(fixture)->runtime_directory, "/run/consulcfgd");
}

static void the_environment_of_consuls_tools_is_read(void **state)
{
	const struct config *config;

	setenv("CONSUL_HTTP_ADDR", "consul.example:8501", 1);
	setenv("CONSUL_HTTP_SSL", "true", 1);
	setenv("CONSUL_HTTP_SSL_VERIFY", "F", 1);
	setenv("CONSUL_HTTP_TOKEN", "5ca1ab1e", 1);
	setenv("CONSUL_HTTP_TOKEN_FILE", "token", 1);
	setenv("CONSUL_HTTP_AUTH", "user:5ca1ab1e", 1);
	setenv("CONSUL_CACERT", "ca", 1);
	setenv("CONSUL_CAPATH", "cas", 1);
	setenv("CONSUL_CLIENT_CERT", "cert", 1);
	setenv("CONSUL_CLIENT_KEY", "key", 1);
	setenv("CONSUL_TLS_SERVER_NAME", "[::1]:8501", 1);
	setenv("CONSUL_NAMESPACE", "ns", 1);
	setenv("CONSUL_PARTITION", "p", 1);
	config = load_well(*state);
	check_address(config, "https://consul.example:8501");
	assert_false(config->verify);
	assert_string_equal(config->token, "5ca1ab1e");
	assert_string_equal(config->token_file, "token");
	assert_string_equal(config->auth, "user:5ca1ab1e");
	assert_string_equal(config->ca_file, "ca");
	assert_string_equal(config->ca_path, "cas");
	assert_string_equal(config->cert_file, "cert");
	assert_string_equal(config->key_file, "key");
	assert_string_equal(config->tls_server_name, "[::1]");
	assert_string_equal(config->namespace, "ns");
	assert_string_equal(config->partition, "p");
}

static void the_file_beats_the_environment(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	setenv("CONSUL_HTTP_ADDR", "env:1", 1);
	setenv("CONSUL_HTTP_SSL_VERIFY", "false", 1);
	setenv("CONSUL_HTTP_TOKEN_FILE", "/env", 1);
	setenv("CONSUL_CACERT", "/env", 1);
	write_config(fixture, "[consul]\naddress=file:2\nverify=yes\ntoken_file=/file\n");
	config = load_well(fixture);
	check_address(config, "http://file:2");
	assert_true(config->verify);
	assert_string_equal(config->token_file, "/file");
	assert_string_equal(config->ca_file, "/env");
}

static void an_address_of_the_environment_becomes_a_url(void **state)
{
	static const struct {
		const char *address, *ssl, *url;
	} rows[] = {
		{ "a:1", "", "http://a:1" },
		{ "a:1", "0", "http://a:1" },
		{ "a:1", "1", "https://a:1" },
		{ "http://a:1", "1", "https://a:1" }, /* http:// does not undo SSL */
		{ "https://a:1", "0", "https://a:1" },
		{ "unix:///x", "1", "unix:///x" },
		{ "", "1", "https://127.0.0.1:8500" },
		{ "", "", "http://127.0.0.1:8500" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		setenv("CONSUL_HTTP_ADDR", rows[i].address, 1);
		setenv("CONSUL_HTTP_SSL", rows[i].ssl, 1);
		check_address(load_well(*state), rows[i].url);
	}
}

static void ssl_of_the_environment_is_for_addresses_without_a_scheme(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	setenv("CONSUL_HTTP_SSL", "true", 1);
	write_config(fixture, "[consul]\naddress=a:1 http://b:2\n");
	config = load_well(fixture);
	assert_string_equal(config->addresses[0], "https://a:1");
	assert_string_equal(config->addresses[1], "http://b:2");
}

static void a_bad_variable_is_an_error_that_does_not_show_it(void **state)
{
	static const struct {
		const char *name, *value;
	} rows[] = {
		{ "CONSUL_HTTP_SSL", "yes" },
		{ "CONSUL_HTTP_SSL_VERIFY", "yes" }, /* Consul's tools take this for "no" */
		{ "CONSUL_HTTP_SSL_VERIFY", " true" },
		{ "CONSUL_HTTP_ADDR", "ftp://a" },
		{ "CONSUL_HTTP_ADDR", "http://user:5ca1ab1e@a" },
		{ "CONSUL_HTTP_TOKEN", "5ca1ab1e\n" },
		{ "CONSUL_HTTP_AUTH", "user:5ca1ab1e\r\nX: y" },
	};
	char says[64];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		setenv(rows[i].name, rows[i].value, 1);
		snprintf(says, sizeof(says), "%s: ", rows[i].name);
		load_badly(*state, says);
		unsetenv(rows[i].name);
	}
	setenv("CONSUL_CLIENT_CERT", "/cert", 1);
	load_badly(*state, "CONSUL_CLIENT_KEY");
}

static void an_address_reads_one_way_or_is_refused(void **state)
{
	static const struct {
		const char *text, *url; /* NULL: refused */
	} rows[] = {
		{ "localhost", "http://localhost" },
		{ "10.0.0.1:8500", "http://10.0.0.1:8500" },
		{ "[::1]:8500", "http://[::1]:8500" },
		{ "[fe80::1]", "http://[fe80::1]" },
		{ "https://a", "https://a" },
		{ "http://a:8500/", "http://a:8500" },
		{ "http://a//", "http://a" },
		{ "a/consul/", "http://a/consul" },
		{ "http://a/%7Ex/y", "http://a/%7Ex/y" },
		{ "unix:///run/consul.sock", "unix:///run/consul.sock" },
		{ "http://", NULL },
		{ "http:///x", NULL },
		{ ":8500", NULL },
		{ "a:", NULL },
		{ "a:0", NULL },
		{ "a:65536", NULL },
		{ "a:80x", NULL },
		{ "a:-1", NULL },
		{ "::1", NULL },
		{ "[::1", NULL },
		{ "[]", NULL },
		{ "[::1]x", NULL },
		{ "a b", NULL },
		{ "a\"b", NULL },
		{ "a?x=y", NULL },
		{ "a/#x", NULL },
		{ "a/../b", NULL },
		{ "a//b", NULL },
		{ "user@a", NULL },
		{ "HTTP://a", NULL },
		{ "tcp://a", NULL },
		{ "unix://x", NULL },
		{ "unix://", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		setenv("CONSUL_HTTP_ADDR", rows[i].text, 1);
		if (rows[i].url)
			check_address(load_well(*state), rows[i].url);
		else
			load_badly(*state, "CONSUL_HTTP_ADDR: this is not an address");
	}
}

static void the_first_rule_that_matches_decides(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	write_config(fixture, "[service billing]\nlayers=exact/\n[service b*g]\nlayers=glob/\n"
			      "[service b?ll*]\nlayers=mark/\n[service *-api-*]\nlayers=two/\n");
	config = load_well(fixture);
	check_layers(config, "billing", "exact/");
	check_layers(config, "bing", "glob/");
	check_layers(config, "bg", "glob/");
	check_layers(config, "bull", "mark/");
	check_layers(config, "bll", "config/bll/");
	check_layers(config, "a-ap-api-b", "two/");
	check_layers(config, "a-api", "config/a-api/");
	check_layers(config, "Billing", "config/Billing/");
	assert_null(config_rule_for(config, "other"));
}

static void the_star_section_sets_defaults_wherever_it_stands(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	write_config(fixture, "[service *]\nlayers=all/ {service}/\naccess=user:0\n"
			      "[service a]\nlayers=a/\n[service b]\naccess=anyone\n[service c]\n");
	config = load_well(fixture);
	check_layers(config, "a", "a/");
	assert_string_equal(config_rule_for(config, "a")->access[0], "user:0");
	assert_int_equal(config_rule_for(config, "a")->access_subjects[0].kind, ACCESS_USER);
	check_layers(config, "b", "all/ b/");
	assert_string_equal(config_rule_for(config, "b")->access[0], "anyone");
	check_layers(config, "c", "all/ c/");
	check_layers(config, "d", "all/ d/");
	assert_int_equal(config_rule_for(config, "d")->n_access, 1);
}

static void a_rule_may_be_spread_over_files(void **state)
{
	struct fixture *fixture = *state;
	const struct config_rule *rule;

	write_config(fixture, "[service a]\nlayers=a/\naccess=anyone\n[service *]\nlayers=z/\n");
	write_fragment(fixture, "10.conf", "[service a]\naccess=user:0 group:0\n");
	rule = config_rule_for(load_well(fixture), "a");
	assert_string_equal(rule->layers[0], "a/");
	assert_int_equal(rule->n_access, 2);
	assert_string_equal(rule->access[1], "group:0");
	assert_int_equal(rule->access_subjects[1].kind, ACCESS_GROUP);
}

static void layers_take_service_host_and_labels(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	write_config(fixture, "[services]\nhost=app-17\n[labels]\nenv=eu/prod\nRole_2=web\n"
			      "[service *]\nlayers=c/{env}/{Role_2}/ {host}-{service}{service}/\n");
	config = load_well(fixture);
	check_layers(config, "a", "c/eu/prod/web/ app-17-aa/");
}

static void a_prefix_that_comes_twice_stays_on_top(void **state)
{
	struct fixture *fixture = *state;
	const struct config *config;

	write_config(fixture, "[service *]\nlayers=c/{service}/ c/x/ c/common/\n");
	config = load_well(fixture);
	check_layers(config, "a", "c/a/ c/x/ c/common/");
	check_layers(config, "common", "c/x/ c/common/");
	check_layers(config, "x", "c/x/ c/common/");
}

static void an_unknown_user_matches_nobody_and_is_no_error(void **state)
{
	struct fixture *fixture = *state;
	const struct config_rule *rule;

	log_set_level(LOG_LEVEL_ERROR);
	write_config(fixture, "[service a]\naccess=user:no-such-user-here group:no-such-group\n");
	rule = config_rule_for(load_well(fixture), "a");
	assert_int_equal(rule->n_access, 2);
	assert_int_equal(rule->access_subjects[0].kind, ACCESS_NOBODY);
	assert_int_equal(rule->access_subjects[1].kind, ACCESS_NOBODY);
	log_set_level(LOG_LEVEL_INFO);
}

static void too_much_of_anything_is_refused(void **state)
{
	struct fixture *fixture = *state;
	char *text = NULL;
	size_t size;
	FILE *out;

	out = open_memstream(&text, &size);
	for (int i = 0; i <= LIMIT_CONFIG_RULES; i++)
		fprintf(out, "[service s%d]\n", i);
	fclose(out);
	write_config(fixture, text);
	load_badly(fixture, ":1025: ");
	free(text);
	out = open_memstream(&text, &size);
	fputs("[labels]\n", out);
	for (int i = 0; i <= LIMIT_CONFIG_LABELS; i++)
		fprintf(out, "l%d=x\n", i);
	fclose(out);
	write_config(fixture, text);
	load_badly(fixture, ":258: ");
	free(text);
	out = open_memstream(&text, &size);
	fputs("[services]\n", out);
	for (int i = 0; i <= LIMIT_CONFIG_WORDS; i++)
		fprintf(out, "preload=s%d\n", i);
	fclose(out);
	write_config(fixture, text);
	load_badly(fixture, ":1026: ");
	free(text);
}

static void a_failed_load_leaves_the_result_alone(void **state)
{
	struct fixture *fixture = *state;
	struct config *config = fixture->config;

	write_config(fixture, "[consul]\nwait=x\n");
	assert_int_equal(config_load(&fixture->options, &config, &fixture->message), -EINVAL);
	assert_ptr_equal(config, fixture->config);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
		TEST(directories_come_from_option_manager_or_default),
		TEST(the_environment_of_consuls_tools_is_read),
		TEST(the_file_beats_the_environment),
		TEST(an_address_of_the_environment_becomes_a_url),
		TEST(ssl_of_the_environment_is_for_addresses_without_a_scheme),
		TEST(a_bad_variable_is_an_error_that_does_not_show_it),
		TEST(an_address_reads_one_way_or_is_refused),
		TEST(the_first_rule_that_matches_decides),
		TEST(the_star_section_sets_defaults_wherever_it_stands),
		TEST(a_rule_may_be_spread_over_files),
		TEST(layers_take_service_host_and_labels),
		TEST(a_prefix_that_comes_twice_stays_on_top),
		TEST(an_unknown_user_matches_nobody_and_is_no_error),
		TEST(too_much_of_anything_is_refused),
		TEST(a_failed_load_leaves_the_result_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
