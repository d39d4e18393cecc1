#include "config-fixture.h"

#include <sys/stat.h>

static const char *const variables[] = { "CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN",
	"CONSUL_HTTP_TOKEN_FILE", "CONSUL_HTTP_AUTH", "CONSUL_HTTP_SSL", "CONSUL_HTTP_SSL_VERIFY",
	"CONSUL_CACERT", "CONSUL_CAPATH", "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY",
	"CONSUL_TLS_SERVER_NAME", "CONSUL_NAMESPACE", "CONSUL_PARTITION", "RUNTIME_DIRECTORY",
	"STATE_DIRECTORY" };

void config_fixture_write_file(const char *path, const void *data, size_t len)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

void config_fixture_write(struct config_fixture *fixture, const char *text)
{
	config_fixture_write_file(fixture->file, text, strlen(text));
}

void config_fixture_write_fragment(
	struct config_fixture *fixture, const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s.d", fixture->file);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s.d/%s", fixture->file, name);
	config_fixture_write_file(path, text, strlen(text));
}

int config_fixture_set_up(void **state)
{
	struct config_fixture *fixture = calloc(1, sizeof(*fixture));

	for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
		unsetenv(variables[i]);
	strcpy(fixture->dir, "/tmp/test-config.XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	snprintf(fixture->file, sizeof(fixture->file), "%s/a.conf", fixture->dir);
	fixture->options.config_file = fixture->file;
	config_fixture_write(fixture, "");
	*state = fixture;
	return 0;
}

int config_fixture_tear_down(void **state)
{
	struct config_fixture *fixture = *state;
	char command[128];

	config_free(fixture->config);
	free(fixture->message);
	snprintf(command, sizeof(command), "rm -rf --one-file-system %s", fixture->dir);
	assert_int_equal(system(command), 0);
	free(fixture);
	return 0;
}

int config_fixture_load(struct config_fixture *fixture)
{
	fixture->config = config_free(fixture->config);
	free(fixture->message);
	fixture->message = NULL;
	return config_load(&fixture->options, &fixture->config, &fixture->message);
}

const struct config *config_fixture_load_well(struct config_fixture *fixture)
{
	int r = config_fixture_load(fixture);

	if (r < 0)
		fail_msg("%s", fixture->message);
	return fixture->config;
}

void config_fixture_load_badly(struct config_fixture *fixture, const char *says)
{
	assert_int_equal(config_fixture_load(fixture), -EINVAL);
	if (!strstr(fixture->message, says))
		fail_msg("no '%s' in: %s", says, fixture->message);
	if (strchr(fixture->message, '\n') || strstr(fixture->message, "5ca1ab1e"))
		fail_msg("not for a log: %s", fixture->message);
}

void config_fixture_set(struct config_fixture *fixture, const char *text)
{
	fixture->options.sets[fixture->options.n_sets++] = text;
}

void config_fixture_check_layers(
	const struct config *config, const char *service, const char *expected)
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

void config_fixture_check_address(const struct config *config, const char *expected)
{
	assert_int_equal(config->n_addresses, 1);
	assert_string_equal(config->addresses[0], expected);
}
