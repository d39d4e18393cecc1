#include "daemon/errand.h"

void errand_begin(struct errand *errand, const struct reply *reply)
{
	errand->reply = *reply;
	reply->session->errand = errand;
}

void errand_done(struct errand *errand)
{
	errand->is_done = true;
	session_wake(errand->reply.session);
}

void errand_answer(struct session *session)
{
	if (!session->errand || !session->errand->is_done)
		return;
	session->errand->answer(session->errand);
	errand_drop(session);
}

void errand_drop(struct session *session)
{
	struct errand *errand = TAKE_PTR(session->errand);

	if (errand)
		errand->free(errand);
}
