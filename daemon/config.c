/*
 * All settings as one struct. Knows the order of places - default, environment, file and its .d,
 * --set, the other options - and what depends on several settings; config-section.c and
 * what it includes know the keys. Invariant: a struct config that config_load() returned is
 * complete and consistent, and nobody writes to it any more.
 */
#include "daemon/config.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "proto/key.h"

#include "daemon/access.h"
#include "daemon/config-environment.h"
#include "daemon/config-file.h"
#include "daemon/config-options.h"
#include "daemon/config-rule.h"
#include "daemon/config-section.h"
#include "daemon/config-socket.h"
#include "daemon/config-table.h"
#include "daemon/options.h"

#define DEFAULT_FILE "/etc/consulcfgd/consulcfgd.conf"
#define DEFAULT_ADDRESS "127.0.0.1:8500"
#define DEFAULT_OPERATOR "user:root"
#define DEFAULT_RUNTIME_DIRECTORY "/run/consulcfgd"
#define DEFAULT_STATE_DIRECTORY "/var/lib/consulcfgd"
#define DEFAULT_WAIT_USEC (30 * USEC_PER_SEC)
#define DEFAULT_MAX_WAIT_USEC (300 * USEC_PER_SEC)
#define DEFAULT_LINGER_USEC (60 * USEC_PER_SEC)
#define DEFAULT_RESYNC_USEC (900 * USEC_PER_SEC)
#define DEFAULT_SOCKET_MODE 0666
#define CREDENTIAL "consul-token"

static const struct config defaults = {
	.source = CONFIG_SOURCE_CONSUL,
	.verify = true,
	.wait_usec = DEFAULT_WAIT_USEC,
	.max_wait_usec = DEFAULT_MAX_WAIT_USEC,
	.max_connections = LIMIT_CONNECTIONS,
	.linger_usec = DEFAULT_LINGER_USEC,
	.resync_usec = DEFAULT_RESYNC_USEC,
	.max_value = DEFAULT_MAX_VALUE,
	.max_service = DEFAULT_MAX_SERVICE,
	.max_services = DEFAULT_MAX_SERVICES,
	.keep = DEFAULT_KEEP,
	.expire_usec = DEFAULT_EXPIRE_USEC,
	.socket_mode = DEFAULT_SOCKET_MODE,
	.max_clients_per_user = LIMIT_CLIENTS_PER_USER,
	.per_service_metrics = LIMIT_SERVICE_METRICS,
	.log_level = LOG_LEVEL_INFO,
};

