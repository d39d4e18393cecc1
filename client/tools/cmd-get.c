/*
 * consulcfg get: values of single keys. One connection, one send (HELLO, OPEN and the keys
 * together), the replies.
 *
 * Several keys are of one generation: the service is asked for its generation in front of the keys
 * (OPEN) and once more behind them, and what lies between two equal ones is of the same.
 */
#include "client/tools/commands.h"

#include <stdio.h>

#include "client/tools/message.h"
#include "client/tools/output.h"
#include "client/tools/query.h"
#include "proto/key.h"
#include "proto/limits.h"
#include "proto/value.h"

enum { GET_JSON = 256, GET_MAX_AGE };

static const struct option options[] = {
	{ 't', NULL, "SECONDS", "wait so long for the daemon and the first data (5; 0; infinity)" },
	{ 'd', NULL, "VALUE", "print this for a key that does not exist" },
	{ 'n', NULL, NULL, "print nothing behind each value" },
	{ '0', NULL, NULL, "print a NUL behind each value instead of a newline" },
	{ GET_JSON, "json", NULL, "print one JSON object" },
	{ GET_MAX_AGE, "max-age", "DURATION",
		"fail when the source last confirmed the values longer ago" },
	{ 0 },
};

/* A key and its answer. */
struct wanted {
	const char *key;
	size_t key_len;
	size_t off; /* of the value in get::values */
	uint32_t len; /* WIRE_ABSENT: no such key */
};

struct get {
	struct query query;
	const char *fallback;
	const char *terminator;
	size_t terminator_len;
	bool json;
	uint64_t max_age_usec;
	struct wanted *wanted;
	size_t n_wanted;
	struct output values; /* one behind the other */
};

/* Asks for all keys, and behind several for the generation. */
static int ask(struct get *get, uint32_t *ret_first_tag)
{
	struct wire_request request = {
		.service = get->query.service,
		.service_len = strlen(get->query.service),
	};
	uint32_t tag;
	int r = 0;

	for (size_t i = 0; i < get->n_wanted && r == 0; i++) {
		request.key = get->wanted[i].key;
		request.key_len = get->wanted[i].key_len;
		r = link_send(&get->query.link, WIRE_GET, &request, &tag);
		if (i == 0)
			*ret_first_tag = tag;
	}
	if (r == 0 && get->n_wanted > 1)
		r = link_send(&get->query.link, WIRE_OPEN, &request, &tag);
	return r;
}

/* The value of a key, or its absence (status -ENOENT). */
static int take_value(
	struct get *get, struct wanted *wanted, const struct link_reply *reply, int status)
{
	le64 generation;
	int r;

	wanted->len = WIRE_ABSENT;
	if (status == -ENOENT)
		return 0;
	r = link_reply_head(reply, &generation, sizeof(generation));
	if (r < 0)
		return r;
	wanted->off = get->values.len;
	wanted->len = (uint32_t)(reply->len - sizeof(generation));
	output_bytes(&get->values, reply->payload + sizeof(generation), wanted->len);
	return get->values.has_failed ? -ENOMEM : 0;
}

/* Any reply of a round. */
static int take(struct get *get, uint32_t first_tag, const struct link_reply *reply, int status)
{
	uint32_t i = reply->tag - first_tag;

	if (reply->op == WIRE_GET && i < get->n_wanted && (status == 0 || status == -ENOENT))
		return take_value(get, &get->wanted[i], reply, status);
	if (status < 0)
		return status;
	if (reply->op != WIRE_OPEN)
		return -EBADMSG;
	return link_reply_head(reply, &get->query.info, sizeof(get->query.info));
}

