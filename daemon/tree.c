#include "daemon/tree.h"

#include <stdarg.h>
#include <stdio.h>

#include "daemon/log.h"
#include "daemon/trouble.h"

RB_HEAD(tree_table, tree);

struct trees {
	struct tree_table table; /* by prefix */
	unsigned n;
	struct source *source;
	struct troubles *troubles;
};

static int compare_trees(const struct tree *a, const struct tree *b)
{
	return strcmp(a->prefix, b->prefix);
}

ORDERED_GENERATE(tree_table, tree, link, compare_trees)

int trees_new(struct loop *loop, struct source *source, struct trees **ret_trees)
{
	struct trees *trees = calloc(1, sizeof(*trees));
	int r;

	if (!trees)
		return -ENOMEM;
	RB_INIT(&trees->table);
	trees->source = source;
	r = troubles_new(loop, trees, &trees->troubles);
	if (r < 0) {
		free(trees);
		return r;
	}
	*ret_trees = trees;
	return 0;
}

struct trees *trees_free(struct trees *trees)
{
	if (!trees)
		return NULL;
	troubles_free(trees->troubles);
	free(trees);
	return NULL;
}

unsigned trees_count(const struct trees *trees)
{
	return trees->n;
}

struct tree *trees_next(struct trees *trees, struct tree *tree)
{
	return tree ? RB_NEXT(tree_table, &trees->table, tree) : RB_MIN(tree_table, &trees->table);
}

static struct tree *tree_free(struct tree *tree)
{
	if (tree->feed)
		tree->feed = tree->trees->source->stop(tree->feed);
	if (tree->error.is_set)
		trouble_leave(tree->trees->troubles, trouble_kind_of(tree->error.kind));
	if (tree->held.set)
		trouble_leave(tree->trees->troubles, TROUBLE_HELD);
	kvset_unref(tree->content);
	kvset_unref(tree->said);
	kvset_unref(tree->held.set);
	tree_error_clear(&tree->error);
	free(tree->prefix);
	free(tree);
	return NULL;
}

static int tree_new(struct trees *trees, const char *prefix, struct tree **ret_tree)
{
	struct tree *tree = calloc(1, sizeof(*tree));
	int r;

	if (!tree)
		return -ENOMEM;
	list_init(&tree->observers);
	tree->trees = trees;
	tree->refs = 1;
	tree->state = WIRE_LOADING;
	tree->prefix = strdup(prefix);
	r = tree->prefix ? trees->source->start(trees->source, tree, &tree->feed) : -ENOMEM;
	if (r < 0) {
		tree_free(tree);
		return r;
	}
	RB_INSERT(tree_table, &trees->table, tree);
	trees->n++;
	*ret_tree = tree;
	return 0;
}

int trees_get(struct trees *trees, const char *prefix, struct tree **ret_tree)
{
	struct tree wanted = { .prefix = (char *)(uintptr_t)prefix };
	struct tree *tree = RB_FIND(tree_table, &trees->table, &wanted);

	if (!tree)
		return tree_new(trees, prefix, ret_tree);
	tree->refs++;
	*ret_tree = tree;
	return 0;
}

struct tree *tree_unref(struct tree *tree)
{
	if (tree && --tree->refs == 0) {
		RB_REMOVE(tree_table, &tree->trees->table, tree);
		tree->trees->n--;
		tree_free(tree);
	}
	return NULL;
}

void tree_resync(struct tree *tree)
{
	if (tree->feed)
		tree->trees->source->resync(tree->feed);
}

/* Of a layer each service knows those keys that no higher one of its own had: an answer that lacks
 * the others must not pass for what is known. Without memory the most keys count. Takes the set. */
static void unite(struct tree *tree, struct kvset *set)
{
	struct kvset *united, *smaller = set;

	/* The index of an answer without keys is not one at which there were any. */
	if (!tree->content || tree->content->records.n == 0) {
		kvset_unref(tree->content);
		tree->content = set;
		return;
	}
	if (kvset_unite(tree->content, set, &united) == 0) {
		kvset_unref(tree->content);
		tree->content = united;
	} else if (tree->content->records.n < set->records.n) {
		smaller = tree->content;
		tree->content = set;
	}
	kvset_unref(smaller);
}

static void add_restored(struct tree *tree, struct kvset *set)
{
	size_t n = tree->content ? tree->content->records.n : 0;

	unite(tree, set);
	if (tree->content->records.n > n && tree->trees->source->doubt)
		tree->trees->source->doubt(tree->feed);
}

