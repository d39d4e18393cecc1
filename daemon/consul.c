#include "daemon/consul.h"

#include <stdio.h>
#include <strings.h>

#define EARLY_TOLERANCE_USEC (20 * USEC_PER_MSEC) /* two clocks */

/* Addresses ----------------------------------------------------------------------------------- */

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_local_host(const char *host, size_t len)
{
	static const char *const names[] = { "localhost", "[::1]" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (len == strlen(names[i]) && strncasecmp(host, names[i], len) == 0)
			return true;
	return len >= 4 && has_prefix(host, "127.");
}

/* "host:port/path" → connect to host and port, verify and name the server as tls_server_name. */
static int rename_server(struct consul_address *address, const char *rest, const char *name)
{
	size_t end = strcspn(rest, "/");
	const char *bracket = memchr(rest, ']', end);
	const char *from = bracket ? bracket : rest;
	const char *colon = memchr(from, ':', end - (size_t)(from - rest));
	int host_len = (int)(colon ? (size_t)(colon - rest) : end);
	int port_len = colon ? (int)(rest + end - colon - 1) : 3;
	const char *port = colon ? colon + 1 : "443";

	if (asprintf(&address->base, "https://%s:%.*s%s", name, port_len, port, rest + end) < 0) {
		address->base = NULL;
		return -ENOMEM;
	}
	if (asprintf(&address->connect_to, "%s:%.*s:%.*s:%.*s", name, port_len, port, host_len,
		    rest, port_len, port) < 0) {
		address->connect_to = NULL;
		return -ENOMEM;
	}
	return 0;
}

static int take_apart(struct consul_address *address, const char *text, const char *tls_server_name)
{
	const char *rest = strstr(text, "://");

	rest = rest ? rest + 3 : text;
	if (has_prefix(text, "unix://")) {
		address->is_local = true;
		address->base = strdup("http://localhost");
		address->unix_path = strdup(rest);
		return address->base && address->unix_path ? 0 : -ENOMEM;
	}
	address->is_local =
		is_local_host(rest, rest[0] == '[' ? strcspn(rest, "]") + 1 : strcspn(rest, ":/"));
	if (has_prefix(text, "https://") && tls_server_name)
		return rename_server(address, rest, tls_server_name);
	address->base = strdup(text);
	return address->base ? 0 : -ENOMEM;
}

int consul_address_init(
	struct consul_address *address, const char *text, const char *tls_server_name)
{
	int r;

	*address = (struct consul_address){ .name = strdup(text) };
	r = address->name ? take_apart(address, text, tls_server_name) : -ENOMEM;
	if (r < 0)
		consul_address_done(address);
	return r;
}

void consul_address_done(struct consul_address *address)
{
	free(address->name);
	free(address->base);
	free(address->unix_path);
	free(address->connect_to);
	*address = (struct consul_address){ 0 };
}

/* URLs ---------------------------------------------------------------------------------------- */

static bool is_plain(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("-._~", c));
}

static void put_encoded(FILE *file, const char *text, char also_plain)
{
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (is_plain(c) || *text == also_plain)
			putc(c, file);
		else
			fprintf(file, "%%%02X", c);
	}
}

static void put_parameter(FILE *file, const char *name, const char *value)
{
	if (!value)
		return;
	fprintf(file, "&%s=", name);
	put_encoded(file, value, '\0');
}

int consul_url(
	const struct consul_address *address, const struct consul_query *query, char **ret_url)
{
	char *url = NULL;
	size_t len;
	FILE *file = open_memstream(&url, &len);
	int r;

	if (!file)
		return -ENOMEM;
	fprintf(file, "%s/v1/kv/", address->base);
	put_encoded(file, query->prefix, '/');
	if (query->key)
		put_encoded(file, query->key, '/');
	fputs(query->key ? "?consistent" : query->lists ? "?keys&separator=/" : "?recurse", file);
	/* A wait of 0 would mean the server's default of five minutes. */
	if (query->index > 0)
		fprintf(file, "&index=%llu&wait=%llums", (unsigned long long)query->index,
			(unsigned long long)MAX(query->wait_usec / USEC_PER_MSEC, UINT64_C(1)));
	if (query->consistent && !query->key)
		fputs("&consistent", file);
	put_parameter(file, "dc", query->datacenter);
	put_parameter(file, "ns", query->namespace);
	put_parameter(file, "partition", query->partition);
	r = ferror(file) ? -ENOMEM : 0;
	if (fclose(file) != 0)
		r = -ENOMEM;
	if (r < 0) {
		free(url);
		return r;
	}
	*ret_url = url;
	return 0;
}

