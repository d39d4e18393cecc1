/*
 * Reads CONSUL_* into a draft, below the configuration files. Knows hashicorp/consul api/api.go; an
 * empty variable is an absent one, as there.
 */
#include "daemon/config-environment.h"

#include "daemon/config-address.h"
#include "daemon/config-table.h"

static const struct {
	const char *name;
	size_t offset; /* of a char * in struct config */
} strings[] = {
	{ "CONSUL_HTTP_TOKEN", offsetof(struct config, token) },
	{ "CONSUL_HTTP_TOKEN_FILE", offsetof(struct config, token_file) },
	{ "CONSUL_HTTP_AUTH", offsetof(struct config, auth) },
	{ "CONSUL_CACERT", offsetof(struct config, ca_file) },
	{ "CONSUL_CAPATH", offsetof(struct config, ca_path) },
	{ "CONSUL_CLIENT_CERT", offsetof(struct config, cert_file) },
	{ "CONSUL_CLIENT_KEY", offsetof(struct config, key_file) },
	{ "CONSUL_NAMESPACE", offsetof(struct config, namespace) },
	{ "CONSUL_PARTITION", offsetof(struct config, partition) },
};

/* The value of a variable, NULL when absent or empty. It becomes the place of messages. */
static const char *look_up(struct config_draft *draft, const char *name)
{
	const char *value = getenv(name);

	config_draft_enter(draft, name);
	return value && *value != '\0' ? value : NULL;
}

/* These go into the lines of requests. */
static int check_bytes(struct config_draft *draft, const char *value)
{
	for (const char *p = value; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return config_draft_fail(draft,
				"the value holds a control byte, perhaps a newline; remove it");
	return 0;
}

/* The words of Go's strconv.ParseBool(), no others: "yes" means false to Consul's tools. */
static int apply_bool(struct config_draft *draft, const char *name, bool *target)
{
	static const char *const words[][6] = {
		{ "0", "f", "F", "false", "FALSE", "False" },
		{ "1", "t", "T", "true", "TRUE", "True" },
	};
	const char *value = look_up(draft, name);

	if (!value)
		return 0;
	for (int truth = 0; truth <= 1; truth++)
		for (size_t i = 0; i < ARRAY_SIZE(words[truth]); i++)
			if (std_streq(value, words[truth][i])) {
				*target = truth;
				return 0;
			}
	return config_draft_fail(draft, "the value is not a boolean; write true or false");
}

/* http:// does not undo CONSUL_HTTP_SSL. */
static int apply_address(struct config_draft *draft)
{
	const char *value = look_up(draft, "CONSUL_HTTP_ADDR");
	AUTO_FREE char *address = NULL;
	const char *why;
	int r;

	if (!value)
		return 0;
	if (draft->https && strncmp(value, "http://", 7) == 0)
		value += 7;
	r = config_address_normalise(value, draft->https, &address, &why);
	if (r == -EINVAL)
		return config_draft_fail(
			draft, "this is not an address: %s; " CONFIG_ADDRESS_FORMS, why);
	if (r < 0)
		return r;
	return config_table_set_address(draft, address);
}

static int apply_strings(struct config_draft *draft)
{
	for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
		const char *value = look_up(draft, strings[i].name);
		char **target = (char **)(void *)((char *)draft->config + strings[i].offset);
		int r;

		if (!value)
			continue;
		r = check_bytes(draft, value);
		if (r == 0)
			r = config_draft_set_string(target, value);
		if (r < 0)
			return r;
	}
	return 0;
}

static int apply_server_name(struct config_draft *draft)
{
	const char *value = look_up(draft, "CONSUL_TLS_SERVER_NAME");
	const char *why = value ? config_address_check_server_name(value) : NULL;

	if (why)
		return config_draft_fail(draft, "this is not the name of a server: %s", why);
	return value ? config_draft_set_string(&draft->config->tls_server_name, value) : 0;
}

int config_environment_apply(struct config_draft *draft)
{
	int r;

	r = apply_bool(draft, "CONSUL_HTTP_SSL", &draft->https);
	if (r == 0)
		r = apply_bool(draft, "CONSUL_HTTP_SSL_VERIFY", &draft->config->verify);
	if (r == 0)
		r = apply_address(draft);
	if (r == 0)
		r = apply_server_name(draft);
	if (r == 0)
		r = apply_strings(draft);
	return r;
}
