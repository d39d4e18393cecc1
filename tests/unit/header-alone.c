/*
 * The public header as the first and only one, in strict C99: what a program of a service sees.
 */
#include "client/lib/consulcfg.h"

static size_t count(ccfg *cfg)
{
	const ccfg_view *view = ccfg_pin(cfg);
	struct ccfg_entry entry = { .size = sizeof(entry) };
	size_t cursor = 0, n = 0;

	while (ccfg_view_next(view, "", &cursor, &entry))
		n += ccfg_view_get(view, entry.key, entry.key_len, NULL) == entry.value;
	ccfg_unpin(view);
	return n;
}

int main(void)
{
	const struct ccfg_options options = {
		.size = sizeof(options),
		.socket_path = "/nonexistent/socket",
		.flags = CCFG_NOWAIT,
	};
	struct ccfg_info info = { .size = sizeof(info) };
	ccfg *cfg;
	bool is_right;

	if (ccfg_open("not/a name", &options, &cfg) == 0 || ccfg_open("a", &options, &cfg) < 0)
		return 1;
	is_right = count(cfg) == 0 && ccfg_get_int64(cfg, "none", 7) == 7 &&
		   ccfg_info(cfg, &info) == 0 && info.state == CCFG_LOADING && info.error < 0;
	ccfg_close(cfg);
	return is_right ? 0 : 1;
}
