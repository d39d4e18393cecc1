/*
 * The table of settings and the parsers of its columns. Knows every key of the five sections, and
 * nothing of how keys depend on each other: config.c checks that when all have been read.
 */
#include "daemon/config-table.h"

#include "proto/key.h"
#include "proto/value.h"

#include "daemon/access.h"
#include "daemon/config-address.h"
#include "daemon/web-address.h"

#define HOST_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-"
#define YEAR_USEC (UINT64_C(365) * 24 * 3600 * USEC_PER_SEC)

struct row {
	const char *section;
	const char *key;
	/* `target` is the field of struct config. NULL: a list. */
	int (*parse)(
		struct config_draft *draft, const struct row *row, const char *value, void *target);
	size_t offset;
	/* Of numbers, sizes and durations. */
	uint64_t min, max;
	const char *bounds; /* the same, for people */
	/* Of lists. */
	size_t count_offset;
	config_draft_word_fn word;
};

static int parse_bool(
	struct config_draft *draft, const struct row *row, const char *value, void *target)
{
	(void)row;
	if (value_bool(value, strlen(value), target) < 0)
		return config_draft_fail(draft, "%s is not a boolean; write yes or no",
			config_draft_quote(draft, value));
	return 0;
}

static int parse_string(
	struct config_draft *draft, const struct row *row, const char *value, void *target)
{
	(void)draft;
	(void)row;
	return config_draft_set_string(target, value);
}

/* It becomes the host of URLs: one that holds a '/' would go to another host than it reads. */
static int parse_server_name(
	struct config_draft *draft, const struct row *row, const char *value, void *target)
{
	const char *why = config_address_check_server_name(value);

	if (why)
		return config_draft_fail(draft, "%s is not the name of a server: %s",
			config_draft_quote(draft, value), why);
	return parse_string(draft, row, value, target);
}

static int parse_path(
	struct config_draft *draft, const struct row *row, const char *value, void *target)
{
	/* The daemon's working directory is nobody's idea of where a relative path begins. */
	if (*value != '\0' && *value != '/')
		return config_draft_fail(draft, "%s is not an absolute path; begin it with '/'",
			config_draft_quote(draft, value));
	return parse_string(draft, row, value, target);
}

static int check_bounds(
	struct config_draft *draft, const struct row *row, int r, uint64_t n, const char *value)
{
	if (r < 0 || n < row->min || n > row->max)
		return config_draft_fail(draft, "%s is out of bounds; it can be %s",
			config_draft_quote(draft, value), row->bounds);
	return 0;
}

static int parse_duration(
	struct config_draft *draft, const struct row *row, const char *value, void *target)
{
	uint64_t usec = 0;
	int r = value_duration_us(value, strlen(value), &usec);

	if (r == -EINVAL)
		return config_draft_fail(draft,
			"%s is not a duration; write a number and one of us ms s min h d w, as in 30s",
			config_draft_quote(draft, value));
	r = check_bounds(draft, row, r, usec, value);
	if (r == 0)
		*(uint64_t *)target = usec;
	return r;
}

/* A duration, or 0 for "off". */
static int parse_idle(
	struct config_draft *draft, const struct row *row, const char *value, void *target)
{
	if (!std_streq(value, "off"))
		return parse_duration(draft, row, value, target);
	*(uint64_t *)target = 0;
	return 0;
}

static int parse_size(
	struct config_draft *draft, const struct row *row, const char *value, void *target)
{
	uint64_t size = 0;
	int r = value_size(value, strlen(value), &size);

	if (r == -EINVAL)
		return config_draft_fail(draft,
			"%s is not a size; write a number of bytes or one with K, M or G, as in 64M",
			config_draft_quote(draft, value));
	r = check_bounds(draft, row, r, size, value);
	if (r == 0)
		*(uint64_t *)target = size;
	return r;
}

static int parse_count(
	struct config_draft *draft, const struct row *row, const char *value, void *target)
{
	int64_t n = 0;
	int r = value_int64(value, strlen(value), &n);

	if (r == -EINVAL)
		return config_draft_fail(
			draft, "%s is not a whole number", config_draft_quote(draft, value));
	r = check_bounds(draft, row, n < 0 ? -ERANGE : r, (uint64_t)n, value);
	if (r == 0)
		*(unsigned *)target = (unsigned)n;
	return r;
}

