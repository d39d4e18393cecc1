/*
 * Typed reads: a lookup and the value grammar.
 */
#include "client/lib/handle.h"
#include "proto/value.h"

/* Finds the key in the newest view; *ret_view is to be given back where 0 is returned. */
static int look_up(
	struct ccfg *cfg, const char *key, struct ccfg_view **ret_view, struct record *ret_record)
{
	struct ccfg_view *view;

	if (!key)
		return -EINVAL;
	view = handle_view(cfg);
	if (!image_find(&view->image, key, strlen(key), ret_record)) {
		view_unref(view);
		return -ENOENT;
	}
	*ret_view = view;
	return 0;
}

#define DEFINE_TYPE(name, type)                                                                    \
	int ccfg_read_##name(ccfg *cfg, const char *key, type *ret)                                \
	{                                                                                          \
		struct ccfg_view *view;                                                            \
		struct record record;                                                              \
		int r;                                                                             \
                                                                                                   \
		r = look_up(cfg, key, &view, &record);                                             \
		if (r < 0)                                                                         \
			return r;                                                                  \
		r = value_##name(record.value, record.value_len, ret);                             \
		view_unref(view);                                                                  \
		return r;                                                                          \
	}                                                                                          \
                                                                                                   \
	type ccfg_get_##name(ccfg *cfg, const char *key, type fallback)                            \
	{                                                                                          \
		type value;                                                                        \
                                                                                                   \
		return ccfg_read_##name(cfg, key, &value) == 0 ? value : fallback;                 \
	}

DEFINE_TYPE(bool, bool)
DEFINE_TYPE(int64, int64_t)
DEFINE_TYPE(double, double)
DEFINE_TYPE(duration_us, uint64_t)