/* 0: all of one generation; 1: not so, ask again; -ENODATA: no data yet. */
static int round_trip(struct get *get)
{
	size_t n_replies = get->n_wanted + (get->n_wanted > 1);
	uint64_t generation = 0;
	bool is_early = false;
	uint32_t first_tag = 0;
	int r;

	r = ask(get, &first_tag);
	if (r < 0)
		return r;
	get->values.len = 0;
	for (size_t i = 0; i < n_replies; i++) {
		struct link_reply reply;

		r = query_receive(&get->query, &reply);
		/* The first OPEN is answered by now, where there was data. */
		if (i == 0)
			generation = le64_get(get->query.info.generation);
		if (reply.op != 0)
			r = take(get, first_tag, &reply, r);
		is_early |= r == -ENODATA;
		if (r < 0 && r != -ENODATA)
			return r;
	}
	if (is_early)
		return -ENODATA;
	return generation != le64_get(get->query.info.generation);
}

static int attempt(struct query *query, void *userdata)
{
	struct get *get = userdata;

	(void)query;
	for (unsigned i = 0; i < LIMIT_ROUNDS; i++) {
		int r = round_trip(get);

		if (r == 0)
			return query_wait_open(&get->query);
		if (r == -ENODATA)
			r = query_wait_open(&get->query);
		if (r < 0)
			return r;
	}
	return -ESTALE;
}

static const char *value_of(const struct get *get, const struct wanted *wanted, size_t *ret_len)
{
	if (wanted->len == WIRE_ABSENT) {
		*ret_len = strlen(get->fallback);
		return get->fallback;
	}
	*ret_len = wanted->len;
	return get->values.data + wanted->off;
}

static bool was_printed(const struct get *get, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (std_streq(get->wanted[j].key, get->wanted[i].key))
			return true;
	return false;
}

static void print_json(const struct get *get, struct output *output)
{
	for (size_t i = 0; i < get->n_wanted; i++) {
		const struct wanted *wanted = &get->wanted[i];
		size_t len;
		const char *value = value_of(get, wanted, &len);

		if (was_printed(get, i))
			continue;
		output_text(output, i == 0 ? "{" : ", ");
		output_json(output, wanted->key, wanted->key_len);
		output_text(output, ": ");
		output_json(output, value, len);
	}
	output_text(output, "}\n");
}

static void print_plain(const struct get *get, struct output *output)
{
	for (size_t i = 0; i < get->n_wanted; i++) {
		size_t len;
		const char *value = value_of(get, &get->wanted[i], &len);

		output_bytes(output, value, len);
		output_bytes(output, get->terminator, get->terminator_len);
	}
}

static int print(const struct get *get)
{
	struct output output = { 0 };
	int r;

	if (get->json)
		print_json(get, &output);
	else
		print_plain(get, &output);
	r = output_flush(&output, STDOUT_FILENO);
	output_done(&output);
	return message_written(get->query.context->name, r);
}

static int complain_about_age(const struct get *get, uint64_t age_usec)
{
	char is[32], may_be[32];

	if (age_usec == UINT64_MAX)
		return message_fail(get->query.context->name, EXIT_AWAY,
			"service %s was never confirmed by its source: see why with: "
			"consulcfg-status %s",
			get->query.service, get->query.service);
	return message_fail(get->query.context->name, EXIT_AWAY,
		"service %s was confirmed %s ago, more than %s: see why with: consulcfg-status %s",
		get->query.service, message_duration(age_usec, is, sizeof(is)),
		message_duration(get->max_age_usec, may_be, sizeof(may_be)), get->query.service);
}

static int complain_about_keys(const struct get *get)
{
	const struct wanted *first = NULL;
	char key[128], others[48] = "";
	unsigned n = 0;

	/* Most often the service's name is wrong then, and its list would show nothing. */
	if (le64_get(get->query.info.n_entries) == 0)
		return message_fail(get->query.context->name, EXIT_NOTHING,
			"service %s has no keys at all, if that is its name: see where they are "
			"looked for with: consulcfg-status --json %s",
			get->query.service, get->query.service);
	for (size_t i = 0; i < get->n_wanted; i++) {
		if (get->wanted[i].len != WIRE_ABSENT)
			continue;
		first = first ? first : &get->wanted[i];
		n++;
	}
	if (n > 1)
		snprintf(others, sizeof(others), " (and %u others that were asked for)", n - 1);
	return message_fail(get->query.context->name, EXIT_NOTHING,
		"service %s has no key %s%s: see those it has with: consulcfg-list --keys %s",
		get->query.service,
		/* cppcheck-suppress nullPointer ; there is one, else nobody complains */
		key_escape(first->key, first->key_len, key, sizeof(key)), others,
		get->query.service);
}