int config_table_parse_mode(struct config_draft *draft, const char *value, unsigned *ret_mode)
{
	size_t len = strlen(value);

	if (len < 3 || len > 4 || strspn(value, "01234567") != len ||
		strtoul(value, NULL, 8) > 0777)
		return config_draft_fail(draft, "%s is not a file mode; write it as in 0666",
			config_draft_quote(draft, value));
	*ret_mode = (unsigned)strtoul(value, NULL, 8);
	return 0;
}

static int parse_mode(
	struct config_draft *draft, const struct row *row, const char *value, void *target)
{
	(void)row;
	return config_table_parse_mode(draft, value, target);
}

static int parse_source(
	struct config_draft *draft, const struct row *row, const char *value, void *target)
{
	enum config_source *source = target;

	(void)row;
	if (!std_streq(value, "consul") && !std_streq(value, "dir"))
		return config_draft_fail(draft, "%s is not a source; write consul or dir",
			config_draft_quote(draft, value));
	*source = std_streq(value, "dir") ? CONFIG_SOURCE_DIR : CONFIG_SOURCE_CONSUL;
	return 0;
}

static int take_address(struct config_draft *draft, char **word)
{
	char *address;
	const char *why;
	int r = config_address_normalise(*word, draft->https, &address, &why);

	/* An address that does not read may hold a password: it is not shown. */
	if (r == -EINVAL)
		return config_draft_fail(
			draft, "this is not an address: %s; " CONFIG_ADDRESS_FORMS, why);
	if (r < 0)
		return r;
	free(*word);
	*word = address;
	return 0;
}

static int take_service(struct config_draft *draft, char **word)
{
	if (!key_is_service_name(*word, strlen(*word)))
		return config_draft_fail(draft,
			"%s is not a service name: letters, digits and ._- after a letter or digit, "
			"at most %d",
			config_draft_quote(draft, *word), LIMIT_SERVICE_NAME);
	return 0;
}

static int take_subject(struct config_draft *draft, char **word)
{
	if (!access_subject_is_valid(*word))
		return config_draft_fail(draft,
			"%s names nobody; write user:NAME, group:NAME or anyone",
			config_draft_quote(draft, *word));
	return 0;
}

static int parse_listen(
	struct config_draft *draft, const struct row *row, const char *value, void *target)
{
	struct web_address address;

	if (*value != '\0' && web_address_parse(value, &address) < 0)
		return config_draft_fail(draft,
			"%s is not a place to listen at; write unix:/PATH, an IP address with its port "
			"as in 127.0.0.1:8580 or [::1]:8580, or off",
			config_draft_quote(draft, value));
	return parse_string(draft, row, value, target);
}

static int take_host(struct config_draft *draft, char **word)
{
	if (strspn(*word, HOST_LETTERS) != strlen(*word))
		return config_draft_fail(draft,
			"%s is not a host name; write names without scheme and port",
			config_draft_quote(draft, *word));
	return 0;
}

