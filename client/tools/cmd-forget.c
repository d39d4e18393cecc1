/*
 * consulcfg forget: what is kept of a service is removed from the disk.
 */
#include "client/tools/commands.h"

#include "client/tools/order.h"

static const struct option options[] = {
	{ 0 },
};

static bool is_generation(const char *text)
{
	size_t n_zeros = strspn(text, "0");

	return text[n_zeros] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

static int run(struct context *context, struct args *args)
{
	struct wire_request request = { .what = WIRE_PIN_FORGET };
	const char *argument;
	int r;

	if (verb_next(args, &argument) == VERB_EXIT)
		return args->exit_code;
	if (args->n_operands < 1 || args->n_operands > 2)
		return verb_usage(context, "give a service, and a generation");
	r = order_service(args, args->argv[0], &request);
	if (r != 0)
		return r;
	if (args->n_operands == 2) {
		request.key = args->argv[1];
		request.key_len = strlen(args->argv[1]);
		if (!is_generation(request.key))
			return verb_usage(
				context, "a generation is a number, as consulcfg-history shows it");
	}
	return order_send(context, &request,
		request.key ? "no such generation is kept; consulcfg-history shows those that are"
			    : "nothing is kept of it");
}

const struct verb cmd_forget = {
	.name = "forget",
	.operands = "SERVICE [GENERATION]",
	.summary = "Remove what is kept of a service, but what is served now.",
	.options = options,
	.run = run,
};