/* All keys or nothing: a script that takes lines apart must not get fewer of them. */
static int judge(const struct get *get)
{
	uint64_t age_usec = le64_get(get->query.info.age_usec);

	if (age_usec > get->max_age_usec)
		return complain_about_age(get, age_usec);
	for (size_t i = 0; i < get->n_wanted; i++)
		if (get->wanted[i].len == WIRE_ABSENT && !get->fallback)
			return complain_about_keys(get);
	return print(get);
}

/* 0: go on; else an exit code. */
static int take_option(struct get *get, struct args *args, int code, const char *argument)
{
	const struct context *context = args->context;

	switch (code) {
	case 't':
		if (verb_timeout(argument, &get->query.timeout_usec) < 0)
			return verb_usage(context, "-t %.40s is no time", argument);
		return 0;
	case 'd':
		get->fallback = argument;
		return 0;
	case 'n':
	case '0':
		if (get->terminator_len != 1 || get->terminator[0] != '\n')
			return verb_usage(context, "-n and -0 exclude each other");
		get->terminator = "";
		get->terminator_len = code == '0';
		return 0;
	case GET_JSON:
		get->json = true;
		return 0;
	case GET_MAX_AGE:
		if (value_duration_us(argument, strlen(argument), &get->max_age_usec) < 0)
			return verb_usage(context, "--max-age %.40s is no duration", argument);
		return 0;
	}
	return EXIT_OTHER;
}

static int take_operands(struct get *get, struct args *args)
{
	char shown[128];

	if (args->n_operands < 2)
		return verb_usage(args->context, "give a service and at least one key");
	if (!key_is_service_name(args->argv[0], strlen(args->argv[0])))
		return verb_bad_service(args->context, args->argv[0]);
	if (get->json && (get->terminator_len != 1 || get->terminator[0] != '\n'))
		return verb_usage(args->context, "--json excludes -n and -0");
	get->query.service = args->argv[0];
	get->n_wanted = (size_t)args->n_operands - 1;
	get->wanted = calloc(get->n_wanted, sizeof(*get->wanted));
	if (!get->wanted)
		return message_fail(args->context->name, EXIT_OTHER, "out of memory");
	for (size_t i = 0; i < get->n_wanted; i++) {
		struct wanted *wanted = &get->wanted[i];

		wanted->key = args->argv[i + 1];
		wanted->key_len = strlen(wanted->key);
		if (key_check(wanted->key, wanted->key_len) < 0)
			return verb_usage(args->context,
				"'%s' is no key: give 1 to %d bytes of UTF-8",
				key_escape(wanted->key, wanted->key_len, shown, sizeof(shown)),
				LIMIT_KEY);
	}
	return 0;
}

static int run_get(struct get *get, struct args *args)
{
	const char *argument = NULL;
	int code, r;

	while ((code = verb_next(args, &argument)) > 0) {
		r = take_option(get, args, code, argument);
		if (r != 0)
			return r;
	}
	if (code == VERB_EXIT)
		return args->exit_code;
	r = take_operands(get, args);
	if (r != 0)
		return r;
	r = query_run(&get->query, attempt, get);
	if (r < 0)
		return query_fail(&get->query, r);
	query_done(&get->query);
	return judge(get);
}

static int run(struct context *context, struct args *args)
{
	struct get get = {
		.query = { .context = context, .timeout_usec = DEFAULT_QUERY_USEC },
		.terminator = "\n",
		.terminator_len = 1,
		.max_age_usec = UINT64_MAX,
	};
	int exit_code = run_get(&get, args);

	output_done(&get.values);
	free(get.wanted);
	return exit_code;
}

const struct verb cmd_get = {
	.name = "get",
	.operands = "SERVICE KEY...",
	.summary = "Print the values of keys of a service.",
	.options = options,
	.run = run,
};
