/*
 * consulcfg explain: what each layer of a service says of a key, and which of them counts.
 */
#include <stdarg.h>
#include <stdio.h>

#include "client/tools/commands.h"

#include "client/tools/message.h"
#include "client/tools/output.h"
#include "client/tools/query.h"
#include "proto/key.h"
#include "proto/limits.h"

enum { EXPLAIN_JSON = 256, EXPLAIN_REDACT };

static const struct option options[] = {
	{ EXPLAIN_JSON, "json", NULL, "print one JSON object" },
	{ EXPLAIN_REDACT, "redact", NULL, "print lengths, and which values are equal, for values" },
	{ 0 },
};

struct explain {
	struct query query;
	const char *key;
	bool json, redact;
	struct output reply; /* a copy: it outlives the connection */
	struct wire_explain head;
	struct wire_layer_entry layers[LIMIT_LAYERS];
	unsigned n_layers;
	struct output output;
};

static int take_reply(struct explain *e, const struct link_reply *reply)
{
	size_t cursor = sizeof(e->head);
	int r;

	r = link_reply_head(reply, &e->head, sizeof(e->head));
	if (r < 0)
		return r;
	output_bytes(&e->reply, reply->payload, reply->len);
	if (e->reply.has_failed)
		return -ENOMEM;
	for (e->n_layers = 0; e->n_layers < LIMIT_LAYERS; e->n_layers++) {
		r = wire_next_layer(e->reply.data, e->reply.len, &cursor, &e->layers[e->n_layers]);
		if (r <= 0)
			break;
	}
	return MIN(r, 0);
}

static int attempt(struct query *query, void *userdata)
{
	struct explain *e = userdata;
	const struct wire_request request = {
		.service = query->service,
		.service_len = strlen(query->service),
		.key = e->key,
		.key_len = strlen(e->key),
	};
	struct link_reply reply;
	uint32_t tag;
	int r;

	e->reply.len = 0;
	r = query_wait_open(query);
	/* A service without data has layers, too: these say why. */
	if (r < 0 && r != -ETIMEDOUT && r != -ENODATA)
		return r;
	r = link_send(&query->link, WIRE_EXPLAIN, &request, &tag);
	if (r == 0)
		r = query_receive(query, &reply);
	return r == 0 ? take_reply(e, &reply) : r;
}

static const struct wire_layer_entry *winner(const struct explain *e)
{
	for (unsigned i = 0; i < e->n_layers; i++)
		if (e->layers[i].flags & WIRE_LAYER_WINS)
			return &e->layers[i];
	return NULL;
}

static bool is_locked(const struct explain *e)
{
	return e->n_layers > 0 && e->layers[0].flags & WIRE_LAYER_LOCKED;
}

/* --- values -------------------------------------------------------------------------------------
 */

static bool is_same_value(const struct wire_layer_entry *a, const struct wire_layer_entry *b)
{
	return b->value && a->value_len == b->value_len && a->sent_len == b->sent_len &&
	       memcmp(a->value, b->value, a->sent_len) == 0;
}

/* The same letter for the same value, and nothing from which it could be guessed. */
static char letter_of(const struct explain *e, const struct wire_layer_entry *layer)
{
	char letter = 'A';

	for (unsigned i = 0; i < e->n_layers; i++) {
		bool is_first = e->layers[i].value != NULL;

		if (is_same_value(layer, &e->layers[i]))
			return letter;
		for (unsigned j = 0; is_first && j < i; j++)
			is_first = !is_same_value(&e->layers[i], &e->layers[j]);
		letter = (char)(letter + is_first);
	}
	return letter;
}

PRINTF_FORMAT(2, 3)
static void print_format(struct output *output, const char *format, ...)
{
	va_list arguments;
	char text[64];

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	output_text(output, text);
}

static void print_redacted(struct explain *e, const struct wire_layer_entry *layer)
{
	const char letter[] = { letter_of(e, layer), '\0' };

	output_text(&e->output, "value ");
	output_text(&e->output, letter);
	print_format(
		&e->output, " of %zu byte%s", layer->value_len, layer->value_len == 1 ? "" : "s");
}

static void print_value(struct explain *e, const struct wire_layer_entry *layer)
{
	if (!layer->value) {
		output_text(&e->output, "-");
	} else if (e->redact) {
		print_redacted(e, layer);
	} else {
		output_escaped(&e->output, layer->value, layer->sent_len);
		if (layer->sent_len < layer->value_len)
			print_format(&e->output, "... (%zu bytes)", layer->value_len);
	}
}

/* --- for people ---------------------------------------------------------------------------------
 */

static void print_layer(struct explain *e, const struct wire_layer_entry *layer)
{
	char age[32];

	output_text(&e->output, layer->flags & WIRE_LAYER_WINS ? "* " : "  ");
	output_escaped(&e->output, layer->prefix, layer->prefix_len);
	output_text(&e->output, "\t");
	output_text(&e->output, wire_state_name(layer->state));
	output_text(&e->output, "\t");
	output_text(&e->output, layer->age_usec == UINT64_MAX
					? "-"
					: message_duration(layer->age_usec, age, sizeof(age)));
	print_format(&e->output, "\tindex %ju", layer->index);
	if (layer->value)
		print_format(&e->output, ", key %ju", layer->modify_index);
	output_text(&e->output, "\t");
	print_value(e, layer);
	output_text(&e->output, "\n");
}

