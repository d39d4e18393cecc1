/*
 * consulcfg resync: compare with the source now.
 */
#include "client/tools/commands.h"

#include "client/tools/message.h"
#include "client/tools/operation.h"
#include "proto/key.h"

static const struct option options[] = {
	{ 0 },
};

static int run(struct context *context, struct args *args)
{
	struct operation operation = {
		.query = { .context = context },
		.op = WIRE_RESYNC,
		.request = { .service = "" },
	};
	const char *argument;

	if (verb_next(args, &argument) == VERB_EXIT)
		return args->exit_code;
	if (args->n_operands > 1)
		return verb_usage(context, "give at most one service");
	if (args->n_operands == 1) {
		operation.request.service = args->argv[0];
		operation.request.service_len = strlen(args->argv[0]);
		if (!key_is_service_name(args->argv[0], operation.request.service_len))
			return verb_bad_service(context, args->argv[0]);
	}
	return operation_run(&operation);
}

const struct verb cmd_resync = {
	.name = "resync",
	.operands = "[SERVICE]",
	.summary = "Have the daemon compare services with the source now.",
	.options = options,
	.run = run,
};
