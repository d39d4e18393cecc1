#include "daemon/admin-page.h"

#include "daemon/admin-page-files.h" /* made from daemon/page/ */

static const struct admin_page pages[] = {
	{ "/", "text/html; charset=utf-8", index_html, sizeof(index_html) - 1 },
	{ "/page.css", "text/css; charset=utf-8", page_css, sizeof(page_css) - 1 },
	{ "/page.js", "text/javascript; charset=utf-8", page_js, sizeof(page_js) - 1 },
};

const struct admin_page *admin_page_find(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		if (std_streq(pages[i].path, path))
			return &pages[i];
	return NULL;
}
