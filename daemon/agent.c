#include "daemon/agent.h"

#include <sys/random.h>

#include "daemon/log.h"

static void free_addresses(struct consul_address *addresses, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		consul_address_done(&addresses[i]);
	free(addresses);
}

static int new_addresses(const struct config *config, struct consul_address **ret_addresses)
{
	struct consul_address *addresses = calloc(config->n_addresses, sizeof(*addresses));

	if (!addresses)
		return -ENOMEM;
	for (unsigned i = 0; i < config->n_addresses; i++) {
		int r = consul_address_init(
			&addresses[i], config->addresses[i], config->tls_server_name);

		if (r < 0) {
			free_addresses(addresses, i);
			return r;
		}
	}
	*ret_addresses = addresses;
	return 0;
}

static unsigned pool_size(const struct config *config, enum agent_pool pool)
{
	if (pool != AGENT_POLLS)
		return 1;
	return MAX(config->max_connections, LIMIT_CONNECTIONS_MIN) - 2;
}

static void free_pools(struct http *pools[AGENT_N_POOLS])
{
	for (unsigned i = 0; i < AGENT_N_POOLS; i++)
		pools[i] = http_free(pools[i]);
}

static int new_pools(
	struct loop *loop, const struct config *config, struct http *ret_pools[AGENT_N_POOLS])
{
	for (unsigned i = 0; i < AGENT_N_POOLS; i++) {
		const struct http_settings settings = {
			.ca_file = config->ca_file,
			.ca_path = config->ca_path,
			.cert_file = config->cert_file,
			.key_file = config->key_file,
			.verify = config->verify,
			.max_connections = pool_size(config, i),
		};
		int r = http_new(loop, &settings, &ret_pools[i]);

		if (r < 0) {
			free_pools(ret_pools);
			return r;
		}
	}
	return 0;
}

static void stamp_tls_files(
	const struct config *config, struct file_stamp ret_stamps[AGENT_N_TLS_FILES])
{
	const char *const paths[AGENT_N_TLS_FILES] = { config->ca_file, config->ca_path,
		config->cert_file, config->key_file };

	for (unsigned i = 0; i < AGENT_N_TLS_FILES; i++)
		ret_stamps[i] = file_stamp_at(paths[i]);
}

static void warn_of_blind_trust(const struct config *config)
{
	for (unsigned i = 0; i < config->n_addresses && !config->verify; i++)
		if (strncmp(config->addresses[i], "https:", 6) == 0) {
			log_warning(
				"verify=no: whoever answers as %s is believed and gets the token",
				config->addresses[i]);
			return;
		}
}

static int open_ledger(struct agent *agent)
{
	const char *directory = agent->config->runtime_directory;
	bool is_lasting = true;
	int r = ledger_new(directory, &agent->ledger, &is_lasting);

	if (r == 0 && !is_lasting)
		log_warning("%s takes no file: the next daemon will not know of our queries",
			directory);
	return r;
}

int agent_new(struct loop *loop, const struct config *config, struct agent **ret_agent)
{
	struct agent *agent = calloc(1, sizeof(*agent));
	int r;

	if (!agent)
		return -ENOMEM;
	agent->loop = loop;
	agent->config = config;
	stamp_tls_files(config, agent->tls_files);
	r = token_init(&agent->token, config->token_file, config->token);
	if (r == 0)
		r = open_ledger(agent);
	if (r == 0)
		r = new_addresses(config, &agent->addresses);
	if (r == 0) {
		agent->n_addresses = config->n_addresses;
		r = new_pools(loop, config, agent->pools);
	}
	if (r < 0) {
		agent_free(agent);
		return r;
	}
	warn_of_blind_trust(config);
	*ret_agent = agent;
	return 0;
}

struct agent *agent_free(struct agent *agent)
{
	if (!agent)
		return NULL;
	free_pools(agent->pools);
	free_addresses(agent->addresses, agent->n_addresses);
	token_done(&agent->token);
	ledger_free(agent->ledger);
	free(agent);
	return NULL;
}

static bool is_same_text(const char *a, const char *b)
{
	return a == b || (a && b && std_streq(a, b));
}

static bool has_other_tls_files(const struct agent *agent, const struct config *config)
{
	struct file_stamp now[AGENT_N_TLS_FILES];

	stamp_tls_files(config, now);
	for (unsigned i = 0; i < AGENT_N_TLS_FILES; i++)
		if (!file_stamp_same(&now[i], &agent->tls_files[i]))
			return true;
	return false;
}