void tree_restore(struct tree *tree, struct kvset *set, uint64_t confirmed_at)
{
	if (tree->has_answered) {
		kvset_unref(set);
		return;
	}
	if (set)
		add_restored(tree, set);
	/* What the source said, and what is held of it, is as it was. */
	if (tree->said || tree->held.set)
		return;
	tree->state = WIRE_BACKUP;
	tree->confirmed_at = confirmed_at;
}

bool tree_may_be_doubted(const struct tree *tree)
{
	return tree->has_answered && tree->trees->source->doubt;
}

void tree_doubt(struct tree *tree, struct kvset *set)
{
	log_debug("%s: a backup knows more than the source said: it is asked again", tree->prefix);
	if (!tree->said)
		tree->said = kvset_ref(tree->content);
	tree->has_answered = false;
	unite(tree, set);
	tree->trees->source->doubt(tree->feed);
}

void tree_keep_as(struct tree *tree, struct kvset *set)
{
	kvset_unref(tree->content);
	tree->content = set;
}

void tree_observe(struct tree *tree, struct tree_observer *observer)
{
	list_append(&tree->observers, &observer->link);
}

void tree_unobserve(struct tree_observer *observer)
{
	list_unlink(&observer->link);
}

/* Observers may come and go, themselves and each other, while they are told. */
static void tell_observers(struct tree *tree, bool content_changed)
{
	struct list waiting = LIST_INIT(waiting);

	list_splice(&waiting, &tree->observers);
	while (!list_is_empty(&waiting)) {
		struct tree_observer *observer =
			LIST_ENTRY(waiting.next, struct tree_observer, link);

		list_unlink(&observer->link);
		list_append(&tree->observers, &observer->link);
		observer->fn(tree, content_changed, observer->userdata);
	}
}

static void mark_answered(struct tree *tree)
{
	enum trouble_kind trouble = trouble_kind_of(tree->error.kind);

	if (!tree->error.is_set)
		return;
	log_debug("%s: answered again", tree->prefix);
	tree_error_clear(&tree->error);
	trouble_end(tree->trees->troubles, trouble, tree, NULL);
}

/* `why` is what ended the hold, if there was one. */
static void mark_confirmed(struct tree *tree, const char *why)
{
	mark_answered(tree);
	if (tree->held.set) {
		log_debug("%s: not held any more: %s", tree->prefix, why);
		tree->held.set = kvset_unref(tree->held.set);
		trouble_end(tree->trees->troubles, TROUBLE_HELD, tree, why);
	}
	tree->state = WIRE_LIVE;
	tree->said = kvset_unref(tree->said);
	tree->has_answered = true;
	tree->confirmed_at = loop_now();
}

static void warn_about_entries(const struct tree *tree, const struct kvset *set)
{
	const struct kvset *old = tree->content;

	if (set->n_skipped > 0 && (!old || old->n_skipped != set->n_skipped))
		log_warning("%s: %zu keys skipped: a key is 1 to %d bytes of UTF-8 without NUL",
			tree->prefix, set->n_skipped, LIMIT_KEY);
	if (set->n_dropped > 0 && (!old || old->n_dropped != set->n_dropped))
		log_warning("%s: %zu keys came twice in one answer, the last value counts",
			tree->prefix, set->n_dropped);
}

/* From what observers have. */
static bool is_other(const struct tree *tree, const struct kvset *set)
{
	const struct kvset *old = tree->said ? tree->said : tree->content;

	return !old || !kvset_same(old, set);
}

static bool apply(struct tree *tree, struct kvset *set, const char *why)
{
	bool content_changed = is_other(tree, set);

	warn_about_entries(tree, set);
	/* Also when nothing changed: the newer set has the newer ModifyIndexes. */
	kvset_unref(tree->content);
	tree->content = set;
	mark_confirmed(tree, why);
	tell_observers(tree, content_changed);
	return content_changed;
}

bool tree_apply(struct tree *tree, struct kvset *set)
{
	return apply(tree, set, "taking what the source says now");
}

void tree_confirm(struct tree *tree)
{
	bool content_changed = tree->said && is_other(tree, tree->content);

	mark_confirmed(tree, "the source says again what is served");
	tell_observers(tree, content_changed);
}

