/*
 * Everything an administrator can set, as one read-only struct: defaults, then CONSUL_HTTP_*
 * environment, then the file and its conf.d, then --set and the other options. A reload makes a new
 * struct; a file that does not read leaves the old one in force.
 */
#pragma once

#include "daemon/log.h"
#include "proto/limits.h"
#include "proto/std.h"

struct access_names; /* daemon/access.h */
struct access_subject;

enum config_source { CONFIG_SOURCE_CONSUL, CONFIG_SOURCE_DIR };

/*
 * [service NAME-OR-GLOB], in file order; the first match decides. What [service *] says has been
 * copied into every rule that does not say it, and [service *] itself is the last one.
 */
struct config_rule {
	char *glob;
	char *layers[LIMIT_LAYERS]; /* templates; n_layers 0: the default config/{service}/ */
	unsigned n_layers;
	/* Names as written, "user:NAME", "group:NAME", "anyone"; n_access 0: the default rule */
	char **access;
	struct access_subject *access_subjects; /* the same, looked up when the file was read */
	unsigned n_access;
	bool hides; /* from those whom access leaves out, that the service is there */
	bool has_hold;
	uint64_t hold_usec; /* how long lost access is held; 0: until it is accepted, the default */
	char **lock; /* globs of keys that a higher layer does not override */
	unsigned n_lock;
	char *schema; /* the path of a file, or a key of the service; NULL: none */
	bool no_backup;
	bool has_backup; /* backup= was given */
};

/*
 * [socket NAME]: a further listener, for those who shall see some services and do nothing but read.
 */
struct config_socket {
	char *name;
	char *path; /* NULL: a socket of the service manager */
	char *group; /* NULL: leave */
	unsigned mode;
	char **services; /* globs; at least one */
	unsigned n_services;
};

struct config_label {
	char *name;
	char *value;
};

struct config {
	/* [source] */
	enum config_source source;
	char *dir;
	bool keep_newline;
	bool flat;
	/* [consul] */
	char **addresses; /* http://, https://, unix:///; no '/' at the end; at least one */
	unsigned n_addresses;
	char *token; /* from CONSUL_HTTP_TOKEN; never logged, wiped when freed */
	char *token_file; /* read by the source; wins over token */
	char *auth; /* user:password, from CONSUL_HTTP_AUTH */
	char *datacenter, *namespace, *partition; /* NULL: not sent */
	char *ca_file, *ca_path, *cert_file, *key_file, *tls_server_name;
	bool verify;
	uint64_t wait_usec, max_wait_usec;
	unsigned max_connections;
	/* [services] */
	char **preload;
	unsigned n_preload;
	uint64_t linger_usec, resync_usec;
	uint64_t max_value, max_service;
	unsigned max_services;
	char *host; /* {host}; default: the short host name */
	struct config_label *labels;
	unsigned n_labels;
	struct config_rule *rules;
	unsigned n_rules;
	/* [backup] */
	unsigned keep; /* generations of a service */
	uint64_t expire_usec; /* of backups of services that nobody uses */
	/* [socket] */
	char *socket_path;
	char *socket_group; /* NULL: leave */
	unsigned socket_mode;
	char **operators; /* as access above; default user:root */
	struct access_subject *operator_subjects; /* looked up, as above */
	unsigned n_operators;
	unsigned max_clients_per_user;
	struct config_socket *sockets;
	unsigned n_sockets;
	/* [exit] */
	uint64_t idle_usec; /* 0: off */
	struct access_names *names; /* a cache for access.c; NULL: nobody is named like a service */
	/* [admin] */
	char *admin_listen, *metrics_listen; /* as web_address_parse() takes them */
	char **allowed_hosts;
	unsigned n_allowed_hosts;
	unsigned per_service_metrics;
	/* command line and environment only */
	char *state_directory, *runtime_directory;
	enum log_level log_level;
};

struct options; /* daemon/options.h */

/*
 * Reads everything. On failure -errno and *ret_message, one line for people ("FILE:LINE: …, do
 * …") that the caller frees (NULL when there was no memory for it); no value of a secret in it.
 * A user or group that access= or operators= names and the host does not know is logged as a
 * warning and matches nobody: one file serves many hosts.
 */
int config_load(const struct options *options, struct config **ret_config, char **ret_message);
struct config *config_free(struct config *config);

/* The first rule whose glob matches, or NULL. */
const struct config_rule *config_rule_for(const struct config *config, const char *service);

/* What `hold` is for a service, as in struct config_rule. */
uint64_t config_rule_hold_usec(const struct config *config, const char *service);
/* Whether the disk may have anything of the service. */
bool config_rule_keeps(const struct config *config, const char *service);

/* The [socket NAME], or NULL. */
const struct config_socket *config_socket_find(const struct config *config, const char *name);
bool config_socket_shows(const struct config_socket *socket, const char *service);

/*
 * The prefixes of a service's layers, lowest first, placeholders filled in, each ending in '/'; the
 * caller frees each. No prefix comes twice: the highest stays. Of a hidden service (its name begins
 * with '-') only layers count whose template has {service} at the begin of a segment. Returns their
 * number or -errno
 * (-ENOMEM; an unknown label was refused at load).
 */
int config_layers(
	const struct config *config, const char *service, char *ret_prefixes[LIMIT_LAYERS]);
