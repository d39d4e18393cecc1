#include "daemon/trouble.h"

#include <stdio.h>

#include "daemon/log.h"
#include "proto/hash.h"

struct trouble {
	unsigned n; /* trees that have it */
	unsigned n_most; /* since it began */
	unsigned n_told; /* that had it when it was told last; 0: it was not told */
	unsigned n_over; /* that have it no longer, since then */
	uint64_t due_at; /* what is new is told */
	uint64_t told_words; /* a bit for each, by its hash: two addresses take turns */
};

struct troubles {
	struct trees *trees;
	struct loop_timer *timer;
	struct trouble kinds[TROUBLE_N_KINDS];
};

/* What a line is about. */
struct tidings {
	enum trouble_kind kind;
	struct tree *example; /* what is said is said of this one */
	unsigned n_trees; /* of the daemon */
	unsigned n; /* that have the trouble, */
	unsigned n_bare; /* and no contents, */
	unsigned n_untold; /* or were not told of yet */
	bool has_new_words;
};

enum trouble_kind trouble_kind_of(enum tree_error_kind kind)
{
	switch (kind) {
	case TREE_UNREACHABLE:
	case TREE_TIMEOUT:
		return TROUBLE_SILENCE;
	case TREE_DENIED:
		return TROUBLE_DENIED;
	case TREE_LIMIT:
		return TROUBLE_LIMIT;
	case TREE_INVALID:
		break;
	}
	return TROUBLE_INVALID;
}

/* Gathering ------------------------------------------------------------------------------------ */

static bool has_trouble(const struct tree *tree, enum trouble_kind kind)
{
	if (kind == TROUBLE_HELD)
		return tree->held.set;
	return tree->error.is_set && trouble_kind_of(tree->error.kind) == kind;
}

static bool *told_of(struct tree *tree, enum trouble_kind kind)
{
	return kind == TROUBLE_HELD ? &tree->held.is_told : &tree->error.is_told;
}

static const char *words_of(const struct tree *tree, enum trouble_kind kind)
{
	return kind == TROUBLE_HELD ? tree->held.reason : tree_error_message(&tree->error);
}

static uint64_t bit_of(const char *words)
{
	return UINT64_C(1) << (hash_chain(0, words, strlen(words)) % 64);
}

static void add_tree(struct tidings *tidings, struct tree *tree, uint64_t told_words, int *best)
{
	bool is_untold = !*told_of(tree, tidings->kind);
	bool is_new = !(told_words & bit_of(words_of(tree, tidings->kind)));
	int worth = 2 * is_untold + is_new;

	tidings->n++;
	tidings->n_bare += !tree->content;
	tidings->n_untold += is_untold;
	tidings->has_new_words |= is_new;
	if (worth > *best)
		tidings->example = tree;
	*best = MAX(worth, *best);
}

static struct tidings gather(const struct troubles *troubles, enum trouble_kind kind)
{
	struct tidings tidings = { .kind = kind };
	int best = -1;

	for (struct tree *tree = trees_next(troubles->trees, NULL); tree;
		tree = trees_next(troubles->trees, tree)) {
		tidings.n_trees++;
		if (has_trouble(tree, kind))
			add_tree(&tidings, tree, troubles->kinds[kind].told_words, &best);
	}
	return tidings;
}

static bool is_news(const struct trouble *trouble, const struct tidings *tidings)
{
	if (trouble->n_told == 0 || tidings->has_new_words)
		return true;
	if (tidings->kind == TROUBLE_SILENCE)
		return tidings->n >= 2 * trouble->n_told;
	return tidings->n_untold > 0;
}

/* Lines ---------------------------------------------------------------------------------------- */

static const char *id_of(enum trouble_kind kind)
{
	return kind == TROUBLE_DENIED ? LOG_SOURCE_DENIED : LOG_SOURCE_DOWN;
}

static void write_one(const struct tidings *tidings)
{
	const struct tree *tree = tidings->example;

	if (tidings->kind == TROUBLE_HELD)
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_TREE_HELD, .prefix = tree->prefix),
			"%s: HELD: %s; serving the last good contents of %zu keys instead of %zu",
			tree->prefix, tree->held.reason, tree->content->records.n,
			tree->held.set->records.n);
	else
		log_event(LOG_LEVEL_WARNING,
			ABOUT(id_of(tidings->kind), .prefix = tree->prefix,
				.error = tree_error_kind_name(tree->error.kind)),
			"%s: %s; %s", tree->prefix, tree_error_message(&tree->error),
			tree->content ? "serving the last good contents" : "no contents yet");
}

static void write_many(const struct tidings *tidings)
{
	const char *words = words_of(tidings->example, tidings->kind);
	char served[100];

	if (tidings->n_bare == tidings->n)
		snprintf(served, sizeof(served), "no contents yet");
	else if (tidings->n_bare == 0)
		snprintf(served, sizeof(served), "serving the last good contents");
	else
		snprintf(served, sizeof(served),
			"serving the last good contents of %u, no contents yet of %u",
			tidings->n - tidings->n_bare, tidings->n_bare);
	if (tidings->kind == TROUBLE_HELD)
		log_event(LOG_LEVEL_ERROR, ABOUT(LOG_TREE_HELD),
			"%u of %u prefixes: HELD: %s; %s; consulcfg-status names them", tidings->n,
			tidings->n_trees, words, served);
	else
		log_event(LOG_LEVEL_WARNING,
			ABOUT(id_of(tidings->kind),
				.error = tree_error_kind_name(tidings->example->error.kind)),
			"%u of %u prefixes: %s; %s; consulcfg-status names them", tidings->n,
			tidings->n_trees, words, served);
}

