/*
 * consulcfg thaw: a frozen service follows its source again.
 */
#include "client/tools/commands.h"

#include "client/tools/order.h"

static const struct option options[] = {
	{ 0 },
};

static int run(struct context *context, struct args *args)
{
	struct wire_request request = { .what = WIRE_PIN_THAW };
	const char *argument;
	int r;

	if (verb_next(args, &argument) == VERB_EXIT)
		return args->exit_code;
	if (args->n_operands != 1)
		return verb_usage(context, "give a service");
	r = order_service(args, args->argv[0], &request);
	return r != 0 ? r : order_send(context, &request, "it is not frozen");
}

const struct verb cmd_thaw = {
	.name = "thaw",
	.operands = "SERVICE",
	.summary = "Let a frozen service follow its source again.",
	.options = options,
	.run = run,
};