/* What clients read in place of what the layers make. */
static void print_what_differs(struct explain *e)
{
	unsigned flags = le32_get(e->head.flags);

	if (flags & WIRE_EXPLAIN_OVERRIDDEN)
		output_text(&e->output,
			"an operator's override counts instead; to end it: consulcfg-override --clear\n");
	if (!(flags & WIRE_EXPLAIN_PUBLISHED))
		output_text(&e->output,
			"this is not what clients read now: it is frozen, withheld, or just being "
			"published; see consulcfg-status\n");
}

static void print_why(struct explain *e, const struct wire_layer_entry *won)
{
	output_escaped(&e->output, won->prefix, won->prefix_len);
	output_text(&e->output, is_locked(e)
					? " counts: the key is locked, and it is the lowest layer "
					  "that has it\n"
					: " counts: it is the last layer that has the key\n");
	print_what_differs(e);
}

/* --- JSON ---------------------------------------------------------------------------------------
 */

static void print_json_layer(struct explain *e, const struct wire_layer_entry *layer)
{
	struct output *output = &e->output;

	output_text(output, "{\"prefix\": ");
	output_json(output, layer->prefix, layer->prefix_len);
	output_text(output, ", \"state\": \"");
	output_text(output, wire_state_name(layer->state));
	output_text(output, "\", \"age_seconds\": ");
	if (layer->age_usec == UINT64_MAX)
		output_text(output, "null");
	else
		print_format(output, "%ju", layer->age_usec / USEC_PER_SEC);
	print_format(output, ", \"index\": %ju", layer->index);
	print_format(output, ", \"modify_index\": %ju, \"value\": ", layer->modify_index);
	if (!layer->value || e->redact)
		output_text(output, "null");
	else
		output_json(output, layer->value, layer->sent_len);
	if (layer->value)
		print_format(output, ", \"bytes\": %zu", layer->value_len);
	if (layer->value && e->redact) {
		const char letter[] = { letter_of(e, layer), '\0' };

		output_text(output, ", \"same\": \"");
		output_text(output, letter);
		output_text(output, "\"");
	}
	output_text(output,
		layer->flags & WIRE_LAYER_WINS ? ", \"wins\": true}" : ", \"wins\": false}");
}

static void print_json(struct explain *e)
{
	struct output *output = &e->output;

	output_text(output, "{\"service\": ");
	output_json(output, e->query.service, strlen(e->query.service));
	output_text(output, ", \"key\": ");
	output_json(output, e->key, strlen(e->key));
	print_format(output, ", \"generation\": %ju", le64_get(e->head.generation));
	output_text(output, ", \"state\": \"");
	output_text(output, wire_state_name(le32_get(e->head.state)));
	output_text(output, is_locked(e) ? "\", \"locked\": true" : "\", \"locked\": false");
	output_text(output, le32_get(e->head.flags) & WIRE_EXPLAIN_PUBLISHED
				    ? ", \"published\": true"
				    : ", \"published\": false");
	output_text(output, le32_get(e->head.flags) & WIRE_EXPLAIN_OVERRIDDEN
				    ? ", \"overridden\": true"
				    : ", \"overridden\": false");
	if (winner(e))
		output_text(output, is_locked(e) ? ", \"why\": \"the lowest layer: it is locked\""
						 : ", \"why\": \"the last layer that has it\"");
	output_text(output, ", \"layers\": [");
	for (unsigned i = 0; i < e->n_layers; i++) {
		output_text(output, i > 0 ? ",\n " : "");
		print_json_layer(e, &e->layers[i]);
	}
	output_text(output, "]}\n");
}

static int print(struct explain *e)
{
	const struct wire_layer_entry *won = winner(e);
	char key[128];
	int exit_code;

	if (e->json)
		print_json(e);
	for (unsigned i = 0; !e->json && i < e->n_layers; i++)
		print_layer(e, &e->layers[i]);
	if (won && !e->json)
		print_why(e, won);
	exit_code =
		message_written(e->query.context->name, output_flush(&e->output, STDOUT_FILENO));
	if (exit_code != EXIT_DONE || won)
		return exit_code;
	return message_fail(e->query.context->name, EXIT_NOTHING,
		"no layer of service %s has key %s: see all keys with: consulcfg-list --keys %s",
		e->query.service, key_escape(e->key, strlen(e->key), key, sizeof(key)),
		e->query.service);
}

static int run_explain(struct explain *e, struct args *args)
{
	const char *argument;
	int code, r;

	while ((code = verb_next(args, &argument)) > 0) {
		e->json |= code == EXPLAIN_JSON;
		e->redact |= code == EXPLAIN_REDACT;
	}
	if (code == VERB_EXIT)
		return args->exit_code;
	if (args->n_operands != 2)
		return verb_usage(args->context, "give a service and a key");
	e->query.service = args->argv[0];
	e->key = args->argv[1];
	if (!key_is_service_name(e->query.service, strlen(e->query.service)))
		return verb_bad_service(args->context, e->query.service);
	if (key_check(e->key, strlen(e->key)) < 0)
		return verb_usage(
			args->context, "this is not a key: 1 to %d bytes of UTF-8", LIMIT_KEY);
	r = query_run(&e->query, attempt, e);
	if (r < 0)
		return query_fail(&e->query, r);
	query_done(&e->query);
	return print(e);
}

static int run(struct context *context, struct args *args)
{
	struct explain explain = {
		.query = { .context = context, .timeout_usec = DEFAULT_QUERY_USEC },
	};
	int exit_code = run_explain(&explain, args);

	output_done(&explain.reply);
	output_done(&explain.output);
	return exit_code;
}

const struct verb cmd_explain = {
	.name = "explain",
	.operands = "SERVICE KEY",
	.summary = "Show what each layer says of a key, and which of them counts and why.",
	.options = options,
	.run = run,
};
