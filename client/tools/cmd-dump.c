/*
 * consulcfg dump: what is in a backup or an image, read from the file; needs no daemon.
 */
#include "client/tools/commands.h"

#include "client/tools/message.h"
#include "client/tools/output.h"

#include "client/lib/view.h"

static const struct option options[] = {
	{ 0 },
};

static int print(const struct context *context, const struct ccfg_view *view)
{
	struct ccfg_entry entry = { .size = sizeof(entry) };
	struct output output = { 0 };
	size_t cursor = 0;
	int r;

	while (ccfg_view_next(view, "", &cursor, &entry)) {
		output_escaped(&output, entry.key, entry.key_len);
		output_text(&output, "\t");
		output_escaped(&output, entry.value, entry.value_len);
		output_text(&output, "\n");
	}
	r = output_flush(&output, STDOUT_FILENO);
	output_done(&output);
	return message_written(context->name, r);
}

static int run(struct context *context, struct args *args)
{
	struct ccfg_view *view;
	const char *argument;
	int r;

	if (verb_next(args, &argument) == VERB_EXIT)
		return args->exit_code;
	if (args->n_operands != 1)
		return verb_usage(context, "give a file");
	r = view_read(args->argv[0], &view);
	if (r == -EBADMSG)
		return message_fail(context->name, EXIT_OTHER,
			"%s is no backup or image, or it is damaged; take another one",
			args->argv[0]);
	if (r == -EPROTONOSUPPORT)
		return message_fail(context->name, EXIT_OTHER,
			"%s is of another major version; use that version's consulcfg-dump",
			args->argv[0]);
	if (r < 0)
		return message_fail(context->name, EXIT_OTHER, "cannot read %s: %s", args->argv[0],
			strerror(-r));
	if (image_verify(&view->image) < 0) {
		view_unref(view);
		return message_fail(context->name, EXIT_OTHER,
			"%s is damaged inside; take another one", args->argv[0]);
	}
	r = print(context, view);
	view_unref(view);
	return r;
}

const struct verb cmd_dump = {
	.name = "dump",
	.operands = "FILE",
	.summary = "Print the keys and values of a backup or an image.",
	.options = options,
	.run = run,
};
