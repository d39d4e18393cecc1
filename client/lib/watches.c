#include "client/lib/watches.h"

#include "proto/key.h"

struct ccfg_watch *watch_new(struct ccfg *handle, struct ccfg_view *view, const char *prefix,
	ccfg_change_fn *fn, void *userdata)
{
	size_t len = strlen(prefix);
	struct ccfg_watch *watch = calloc(1, sizeof(*watch) + len + 1);

	if (!watch)
		return NULL;
	watch->handle = handle;
	watch->view = view_ref(view);
	watch->fn = fn;
	watch->userdata = userdata;
	watch->prefix_len = len;
	memcpy(watch->prefix, prefix, len);
	return watch;
}

struct ccfg_watch *watch_free(struct ccfg_watch *watch)
{
	view_unref(watch->view);
	free(watch);
	return NULL;
}

/* One of two views that are walked side by side. */
struct walk {
	const struct image *image;
	size_t cursor;
	bool has_record;
	struct record record;
};

static void walk_next(struct walk *walk, const struct ccfg_watch *watch)
{
	walk->has_record = image_next(
		walk->image, watch->prefix, watch->prefix_len, &walk->cursor, &walk->record);
}

static struct walk walk_begin(const struct ccfg_view *view, const struct ccfg_watch *watch)
{
	struct walk walk = { .image = &view->image };

	walk_next(&walk, watch);
	return walk;
}

static int order_of(const struct walk *old, const struct walk *new)
{
	if (!old->has_record)
		return 1;
	if (!new->has_record)
		return -1;
	return key_compare(
		old->record.key, old->record.key_len, new->record.key, new->record.key_len);
}

static bool is_same_value(const struct record *a, const struct record *b)
{
	return a->value_len == b->value_len && memcmp(a->value, b->value, a->value_len) == 0;
}

static void tell(const struct ccfg_watch *watch, const struct record *key, const struct record *old,
	const struct record *new, uint64_t generation)
{
	const struct ccfg_change change = {
		.size = sizeof(change),
		.key = key->key,
		.key_len = key->key_len,
		.old_value = old ? old->value : NULL,
		.old_len = old ? old->value_len : 0,
		.new_value = new ? new->value : NULL,
		.new_len = new ? new->value_len : 0,
		.generation = generation,
	};

	watch->fn(watch->handle, &change, watch->userdata);
}

unsigned watch_tell(const struct ccfg_watch *watch, const struct ccfg_view *before,
	const struct ccfg_view *after)
{
	struct walk old = walk_begin(before, watch), new = walk_begin(after, watch);
	unsigned n = 0;

	while ((old.has_record || new.has_record) && !watch->is_closed) {
		int order = order_of(&old, &new);

		if (order != 0 || !is_same_value(&old.record, &new.record)) {
			tell(watch, order <= 0 ? &old.record : &new.record,
				order <= 0 ? &old.record : NULL, order >= 0 ? &new.record : NULL,
				after->generation);
			n++;
		}
		if (order <= 0)
			walk_next(&old, watch);
		if (order >= 0)
			walk_next(&new, watch);
	}
	return n;
}

static void sweep(struct watches *watches, bool is_all)
{
	struct ccfg_watch **at = &watches->first;

	while (*at) {
		struct ccfg_watch *watch = *at;

		if (is_all || watch->is_closed) {
			*at = watch->next;
			watch_free(watch);
		} else {
			at = &watch->next;
		}
	}
}

void watches_sweep(struct watches *watches)
{
	sweep(watches, false);
}

void watches_done(struct watches *watches)
{
	sweep(watches, true);
}