static void wipe(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

struct config *config_free(struct config *config)
{
	if (!config)
		return NULL;
	wipe(config->token);
	wipe(config->auth);
	free(config->dir);
	config_draft_free_words(config->addresses, config->n_addresses);
	free(config->token_file);
	free(config->datacenter);
	free(config->namespace);
	free(config->partition);
	free(config->ca_file);
	free(config->ca_path);
	free(config->cert_file);
	free(config->key_file);
	free(config->tls_server_name);
	config_draft_free_words(config->preload, config->n_preload);
	free(config->host);
	for (unsigned i = 0; i < config->n_labels; i++) {
		free(config->labels[i].name);
		free(config->labels[i].value);
	}
	free(config->labels);
	for (unsigned i = 0; i < config->n_rules; i++)
		config_rule_done(&config->rules[i]);
	free(config->rules);
	for (unsigned i = 0; i < config->n_sockets; i++)
		config_socket_done(&config->sockets[i]);
	free(config->sockets);
	free(config->socket_path);
	free(config->admin_listen);
	free(config->metrics_listen);
	config_draft_free_words(config->allowed_hosts, config->n_allowed_hosts);
	free(config->socket_group);
	config_draft_free_words(config->operators, config->n_operators);
	free(config->operator_subjects);
	access_names_free(config->names);
	free(config->state_directory);
	free(config->runtime_directory);
	free(config);
	return NULL;
}

static int on_entry(const char *section, const char *key, const char *value, const char *file,
	unsigned line, void *userdata)
{
	struct config_draft *draft = userdata;

	(void)file; /* the draft's own copy of the name lives longer */
	draft->place.line = line;
	draft->section = section;
	draft->key = key;
	return key ? config_section_set(draft, value) : config_section_enter(draft);
}

static int read_file(struct config_draft *draft, const char *path, bool may_be_absent)
{
	AUTO_FREE char *message = NULL;
	int r;

	r = config_draft_enter_file(draft, path);
	if (r < 0)
		return r;
	r = config_file_read(path, on_entry, draft, &message);
	config_draft_enter(draft, path);
	if (r == -ENOENT && may_be_absent)
		return 0;
	if (r == -ENOENT)
		return config_draft_fail(draft, "there is no such file");
	if (message) {
		free(draft->message);
		draft->message = TAKE_PTR(message);
	}
	return r;
}

static int is_fragment(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return entry->d_name[0] != '.' && len > 5 && std_streq(entry->d_name + len - 5, ".conf");
}

/* Not alphasort(): its order is that of the locale. */
static int compare_entries(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_fragment(struct config_draft *draft, const char *dir, const char *name)
{
	AUTO_FREE char *path = NULL;

	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	return read_file(draft, path, false);
}

static int read_directory(struct config_draft *draft, const char *dir)
{
	struct dirent **entries;
	int n, r = 0;

	n = scandir(dir, &entries, is_fragment, compare_entries);
	if (n < 0 && errno == ENOENT)
		return 0;
	if (n < 0 && errno == ENOMEM)
		return -ENOMEM;
	if (n < 0) {
		config_draft_enter(draft, dir);
		return config_draft_fail(draft, "cannot read the directory: %m");
	}
	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = read_fragment(draft, dir, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return r;
}

static int read_files(struct config_draft *draft, const char *file_or_null)
{
	const char *file = file_or_null ? file_or_null : DEFAULT_FILE;
	AUTO_FREE char *dir = NULL;
	int r;

	if (asprintf(&dir, "%s.d", file) < 0) {
		dir = NULL;
		return -ENOMEM;
	}
	r = read_file(draft, file, !file_or_null);
	return r < 0 ? r : read_directory(draft, dir);
}

/* A directory that the manager made; it may name several, the first is the one for this. */
static int default_directory(
	struct config_draft *draft, char **target, const char *variable, const char *fallback)
{
	const char *value = getenv(variable);
	size_t len = value ? strcspn(value, ":") : 0;
	AUTO_FREE char *path = NULL;

	if (*target)
		return 0;
	path = len > 0 ? strndup(value, len) : strdup(fallback);
	if (!path)
		return -ENOMEM;
	config_draft_enter(draft, variable);
	return config_draft_set_path(draft, target, path);
}

static int default_host(struct config *config)
{
	char name[HOST_NAME_MAX + 1] = "";

	if (config->host)
		return 0;
	if (gethostname(name, sizeof(name)) < 0)
		return -errno;
	name[HOST_NAME_MAX] = '\0';
	config->host = strndup(name, strcspn(name, "."));
	return config->host ? 0 : -ENOMEM;
}

static int default_operators(struct config *config)
{
	if (config->n_operators > 0)
		return 0;
	config->operators = calloc(1, sizeof(*config->operators));
	if (!config->operators)
		return -ENOMEM;
	config->n_operators = 1;
	config->operators[0] = strdup(DEFAULT_OPERATOR);
	return config->operators[0] ? 0 : -ENOMEM;
}

static int default_addresses(struct config_draft *draft)
{
	if (draft->config->n_addresses > 0)
		return 0;
	return config_table_set_address(
		draft, draft->https ? "https://" DEFAULT_ADDRESS : "http://" DEFAULT_ADDRESS);
}

static int default_socket(struct config *config)
{
	if (config->socket_path)
		return 0;
	if (asprintf(&config->socket_path, "%s/socket", config->runtime_directory) < 0) {
		config->socket_path = NULL;
		return -ENOMEM;
	}
	return 0;
}

static int default_admin(struct config *config)
{
	if (config->admin_listen)
		return 0;
	if (asprintf(&config->admin_listen, "unix:%s/admin", config->runtime_directory) < 0) {
		config->admin_listen = NULL;
		return -ENOMEM;
	}
	return 0;
}

/*
 * What LoadCredential= of the service unit brings, when nothing else says where a token is. A space
 * alone is what SetCredential= has to give where there is none.
 */
static int default_token_file(struct config *config)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	struct stat st;

	if (config->token_file || config->token || !directory)
		return 0;
	if (asprintf(&config->token_file, "%s/" CREDENTIAL, directory) < 0) {
		config->token_file = NULL;
		return -ENOMEM;
	}
	if (stat(config->token_file, &st) < 0 || st.st_size <= 1) {
		free(config->token_file);
		config->token_file = NULL;
	}
	return 0;
}

static bool is_given(const struct config_draft *draft, const char *section, const char *key)
{
	return config_table_place(draft, section, key)->file;
}

/* Defaults that depend on other settings. */
static int fill_in(struct config_draft *draft)
{
	struct config *config = draft->config;
	int r;

	if (!is_given(draft, "consul", "max_wait"))
		config->max_wait_usec = MAX(config->max_wait_usec, config->wait_usec);
	if (!is_given(draft, "services", "max_value"))
		config->max_value = MIN(config->max_value, config->max_service);
	r = default_directory(
		draft, &config->runtime_directory, "RUNTIME_DIRECTORY", DEFAULT_RUNTIME_DIRECTORY);
	if (r == 0)
		r = default_directory(draft, &config->state_directory, "STATE_DIRECTORY",
			DEFAULT_STATE_DIRECTORY);
	if (r < 0)
		return r;
	config_draft_enter(draft, NULL);
	r = default_socket(config);
	if (r == 0)
		r = default_admin(config);
	if (r == 0)
		r = default_host(config);
	if (r == 0)
		r = default_token_file(config);
	if (r == 0)
		r = default_addresses(draft);
	return r < 0 ? r : default_operators(config);
}

/* Goes back to where a key was given, for a message. */
static void return_to(struct config_draft *draft, const char *section, const char *key)
{
	config_draft_return_to(draft, config_table_place(draft, section, key), section, key);
}

static int check_certificate(struct config_draft *draft)
{
	const struct config *config = draft->config;
	bool has_cert = config->cert_file;

	if (has_cert == (config->key_file != NULL))
		return 0;
	return_to(draft, "consul", has_cert ? "cert_file" : "key_file");
	return config_draft_fail(draft,
		"a certificate and its key belong together; give cert_file= and key_file= (or "
		"CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY), or neither");
}

static int check_socket(struct config_draft *draft)
{
	size_t longest = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
	size_t len = strlen(draft->config->socket_path);

	if (len <= longest)
		return 0;
	return_to(draft, "socket", "path");
	return config_draft_fail(draft,
		"the path of the socket has %zu bytes and the kernel takes %zu; choose a shorter one "
		"with --socket",
		len, longest);
}

static int check(struct config_draft *draft)
{
	const struct config *config = draft->config;
	int r;

	if (config->source == CONFIG_SOURCE_DIR && !config->dir) {
		return_to(draft, "source", "type");
		return config_draft_fail(draft, "type=dir needs dir=PATH as well");
	}
	if (config->max_wait_usec < config->wait_usec) {
		return_to(draft, "consul", "max_wait");
		return config_draft_fail(draft, "this is shorter than wait=; raise it");
	}
	if (config->max_value > config->max_service) {
		return_to(draft, "services", "max_value");
		return config_draft_fail(draft, "this is larger than max_service=; lower it");
	}
	if (config->idle_usec > 0 && config->n_preload > 0) {
		return_to(draft, "exit", "idle");
		return config_draft_fail(draft,
			"a daemon that ends when nobody uses it can keep no service loaded; remove "
			"preload=, or this");
	}
	r = check_certificate(draft);
	return r < 0 ? r : check_socket(draft);
}

/* CONSUL_TLS_SERVER_NAME may be an address with a port, to Consul's tools too. */
static void cut_port(char *server_name)
{
	char *colon = server_name ? strrchr(server_name, ':') : NULL;

	if (colon && !strchr(colon, ']'))
		*colon = '\0';
}

/*
 * What `text` stands for on this host. An unknown name fails closed, and is no reason not to start:
 * the user may be made later, the directory server may be away.
 */
static int resolve(const char *text, const char *what, struct access_subject *ret_subject)
{
	int r = access_subject_resolve(text, ret_subject);

	if (r == 0 || r == -ENOMEM)
		return r;
	*ret_subject = (struct access_subject){ .kind = ACCESS_NOBODY };
	log_warning("%s: cannot look up %s: %s; until a reload finds it, nobody gets in by it",
		what, text, r == -ENOENT ? "this host does not know it" : strerror(-r));
	return 0;
}

static int resolve_all(char *const *texts, unsigned n_texts, const char *what,
	struct access_subject **ret_subjects)
{
	AUTO_FREE struct access_subject *subjects = NULL;

	if (n_texts == 0)
		return 0;
	subjects = calloc(n_texts, sizeof(*subjects));
	if (!subjects)
		return -ENOMEM;
	for (unsigned i = 0; i < n_texts; i++) {
		int r = resolve(texts[i], what, &subjects[i]);

		if (r < 0)
			return r;
	}
	*ret_subjects = TAKE_PTR(subjects);
	return 0;
}

static int resolve_names(struct config *config)
{
	static const struct access_files files = {
		.users = "/etc/passwd",
		.groups = "/etc/group",
		.dynamic_users = "/run/systemd/dynamic-uid",
	};
	char what[sizeof("[service ] access") + LIMIT_CONFIG_SECTION];
	int r;

	r = resolve_all(config->operators, config->n_operators, "[socket] operators",
		&config->operator_subjects);
	for (unsigned i = 0; r == 0 && i < config->n_rules; i++) {
		struct config_rule *rule = &config->rules[i];

		snprintf(what, sizeof(what), "[service %s] access", rule->glob);
		r = resolve_all(rule->access, rule->n_access, what, &rule->access_subjects);
	}
	return r < 0 ? r : access_names_new(&files, &config->names);
}

static int load(struct config_draft *draft, const struct options *options)
{
	int r;

	r = config_environment_apply(draft);
	if (r == 0)
		r = read_files(draft, options->config_file);
	if (r == 0)
		r = config_options_apply(draft, options);
	if (r < 0)
		return r;
	config_draft_enter(draft, NULL);
	cut_port(draft->config->tls_server_name);
	r = fill_in(draft);
	if (r == 0)
		r = check(draft);
	if (r == 0)
		r = config_rule_finish(draft);
	if (r == 0)
		r = config_socket_finish(draft);
	return r < 0 ? r : resolve_names(draft->config);
}

int config_load(const struct options *options, struct config **ret_config, char **ret_message)
{
	struct config_draft draft = { 0 };
	int r;

	draft.config = malloc(sizeof(*draft.config));
	if (!draft.config) {
		*ret_message = NULL;
		return -ENOMEM;
	}
	*draft.config = defaults;
	r = load(&draft, options);
	config_draft_done(&draft);
	if (r < 0) {
		config_free(draft.config);
		*ret_message = draft.message;
		return r;
	}
	free(draft.message);
	*ret_config = draft.config;
	return 0;
}
