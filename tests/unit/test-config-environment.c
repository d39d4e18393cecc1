#include "config-fixture.h"

#include <limits.h>

static void directories_come_from_option_manager_or_default(void **state)
{
	struct config_fixture *fixture = *state;
	AUTO_FREE char *here = get_current_dir_name();
	const struct config *config;
	char path[PATH_MAX];

	assert_non_null(here);
	setenv("RUNTIME_DIRECTORY", "/run/one:/run/two", 1);
	setenv("STATE_DIRECTORY", "/var/lib/one", 1);
	config = config_fixture_load_well(fixture);
	assert_string_equal(config->runtime_directory, "/run/one");
	assert_string_equal(config->state_directory, "/var/lib/one");
	assert_string_equal(config->socket_path, "/run/one/socket");
	fixture->options.runtime_directory = "run";
	fixture->options.state_directory = "state";
	config = config_fixture_load_well(fixture);
	snprintf(path, sizeof(path), "%s/run", here);
	assert_string_equal(config->runtime_directory, path);
	snprintf(path, sizeof(path), "unix:%s/run/admin", here);
	assert_string_equal(config->admin_listen, path);
	snprintf(path, sizeof(path), "%s/state", here);
	assert_string_equal(config->state_directory, path);
	fixture->options.socket_path = "socket";
	assert_string_equal(config_fixture_load_well(fixture)->socket_path, "socket");
	fixture->options.runtime_directory = NULL;
	setenv("RUNTIME_DIRECTORY", "", 1);
	assert_string_equal(
		config_fixture_load_well(fixture)->runtime_directory, "/run/consulcfgd");
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
	config = config_fixture_load_well(*state);
	config_fixture_check_address(config, "https://consul.example:8501");
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
	struct config_fixture *fixture = *state;
	const struct config *config;

	setenv("CONSUL_HTTP_ADDR", "env:1", 1);
	setenv("CONSUL_HTTP_SSL_VERIFY", "false", 1);
	setenv("CONSUL_HTTP_TOKEN_FILE", "/env", 1);
	setenv("CONSUL_CACERT", "/env", 1);
	config_fixture_write(fixture, "[consul]\naddress=file:2\nverify=yes\ntoken_file=/file\n");
	config = config_fixture_load_well(fixture);
	config_fixture_check_address(config, "http://file:2");
	assert_true(config->verify);
	assert_string_equal(config->token_file, "/file");
	assert_string_equal(config->ca_file, "/env");
}

static void a_credential_of_the_manager_is_the_token_file_when_nothing_else_is(void **state)
{
	struct config_fixture *fixture = *state;
	char path[192];

	setenv("CREDENTIALS_DIRECTORY", fixture->dir, 1);
	assert_null(config_fixture_load_well(fixture)->token_file);
	snprintf(path, sizeof(path), "%s/consul-token", fixture->dir);
	config_fixture_write_file(path, " ", 1);
	assert_null(config_fixture_load_well(fixture)->token_file);
	config_fixture_write_file(path, "5ca1ab1e", 8);
	assert_string_equal(config_fixture_load_well(fixture)->token_file, path);
	setenv("CONSUL_HTTP_TOKEN", "5ca1ab1e", 1);
	assert_null(config_fixture_load_well(fixture)->token_file);
	unsetenv("CONSUL_HTTP_TOKEN");
	config_fixture_write(fixture, "[consul]\ntoken_file=/file\n");
	assert_string_equal(config_fixture_load_well(fixture)->token_file, "/file");
	assert_return_code(unlink(path), errno);
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
		config_fixture_check_address(config_fixture_load_well(*state), rows[i].url);
	}
}

static void ssl_of_the_environment_is_for_addresses_without_a_scheme(void **state)
{
	struct config_fixture *fixture = *state;
	const struct config *config;

	setenv("CONSUL_HTTP_SSL", "true", 1);
	config_fixture_write(fixture, "[consul]\naddress=a:1 http://b:2\n");
	config = config_fixture_load_well(fixture);
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
		{ "CONSUL_TLS_SERVER_NAME", "server.evil.example/server" },
		{ "CONSUL_TLS_SERVER_NAME", "server:8501:8502" },
		{ "CONSUL_HTTP_ADDR", "http://user:5ca1ab1e@a" },
		{ "CONSUL_HTTP_TOKEN", "5ca1ab1e\n" },
		{ "CONSUL_HTTP_AUTH", "user:5ca1ab1e\r\nX: y" },
	};
	char says[64];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		setenv(rows[i].name, rows[i].value, 1);
		snprintf(says, sizeof(says), "%s: ", rows[i].name);
		config_fixture_load_badly(*state, says);
		unsetenv(rows[i].name);
	}
	setenv("CONSUL_CLIENT_CERT", "/cert", 1);
	config_fixture_load_badly(*state, "CONSUL_CLIENT_KEY");
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
			config_fixture_check_address(config_fixture_load_well(*state), rows[i].url);
		else
			config_fixture_load_badly(
				*state, "CONSUL_HTTP_ADDR: this is not an address");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(directories_come_from_option_manager_or_default),
		TEST(the_environment_of_consuls_tools_is_read),
		TEST(the_file_beats_the_environment),
		TEST(a_credential_of_the_manager_is_the_token_file_when_nothing_else_is),
		TEST(an_address_of_the_environment_becomes_a_url),
		TEST(ssl_of_the_environment_is_for_addresses_without_a_scheme),
		TEST(a_bad_variable_is_an_error_that_does_not_show_it),
		TEST(an_address_reads_one_way_or_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
