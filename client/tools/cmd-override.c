/*
 * consulcfg override: a key has another value than the source gives it.
 */
#include "client/tools/commands.h"

#include "client/tools/message.h"
#include "client/tools/order.h"

enum { OVERRIDE_CLEAR = 256 };

static const struct option options[] = {
	ORDER_OPTIONS,
	{ OVERRIDE_CLEAR, "clear", NULL, "take the source's value again, without KEY of all keys" },
	{ 0 },
};

static int clear(struct args *args, struct wire_request *request)
{
	if (args->n_operands < 1 || args->n_operands > 2)
		return verb_usage(args->context, "give a service, and a key");
	request->what = WIRE_PIN_CLEAR;
	if (args->n_operands == 2) {
		request->key = args->argv[1];
		request->key_len = strlen(args->argv[1]);
	}
	return order_send(args->context, request, "no such key has another value");
}

/* All of standard input, which fits a request. */
static int read_value(struct args *args, char *buf, size_t size, size_t *ret_len)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(STDIN_FILENO, buf + len, size - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return message_fail(args->context->name, EXIT_OTHER,
			"cannot read the value from standard input: %s", strerror(errno));
	if (len == size)
		return message_fail(args->context->name, EXIT_OTHER,
			"the value is too long for an override; put it into the source");
	*ret_len = len;
	return 0;
}

static int set(struct args *args, struct wire_request *request)
{
	static char value[LIMIT_FRAME / 2];
	const char *equals;
	int r = 0;

	if (args->n_operands != 2)
		return verb_usage(args->context, "give a service and KEY=VALUE");
	request->what = WIRE_PIN_OVERRIDE;
	request->key = args->argv[1];
	equals = strchr(request->key, '=');
	request->key_len = equals ? (size_t)(equals - request->key) : strlen(request->key);
	if (request->key_len == 0 || request->key_len > LIMIT_KEY)
		return verb_usage(args->context, "a key has 1 to %d bytes", LIMIT_KEY);
	request->value = equals ? equals + 1 : value;
	if (equals)
		request->value_len = strlen(equals + 1);
	else
		r = read_value(args, value, sizeof(value), &request->value_len);
	if (r == 0 && request->value_len >= sizeof(value))
		return verb_usage(args->context, "the value is too long for an override");
	return r != 0 ? r : order_send(args->context, request, "nothing was done");
}

static int run(struct context *context, struct args *args)
{
	struct wire_request request = { 0 };
	const char *argument;
	bool must_clear = false;
	int code, r = 0;

	while ((code = verb_next(args, &argument)) > 0 && r == 0) {
		must_clear |= code == OVERRIDE_CLEAR;
		r = order_option(args, code, argument, &request);
	}
	if (code == VERB_EXIT)
		return args->exit_code;
	if (r == 0 && args->n_operands < 1)
		return verb_usage(context, "give a service and KEY=VALUE");
	if (r == 0)
		r = order_service(args, args->argv[0], &request);
	if (r != 0)
		return r;
	return must_clear ? clear(args, &request) : set(args, &request);
}

const struct verb cmd_override = {
	.name = "override",
	.operands = "SERVICE [KEY[=VALUE]]",
	.summary = "Give a key another value than the source does.",
	.options = options,
	.run = run,
};