/* Of one tree, by its prefix, or of as many as `whose` says. */
static void write_end(
	enum trouble_kind kind, const char *prefix, const char *whose, const char *why)
{
	if (kind == TROUBLE_HELD)
		log_event(LOG_LEVEL_WARNING, ABOUT(LOG_TREE_RELEASED, .prefix = prefix),
			"%s: no longer held: %s", prefix ? prefix : whose, why);
	else
		log_event(LOG_LEVEL_INFO, ABOUT(LOG_SOURCE_UP, .prefix = prefix),
			"%s: the source answers again", prefix ? prefix : whose);
}

static void write_end_of_some(enum trouble_kind kind, const struct trouble *trouble)
{
	char whose[60];

	snprintf(whose, sizeof(whose), "%u prefixes, not %u", trouble->n_over, trouble->n);
	write_end(kind, NULL, whose, "consulcfg-status names those that are");
}

static void write_end_of_all(enum trouble_kind kind, const struct trouble *trouble, const char *why)
{
	char whose[60];

	snprintf(whose, sizeof(whose), "all of %u prefixes", trouble->n_most);
	write_end(kind, NULL, whose, why);
}

/* Telling -------------------------------------------------------------------------------------- */

static void mark_told(struct troubles *troubles, enum trouble_kind kind)
{
	struct trouble *trouble = &troubles->kinds[kind];

	for (struct tree *tree = trees_next(troubles->trees, NULL); tree;
		tree = trees_next(troubles->trees, tree))
		if (has_trouble(tree, kind)) {
			*told_of(tree, kind) = true;
			trouble->told_words |= bit_of(words_of(tree, kind));
		}
}

static void tell(struct troubles *troubles, enum trouble_kind kind)
{
	struct trouble *trouble = &troubles->kinds[kind];
	struct tidings tidings = gather(troubles, kind);

	trouble->due_at = loop_now() + LIMIT_NEWS_USEC;
	if (trouble->n_over > 0 && trouble->n_told > 0)
		write_end_of_some(kind, trouble);
	trouble->n_over = 0;
	if (!tidings.example || !is_news(trouble, &tidings))
		return;
	if (tidings.n == 1 || tidings.n_untold == 1)
		write_one(&tidings);
	else
		write_many(&tidings);
	mark_told(troubles, kind);
	trouble->n_told = tidings.n;
}

/* For the first line that is due. */
static void arm(struct troubles *troubles)
{
	uint64_t now = loop_now(), due_at = UINT64_MAX;

	for (unsigned kind = 0; kind < TROUBLE_N_KINDS; kind++)
		if (troubles->kinds[kind].n > 0)
			due_at = MIN(due_at, troubles->kinds[kind].due_at);
	if (due_at == UINT64_MAX)
		loop_timer_disarm(troubles->timer);
	else
		loop_timer_arm(troubles->timer, due_at > now ? due_at - now : 0);
}

static void on_timer(void *userdata)
{
	struct troubles *troubles = userdata;
	uint64_t now = loop_now();

	for (unsigned kind = 0; kind < TROUBLE_N_KINDS; kind++)
		if (troubles->kinds[kind].n > 0 && troubles->kinds[kind].due_at <= now)
			tell(troubles, kind);
	arm(troubles);
}

/* Public --------------------------------------------------------------------------------------- */

int troubles_new(struct loop *loop, struct trees *trees, struct troubles **ret_troubles)
{
	struct troubles *troubles = calloc(1, sizeof(*troubles));
	int r;

	if (!troubles)
		return -ENOMEM;
	troubles->trees = trees;
	r = loop_timer_new(loop, on_timer, troubles, &troubles->timer);
	if (r < 0) {
		free(troubles);
		return r;
	}
	*ret_troubles = troubles;
	return 0;
}

struct troubles *troubles_free(struct troubles *troubles)
{
	if (!troubles)
		return NULL;
	loop_timer_free(troubles->timer);
	free(troubles);
	return NULL;
}

void trouble_begin(struct troubles *troubles, enum trouble_kind kind)
{
	struct trouble *trouble = &troubles->kinds[kind];

	trouble->n++;
	trouble->n_most = MAX(trouble->n, trouble->n_most);
	if (trouble->n == 1)
		trouble->due_at = loop_now() + LIMIT_GATHER_USEC;
	if (trouble->n_told == 0 && trouble->n >= trees_count(troubles->trees))
		tell(troubles, kind);
	arm(troubles);
}

void trouble_end(
	struct troubles *troubles, enum trouble_kind kind, const struct tree *tree, const char *why)
{
	struct trouble *trouble = &troubles->kinds[kind];

	trouble->n_over++;
	if (trouble->n == 1 && trouble->n_told > 0) {
		if (trouble->n_most == 1)
			write_end(kind, tree->prefix, NULL, why);
		else
			write_end_of_all(kind, trouble, why);
	}
	trouble_leave(troubles, kind);
}

void trouble_leave(struct troubles *troubles, enum trouble_kind kind)
{
	struct trouble *trouble = &troubles->kinds[kind];

	if (--trouble->n > 0)
		return;
	*trouble = (struct trouble){ 0 };
	arm(troubles);
}