bool agent_is_elsewhere(const struct agent *agent, const struct config *config)
{
	const struct config *old = agent->config;

	if (old->n_addresses != config->n_addresses || old->verify != config->verify)
		return true;
	for (unsigned i = 0; i < config->n_addresses; i++)
		if (!std_streq(old->addresses[i], config->addresses[i]))
			return true;
	return !is_same_text(old->token, config->token) ||
	       !is_same_text(old->token_file, config->token_file) ||
	       !is_same_text(old->auth, config->auth) ||
	       !is_same_text(old->datacenter, config->datacenter) ||
	       !is_same_text(old->namespace, config->namespace) ||
	       !is_same_text(old->partition, config->partition) ||
	       !is_same_text(old->ca_file, config->ca_file) ||
	       !is_same_text(old->ca_path, config->ca_path) ||
	       !is_same_text(old->cert_file, config->cert_file) ||
	       !is_same_text(old->key_file, config->key_file) ||
	       !is_same_text(old->tls_server_name, config->tls_server_name) ||
	       has_other_tls_files(agent, config);
}

static int move(struct agent *agent, const struct config *config)
{
	struct http *pools[AGENT_N_POOLS] = { NULL };
	struct file_stamp tls_files[AGENT_N_TLS_FILES];
	struct consul_address *addresses;
	struct token token;
	int r = token_init(&token, config->token_file, config->token);

	if (r < 0)
		return r;
	r = new_addresses(config, &addresses);
	if (r < 0) {
		token_done(&token);
		return r;
	}
	stamp_tls_files(config, tls_files);
	r = new_pools(agent->loop, config, pools);
	if (r < 0) {
		free_addresses(addresses, config->n_addresses);
		token_done(&token);
		return r;
	}
	free_pools(agent->pools);
	ledger_inherit(agent->ledger);
	free_addresses(agent->addresses, agent->n_addresses);
	token_done(&agent->token);
	memcpy(agent->pools, pools, sizeof(pools));
	agent->addresses = addresses;
	agent->n_addresses = config->n_addresses;
	agent->current = 0;
	agent->token = token;
	memcpy(agent->tls_files, tls_files, sizeof(tls_files));
	warn_of_blind_trust(config);
	return 0;
}

int agent_configure(struct agent *agent, const struct config *config, bool is_elsewhere)
{
	int r = is_elsewhere ? move(agent, config) : 0;

	if (r < 0)
		return r;
	agent->config = config;
	http_set_max_connections(agent->pools[AGENT_POLLS], pool_size(config, AGENT_POLLS));
	return 0;
}

const struct consul_address *agent_address(const struct agent *agent)
{
	return &agent->addresses[agent->current];
}

void agent_fail_over(struct agent *agent, const struct consul_address *address)
{
	if (address == agent_address(agent))
		agent->current = (agent->current + 1) % agent->n_addresses;
}

enum agent_pool agent_pool_for_read(const struct agent *agent)
{
	const struct http *reads = agent->pools[AGENT_READS], *polls = agent->pools[AGENT_POLLS];

	/* The places of a poll pool that an earlier daemon's polls have are no places. */
	if (http_n_requests(reads) >= http_capacity(reads) &&
		ledger_n_inherited(agent->ledger) == 0 &&
		http_n_requests(polls) < http_capacity(polls))
		return AGENT_POLLS;
	return AGENT_READS;
}

unsigned agent_n_polls_at_once(const struct agent *agent)
{
	return http_capacity(agent->pools[AGENT_POLLS]);
}

bool agent_has_room_for_poll(const struct agent *agent)
{
	const struct http *polls = agent->pools[AGENT_POLLS];
	/* An agent counts connections: of the polls of one, none keeps a place of its own. */
	unsigned n =
		http_is_multiplexed(polls) ? http_n_requests(polls) : ledger_n_open(agent->ledger);

	return n < http_capacity(polls);
}

void agent_learn(struct agent *agent, enum agent_pool pool)
{
	bool is_multiplexed = http_is_multiplexed(agent->pools[pool]);

	for (unsigned i = 0; i < AGENT_N_POOLS; i++)
		if (http_is_multiplexed(agent->pools[i]) != is_multiplexed)
			http_set_multiplexed(agent->pools[i], is_multiplexed);
}

unsigned agent_n_connections(const struct agent *agent)
{
	unsigned n = 0;

	for (unsigned i = 0; i < AGENT_N_POOLS; i++)
		n += http_n_connections(agent->pools[i]);
	return n;
}

uint32_t agent_random(void)
{
	uint32_t random = 0;

	/* Without entropy, early at boot, everything is jittered the same way: no harm. */
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		return UINT32_MAX / 2;
	return random;
}
