#include "client/tools/operation.h"

#include "client/tools/message.h"

/* What the daemon refused is told from what happens to the link: above 0. */
static int refusal_of(int error)
{
	switch (error) {
	case -ENOENT:
		return EXIT_NOTHING;
	case -EACCES:
		return EXIT_DENIED;
	case -ESTALE:
		return EXIT_OTHER;
	}
	return error;
}

static int attempt(struct query *query, void *userdata)
{
	struct operation *operation = userdata;
	struct link_reply reply;
	uint32_t tag;
	int r;

	r = link_send(&query->link, operation->op, &operation->request, &tag);
	if (r < 0)
		return r;
	r = query_receive(query, &reply);
	if (r == 0 && operation->reply_size > 0)
		r = link_reply_head(&reply, operation->reply, operation->reply_size);
	return refusal_of(r);
}

int operation_run(struct operation *operation)
{
	struct query *query = &operation->query;
	int r = query_run(query, attempt, operation);

	if (r < 0)
		return query_fail(query, r);
	if (r > 0)
		message_fail(query->context->name, r, "%s", query->words);
	query_done(query);
	return r;
}
