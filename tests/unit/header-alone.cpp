/*
 * The public header as the first and only one, in strict C++98; linked, so that the names are those
 * of C.
 */
#include "client/lib/consulcfg.h"

static size_t count(ccfg *cfg)
{
	const ccfg_view *view = ccfg_pin(cfg);
	ccfg_entry entry;
	size_t cursor = 0, n = 0;

	entry.size = sizeof(entry);
	while (ccfg_view_next(view, "", &cursor, &entry))
		n += ccfg_view_get(view, entry.key, entry.key_len, NULL) == entry.value;
	ccfg_unpin(view);
	return n;
}

int main()
{
	ccfg_options options = ccfg_options();
	struct ccfg_info info; /* as with stat: a function has the name, too */
	ccfg *cfg;
	bool is_right;

	options.size = sizeof(options);
	options.socket_path = "/nonexistent/socket";
	options.flags = CCFG_NOWAIT;
	info.size = sizeof(info);
	if (ccfg_open("not/a name", &options, &cfg) == 0 || ccfg_open("a", &options, &cfg) < 0)
		return 1;
	is_right = count(cfg) == 0 && ccfg_get_int64(cfg, "none", 7) == 7 &&
		   ccfg_info(cfg, &info) == 0 && info.state == CCFG_LOADING && info.error < 0;
	ccfg_close(cfg);
	return is_right ? 0 : 1;
}
