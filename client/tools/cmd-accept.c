/*
 * consulcfg accept: what is held of a service is right.
 */
#include "client/tools/commands.h"

#include <stdio.h>

#include "client/tools/message.h"
#include "client/tools/operation.h"
#include "client/tools/output.h"
#include "proto/key.h"

#define DIGEST_DIGITS 16

static const struct option options[] = {
	{ 0 },
};

/* As consulcfg-status shows it. */
static bool parse_digest(const char *text, uint64_t *ret_digest)
{
	if (strlen(text) != DIGEST_DIGITS ||
		strspn(text, "0123456789abcdefABCDEF") != DIGEST_DIGITS)
		return false;
	*ret_digest = strtoull(text, NULL, 16);
	return true;
}

static int accept_held(struct context *context, const struct wire_request *request)
{
	struct wire_accepted accepted = { 0 };
	struct operation operation = {
		.query = { .context = context },
		.op = WIRE_ACCEPT,
		.request = *request,
		.reply = &accepted,
		.reply_size = sizeof(accepted),
	};
	struct output output = { 0 };
	char line[LIMIT_SERVICE_NAME + 128];
	int r = operation_run(&operation);

	if (r != EXIT_DONE)
		return r;
	snprintf(line, sizeof(line), "%s: accepted %llu keys, digest %016llx\n", request->service,
		(unsigned long long)le64_get(accepted.n_keys),
		(unsigned long long)le64_get(accepted.digest));
	output_text(&output, line);
	r = output_flush(&output, STDOUT_FILENO);
	output_done(&output);
	return message_written(context->name, r);
}

static int run(struct context *context, struct args *args)
{
	struct wire_request request = { 0 };
	const char *argument;

	if (verb_next(args, &argument) == VERB_EXIT)
		return args->exit_code;
	if (args->n_operands < 1 || args->n_operands > 2)
		return verb_usage(context, "give a service, and the digest of what is held of it");
	request.service = args->argv[0];
	request.service_len = strlen(request.service);
	if (!key_is_service_name(request.service, request.service_len))
		return verb_bad_service(context, request.service);
	request.has_digest = args->n_operands == 2;
	if (request.has_digest && !parse_digest(args->argv[1], &request.digest))
		return verb_usage(context, "a digest is %d hexadecimal digits, not '%.40s'",
			DIGEST_DIGITS, args->argv[1]);
	return accept_held(context, &request);
}

const struct verb cmd_accept = {
	.name = "accept",
	.operands = "SERVICE [DIGEST]",
	.summary = "Make what is held of a service its contents: it is right.",
	.options = options,
	.run = run,
};