static bool is_dots(const char *segment, size_t len)
{
	return (len == 1 || len == 2) && memcmp(segment, "..", len) == 0;
}

bool consul_is_askable(const char *key)
{
	for (;;) {
		size_t len = strcspn(key, "/");

		if (is_dots(key, len))
			return false;
		if (key[len] == '\0')
			return true;
		if (len == 0)
			return false;
		key += len + 1;
	}
}

/* Answers ------------------------------------------------------------------------------------- */

/* Consul's own words, ours for them; nothing else of a failed answer is ever shown. */
static const char *reason_of(const struct http_result *result)
{
	static const struct {
		const char *word;
		const char *reason;
	} reasons[] = {
		{ "No cluster leader", ": no cluster leader" },
		{ "ACL not found", ": it does not know this token" },
		{ "Permission denied", ": the token may not read this prefix" },
		{ "No path to datacenter", ": it knows no such datacenter" },
		{ "rpc error", ": it cannot reach its servers" },
		{ "Enterprise feature", ": namespaces need Consul Enterprise" },
		{ "too many requests", ": too many requests" },
		{ "to an HTTPS server", ": this port speaks https" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (result->error_body_len > 0 && memmem(result->error_body, result->error_body_len,
							  reasons[i].word, strlen(reasons[i].word)))
			return reasons[i].reason;
	return "";
}

static enum consul_verdict judge_error(const struct http_result *result, const char *name,
	const char *details, struct consul_error *error)
{
	const char *message = details ? details : result->message;

	switch (-result->error) {
	case ETIMEDOUT:
		error->kind = TREE_TIMEOUT;
		snprintf(error->message, sizeof(error->message), "Consul at %s: %s", name, message);
		break;
	case EFBIG:
	case ENOMEM:
		error->kind = TREE_LIMIT;
		snprintf(error->message, sizeof(error->message), "the answer of Consul at %s: %s",
			name, message);
		break;
	case EBADMSG:
		error->kind = TREE_INVALID;
		snprintf(error->message, sizeof(error->message),
			"no valid answer from Consul at %s: %s", name, message);
		break;
	default:
		error->kind = TREE_UNREACHABLE;
		snprintf(error->message, sizeof(error->message), "cannot reach Consul at %s: %s",
			name, message);
	}
	return CONSUL_ERROR;
}

static enum tree_error_kind kind_of_status(int status)
{
	if (status == 401 || status == 403)
		return TREE_DENIED;
	if (status == 429 || status >= 500)
		return TREE_UNREACHABLE;
	return TREE_INVALID;
}

static const char *advice_on_status(int status)
{
	if (status >= 300 && status < 400)
		return ": a redirect, which is not followed; check address and prefix";
	if (status == 404)
		return " without an index: this is no KV store of Consul; check the address";
	return "";
}

enum consul_verdict consul_judge(const struct http_result *result, const char *address_name,
	const char *details, struct consul_error *ret_error)
{
	const char *reason;

	if (result->error < 0)
		return judge_error(result, address_name, details, ret_error);
	if (result->status == 200 && result->has_index && result->is_index_valid)
		return CONSUL_CONTENT;
	if (result->status == 404 && result->has_index && result->is_index_valid)
		return CONSUL_ABSENT;
	ret_error->kind = kind_of_status(result->status);
	if (result->status == 200) {
		snprintf(ret_error->message, sizeof(ret_error->message),
			"no valid answer from Consul at %s: %s X-Consul-Index", address_name,
			result->has_index ? "a bad" : "no");
		return CONSUL_ERROR;
	}
	reason = reason_of(result);
	snprintf(ret_error->message, sizeof(ret_error->message), "Consul at %s answers %d%s",
		address_name, result->status,
		reason[0] != '\0' ? reason : advice_on_status(result->status));
	return CONSUL_ERROR;
}

bool consul_is_outage(const struct consul_error *error)
{
	return error->kind == TREE_UNREACHABLE || error->kind == TREE_TIMEOUT;
}

uint64_t consul_next_index(uint64_t sent, uint64_t received)
{
	if (received < 1 || received < sent || received > INT64_MAX)
		return 0;
	return received;
}

bool consul_is_early(uint64_t wait_usec, uint64_t answered_usec)
{
	return answered_usec + EARLY_TOLERANCE_USEC < wait_usec;
}

/* Times --------------------------------------------------------------------------------------- */

uint64_t consul_next_wait(
	uint64_t current_usec, uint64_t wait_usec, uint64_t max_usec, uint64_t n_bytes)
{
	if (n_bytes <= LIMIT_SMALL_TREE)
		return wait_usec;
	return MAX(wait_usec, MIN(current_usec * 2, max_usec));
}

uint64_t consul_deadline(uint64_t wait_usec)
{
	return wait_usec + wait_usec / 16 + LIMIT_POLL_HOLD_USEC + LIMIT_POLL_SLACK_USEC;
}

/* v times a number from 0 to 1 that is made of 32 random bits. */
static uint64_t part_of(uint64_t v, uint32_t random)
{
	return v * (random >> 16) / UINT16_MAX;
}

uint64_t consul_backoff_next(struct consul_backoff *backoff, uint64_t now, uint32_t random)
{
	uint64_t cap;

	if (backoff->since == 0) {
		backoff->since = MAX(now, UINT64_C(1));
		backoff->delay_usec = LIMIT_RETRY_FIRST_USEC;
	} else {
		cap = now - backoff->since < LIMIT_RETRY_EARLY_SPAN_USEC ? LIMIT_RETRY_EARLY_USEC
									 : LIMIT_RETRY_MAX_USEC;
		backoff->delay_usec = MIN(backoff->delay_usec * 2, cap);
	}
	/* Half of it is by chance: agents come back to all of their clients at once. */
	return backoff->delay_usec / 2 + part_of(backoff->delay_usec / 2, random);
}

uint64_t consul_look_delay(uint64_t held_usec, uint32_t random)
{
	uint64_t delay = MIN(MAX(held_usec / 2, (uint64_t)LIMIT_RETRY_EARLY_USEC),
		(uint64_t)LIMIT_RETRY_MAX_USEC);

	return delay / 2 + part_of(delay / 2, random);
}

void consul_backoff_reset(struct consul_backoff *backoff)
{
	*backoff = (struct consul_backoff){ 0 };
}

uint64_t consul_pace_take(struct consul_pace *pace, uint64_t now)
{
	uint64_t due;

	if (pace->n_taken < LIMIT_PACE_BURST) {
		pace->n_taken++;
		pace->last = now;
		return 0;
	}
	pace->interval_usec = pace->interval_usec == 0
				      ? (uint64_t)LIMIT_PACE_FIRST_USEC
				      : MIN(pace->interval_usec * 2, (uint64_t)LIMIT_PACE_MAX_USEC);
	due = MAX(now, pace->last + pace->interval_usec);
	pace->last = due;
	return due - now;
}

void consul_pace_reset(struct consul_pace *pace)
{
	*pace = (struct consul_pace){ 0 };
}

uint64_t consul_jitter(uint64_t v, uint32_t random)
{
	return v - v / 10 + part_of(v / 5, random);
}

/* Loss ---------------------------------------------------------------------------------------- */

bool consul_is_lost_store(const struct tree *tree, const struct kvset *fresh, uint64_t store_index)
{
	uint64_t index = MAX(fresh->index, store_index);

	if (fresh->records.n > 0 || tree->content->records.n == 0)
		return false;
	return index <= tree->content->index ||
	       (tree->held.set && tree->held.doubt == TREE_DATA_LOST);
}

bool consul_is_held(const struct tree *tree, const struct kvset *fresh)
{
	const struct tree_held *held = &tree->held;

	return held->set && held->doubt != TREE_UNCLEAR && tree_hold_left_usec(tree) > 0 &&
	       held->set->index == fresh->index && kvset_same(held->set, fresh);
}

const char consul_words_access_lost[] = "the token may not read all keys any more";
const char consul_words_data_lost[] =
	"Consul has no keys, at an index that is not newer: has it lost its data?";
const char consul_words_unclear[] =
	"keys are gone, and reading them one by one does not tell whether they were deleted";
const char consul_words_disagree[] = "keys are gone, but Consul's answers disagree";
