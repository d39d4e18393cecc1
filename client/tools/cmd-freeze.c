/*
 * consulcfg freeze: a service keeps the contents of one generation, whatever its source says.
 */
#include "client/tools/commands.h"

#include <stdio.h>
#include <time.h>

#include "client/tools/order.h"

static const struct option options[] = {
	ORDER_OPTIONS,
	{ 0 },
};

static bool is_number(const char *text, const char *digits)
{
	size_t n = strspn(text, digits);

	return n > 0 && text[n] == '\0' && n > strspn(text, "0");
}

static bool is_plain_target(const char *text)
{
	if (strncmp(text, "digest:", strlen("digest:")) == 0)
		return is_number(text + strlen("digest:"), "0123456789abcdefABCDEF");
	return std_streq(text, "previous") || is_number(text, "0123456789");
}

/* "before:" with a date and a time of this host's, or seconds since 1970, to the latter. */
static bool take_target(const char *text, char *ret_target, size_t size)
{
	static const char *const formats[] = { "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S",
		"%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%s" };
	const char *when = text + strlen("before:");

	if (strncmp(text, "before:", strlen("before:")) != 0)
		return is_plain_target(text) && snprintf(ret_target, size, "%s", text) < (int)size;
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		struct tm tm = { .tm_isdst = -1 };
		const char *end = strptime(when, formats[i], &tm);

		if (end && *end == '\0') {
			snprintf(ret_target, size, "before:%lld", (long long)mktime(&tm));
			return true;
		}
	}
	return false;
}

static int run(struct context *context, struct args *args)
{
	struct wire_request request = { .what = WIRE_PIN_FREEZE };
	char target[64];
	const char *argument;
	int code, r = 0;

	while ((code = verb_next(args, &argument)) > 0 && r == 0)
		r = order_option(args, code, argument, &request);
	if (code == VERB_EXIT)
		return args->exit_code;
	if (r == 0 && args->n_operands != 2)
		return verb_usage(context, "give a service and a generation");
	if (r == 0)
		r = order_service(args, args->argv[0], &request);
	if (r != 0)
		return r;
	if (!take_target(args->argv[1], target, sizeof(target)))
		return verb_usage(context,
			"%.60s is no generation; write a number, previous, before:2026-01-31T12:00 or "
			"digest:HEX",
			args->argv[1]);
	request.key = target;
	request.key_len = strlen(target);
	return order_send(context, &request,
		"no such generation is kept; consulcfg-history shows those that are");
}

const struct verb cmd_freeze = {
	.name = "freeze",
	.operands = "SERVICE GENERATION|previous|before:TIME|digest:HEX",
	.summary = "Serve the contents of one generation, whatever the source says.",
	.options = options,
	.run = run,
};
