#include "client/tools/opener.h"

#include "client/lib/link.h"
#include "client/tools/message.h"

int opener_check_data(ccfg *cfg)
{
	const ccfg_view *view = ccfg_pin(cfg);
	struct ccfg_info info = { .size = sizeof(info) };
	bool has_data = ccfg_view_generation(view) != 0;

	ccfg_unpin(view);
	if (has_data)
		return 0;
	ccfg_info(cfg, &info);
	return info.error < 0 ? info.error : -ETIMEDOUT;
}

int opener_open(const struct context *context, const char *service, uint64_t timeout_usec,
	unsigned flags, ccfg **ret_cfg)
{
	uint64_t ms = timeout_usec / USEC_PER_MSEC;
	const struct ccfg_options options = {
		.size = sizeof(options),
		.socket_path = context->socket_path,
		.timeout_ms = timeout_usec == UINT64_MAX ? -1 : (int)MIN(MAX(ms, 1), INT_MAX),
		.flags = flags | (timeout_usec == 0 ? CCFG_NOWAIT : 0),
	};
	ccfg *cfg = NULL;
	int r;

	r = ccfg_open(service, &options, &cfg);
	/* With -t 0 the library opens in any case; here it is data now or an error. */
	if (r == 0)
		r = opener_check_data(cfg);
	if (r < 0)
		ccfg_close(cfg);
	else
		*ret_cfg = cfg;
	return r;
}

int opener_complain(
	const struct context *context, const char *service, uint64_t timeout_usec, int error)
{
	struct trouble trouble = {
		.error = error,
		.service = service,
		.timeout_usec = timeout_usec,
		.words = "",
	};
	struct link link;

	if (link_init(&link, context->socket_path) == 0)
		trouble.socket_path = link_path(&link);
	if (error == -EACCES && trouble.socket_path && access(trouble.socket_path, W_OK) < 0 &&
		errno == EACCES)
		trouble.words = NULL;
	return message_trouble(context->name, &trouble);
}