#define FIELD(name) .offset = offsetof(struct config, name)
#define LIST(name, fn)                                                                             \
	.offset = offsetof(struct config, name),                                                   \
	.count_offset = offsetof(struct config, n_##name), .word = (fn)

static const struct row rows[] = {
	{ "source", "type", parse_source, FIELD(source) },
	{ "source", "dir", parse_path, FIELD(dir) },
	{ "source", "keep_newline", parse_bool, FIELD(keep_newline) },
	{ "source", "flat", parse_bool, FIELD(flat) },
	{ "consul", "address", LIST(addresses, take_address) },
	{ "consul", "token_file", parse_path, FIELD(token_file) },
	{ "consul", "datacenter", parse_string, FIELD(datacenter) },
	{ "consul", "namespace", parse_string, FIELD(namespace) },
	{ "consul", "partition", parse_string, FIELD(partition) },
	{ "consul", "ca_file", parse_path, FIELD(ca_file) },
	{ "consul", "ca_path", parse_path, FIELD(ca_path) },
	{ "consul", "cert_file", parse_path, FIELD(cert_file) },
	{ "consul", "key_file", parse_path, FIELD(key_file) },
	{ "consul", "tls_server_name", parse_server_name, FIELD(tls_server_name) },
	{ "consul", "verify", parse_bool, FIELD(verify) },
	{ "consul", "wait", parse_duration, FIELD(wait_usec), LIMIT_WAIT_MIN_USEC,
		LIMIT_WAIT_MAX_USEC, "1s to 10min" },
	{ "consul", "max_wait", parse_duration, FIELD(max_wait_usec), LIMIT_WAIT_MIN_USEC,
		LIMIT_WAIT_MAX_USEC, "1s to 10min" },
	{ "consul", "max_connections", parse_count, FIELD(max_connections), LIMIT_CONNECTIONS_MIN,
		LIMIT_CONNECTIONS_MAX, "4 to 200" },
	{ "services", "preload", LIST(preload, take_service) },
	{ "services", "linger", parse_duration, FIELD(linger_usec), 0, YEAR_USEC, "0 to 365d" },
	{ "services", "resync", parse_duration, FIELD(resync_usec), LIMIT_RESYNC_MIN_USEC,
		YEAR_USEC, "1s to 365d" },
	{ "services", "max_value", parse_size, FIELD(max_value), 1, UINT64_C(1) << 30, "1 to 1G" },
	{ "services", "max_service", parse_size, FIELD(max_service), 4096, UINT64_C(8) << 30,
		"4K to 8G" },
	{ "services", "max_services", parse_count, FIELD(max_services), 1, 1000000,
		"1 to 1000000" },
	{ "services", "host", parse_string, FIELD(host) },
	{ "backup", "keep", parse_count, FIELD(keep), 1, 1000, "1 to 1000" },
	{ "backup", "expire", parse_duration, FIELD(expire_usec), USEC_PER_SEC, 10 * YEAR_USEC,
		"1s to 3650d" },
	{ "socket", "path", parse_path, FIELD(socket_path) },
	{ "socket", "group", parse_string, FIELD(socket_group) },
	{ "socket", "mode", parse_mode, FIELD(socket_mode) },
	{ "socket", "operators", LIST(operators, take_subject) },
	{ "socket", "max_clients_per_user", parse_count, FIELD(max_clients_per_user), 1, 1000000,
		"1 to 1000000" },
	{ "admin", "listen", parse_listen, FIELD(admin_listen) },
	{ "admin", "metrics_listen", parse_listen, FIELD(metrics_listen) },
	{ "admin", "allowed_hosts", LIST(allowed_hosts, take_host) },
	{ "admin", "per_service_metrics", parse_count, FIELD(per_service_metrics), 0, 100000,
		"0 to 100000" },
	{ "exit", "idle", parse_idle, FIELD(idle_usec), LIMIT_IDLE_MIN_USEC, YEAR_USEC,
		"off, or 1s to 365d" },
};

_Static_assert(ARRAY_SIZE(rows) <= CONFIG_DRAFT_KEYS, "a place for each row");

static const struct row *find_row(const char *section, const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (std_streq(rows[i].section, section) && std_streq(rows[i].key, key))
			return &rows[i];
	return NULL;
}

/* Keys that consulcfgd.conf will have, and those that people look for in the wrong place. */
static int refuse_key(struct config_draft *draft)
{
	if (std_streq(draft->section, "services") && std_streq(draft->key, "max_memory"))
		return config_draft_fail(draft, "not supported by this version; remove the line");
	if (std_streq(draft->section, "consul") && std_streq(draft->key, "token"))
		return config_draft_fail(draft,
			"a token does not belong here; put it into a file of its own and name that "
			"with token_file=");
	return config_draft_fail(draft, "unknown key; consulcfgd.conf(5) lists the known ones");
}

bool config_table_has_section(const char *section)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (std_streq(rows[i].section, section))
			return true;
	return false;
}

int config_table_set(struct config_draft *draft, const char *value)
{
	const struct row *row = find_row(draft->section, draft->key);
	struct config_place *place;
	char *target, *count;
	int r;

	if (!row)
		return refuse_key(draft);
	place = &draft->keys[row - rows];
	target = (char *)draft->config + row->offset;
	if (!row->parse) {
		count = (char *)draft->config + row->count_offset;
		return config_draft_set_words(
			draft, place, value, row->word, (void *)target, (void *)count);
	}
	r = config_draft_once(draft, place);
	return r < 0 ? r : row->parse(draft, row, value, target);
}

const struct config_place *config_table_place(
	const struct config_draft *draft, const char *section, const char *key)
{
	return &draft->keys[find_row(section, key) - rows];
}

int config_table_set_address(struct config_draft *draft, const char *address)
{
	struct config *config = draft->config;
	char **addresses = calloc(1, sizeof(*addresses));

	if (!addresses)
		return -ENOMEM;
	addresses[0] = strdup(address);
	if (!addresses[0]) {
		free(addresses);
		return -ENOMEM;
	}
	config_draft_free_words(config->addresses, config->n_addresses);
	config->addresses = addresses;
	config->n_addresses = 1;
	return 0;
}