void tree_hold(struct tree *tree, struct kvset *set, enum tree_doubt doubt, const char *reason)
{
	bool is_first = !tree->held.set;
	bool is_news = is_first || tree->held.doubt != doubt;
	/* Of access that is lost the time goes on while single looks are unclear. */
	bool is_of_data = doubt == TREE_DATA_LOST || tree->held.doubt == TREE_DATA_LOST;

	mark_answered(tree);
	kvset_unref(tree->held.set);
	tree->held.set = set;
	tree->held.reason = reason;
	if (!is_news)
		return;
	if (is_first || is_of_data)
		tree->held.doubted_since = loop_now();
	tree->held.doubt = doubt;
	if (is_first)
		tree->held.since = loop_now();
	else
		trouble_leave(tree->trees->troubles, TROUBLE_HELD);
	tree->held.is_told = false;
	tree->state = WIRE_HELD;
	log_debug("%s: is held: %s", tree->prefix, reason);
	trouble_begin(tree->trees->troubles, TROUBLE_HELD);
	tell_observers(tree, false);
}

void tree_hold_on(struct tree *tree)
{
	if (!tree->error.is_set)
		return;
	mark_answered(tree);
	tell_observers(tree, false);
}

uint64_t tree_hold_left_usec(const struct tree *tree)
{
	uint64_t longest = 0, age = loop_now() - tree->held.doubted_since;

	if (!tree->held.set || tree->held.doubt != TREE_ACCESS_LOST)
		return UINT64_MAX;
	LIST_FOREACH (node, &tree->observers) {
		uint64_t hold_usec = LIST_ENTRY(node, struct tree_observer, link)->hold_usec;

		if (hold_usec == 0)
			return UINT64_MAX;
		longest = MAX(longest, hold_usec);
	}
	return longest > age ? longest - age : 0;
}

bool tree_accept(struct tree *tree)
{
	if (!tree->held.set)
		return false;
	apply(tree, kvset_ref(tree->held.set), "an operator accepted what the source says");
	tree_resync(tree);
	return true;
}

/* Says what is wrong now; what it was before, if anything, has gone over into this. True: it is
 * news. */
static bool change_trouble(struct tree *tree, enum tree_error_kind kind, const char *message)
{
	struct troubles *troubles = tree->trees->troubles;
	struct tree_error *error = &tree->error;
	enum trouble_kind trouble = trouble_kind_of(kind);
	bool has_same = error->is_set && trouble_kind_of(error->kind) == trouble, is_news;

	if (error->is_set && !has_same)
		trouble_leave(troubles, trouble_kind_of(error->kind));
	is_news = tree_error_set(error, kind, message);
	if (has_same)
		return is_news;
	error->is_told = false;
	trouble_begin(troubles, trouble);
	return true;
}

void tree_fail(
	struct tree *tree, enum tree_error_kind kind, uint64_t retry_at, const char *format, ...)
{
	char message[TREE_MESSAGE];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	tree->trees->source->n_errors[kind]++;
	tree->error.retry_at = retry_at;
	if (tree->state == WIRE_LIVE)
		tree->state = WIRE_STALE;
	if (!change_trouble(tree, kind, message))
		return;
	log_debug("%s: %s", tree->prefix, message);
	tell_observers(tree, false);
}

bool tree_is_silent(const struct tree *tree)
{
	return tree->error.is_set && trouble_kind_of(tree->error.kind) == TROUBLE_SILENCE;
}

bool tree_error_set(struct tree_error *error, enum tree_error_kind kind, const char *message)
{
	if (error->is_set && error->kind == kind && std_streq(tree_error_message(error), message))
		return false;
	if (!error->is_set)
		error->since = loop_now();
	error->is_set = true;
	error->kind = kind;
	free(error->message);
	error->message = strdup(message);
	return true;
}

void tree_error_clear(struct tree_error *error)
{
	free(error->message);
	*error = (struct tree_error){ 0 };
}

const char *tree_error_message(const struct tree_error *error)
{
	return error->message ? error->message : "no memory to say what is wrong";
}

const char *tree_error_kind_name(enum tree_error_kind kind)
{
	switch (kind) {
	case TREE_UNREACHABLE:
		return "unreachable";
	case TREE_DENIED:
		return "denied";
	case TREE_TIMEOUT:
		return "timeout";
	case TREE_INVALID:
		return "invalid";
	case TREE_LIMIT:
		return "limit";
	}
	return "unknown";
}
