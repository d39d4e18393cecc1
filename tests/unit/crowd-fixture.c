#include "crowd-fixture.h"

#include "test.h"

int crowd_set_up(void **state)
{
	struct crowd *crowd = calloc(1, sizeof(*crowd));
	void *fixture;

	assert_non_null(crowd);
	assert_int_equal(consul_fixture_set_up(&fixture), 0);
	crowd->fixture = fixture;
	crowd->model = model_new();
	crowd->fixture->config.max_connections = CONNECTIONS;
	crowd->fixture->config.resync_usec = 1000000 * USEC_PER_SEC;
	assert_int_equal(
		consul_source_reconfigure(crowd->fixture->source, &crowd->fixture->config), 0);
	for (unsigned i = 0; i < N_TREES; i++)
		snprintf(crowd->prefixes[i], sizeof(crowd->prefixes[i]), "config/svc-%02u/", i);
	*state = crowd;
	return 0;
}

void crowd_open(struct crowd *crowd, unsigned i)
{
	struct trees *trees = crowd->fixture->trees;

	assert_int_equal(trees_get(trees, crowd->prefixes[i], &crowd->trees[i]), 0);
}

int crowd_tear_down(void **state)
{
	struct crowd *crowd = *state;
	void *fixture = crowd->fixture;

	for (unsigned i = 0; i < N_TREES; i++)
		tree_unref(crowd->trees[i]);
	/* What was seen without one. */
	assert_int_equal(crowd->fixture->source->n_repairs(crowd->fixture->source), 0);
	consul_fixture_tear_down(&fixture);
	model_free(crowd->model);
	free(crowd);
	return 0;
}

void crowd_put(struct crowd *crowd, unsigned i, const char *name, const char *value)
{
	char key[64];

	snprintf(key, sizeof(key), "%s%s", crowd->prefixes[i], name);
	model_put(crowd->model, key, value);
}

bool crowd_is_right(const struct crowd *crowd, const struct tree *tree)
{
	const struct kvset *set = tree->content;
	const char *key, *value;
	struct record record;
	size_t off = 0;
	unsigned n = 0;

	if (!set)
		return false;
	for (; (key = model_key(crowd->model, tree->prefix, n, &value)); n++) {
		off = off < set->records.size
			      ? record_decode(set->records.data, set->records.size, off, &record)
			      : 0;
		if (off == 0 || !std_streq(record.key, key) || !std_streq(record.value, value))
			return false;
	}
	return set->records.n == n;
}

void crowd_assert_right(const struct crowd *crowd)
{
	assert_true(crowd_is_right(crowd, crowd->fixture->tree));
	for (unsigned i = 0; i < N_TREES; i++)
		if (crowd->trees[i] && !crowd_is_right(crowd, crowd->trees[i]))
			fail_msg("%s is not what the store holds: %s", crowd->prefixes[i],
				tree_error_message(&crowd->trees[i]->error));
}

/* All trees, with two keys each, behind doorbells that have settled. */
struct crowd *crowd_gather(void **state)
{
	struct crowd *crowd = *state;

	for (unsigned i = 0; i < N_TREES; i++) {
		crowd_put(crowd, i, "a", "1");
		crowd_put(crowd, i, "b", "1");
		crowd_open(crowd, i);
	}
	model_run(crowd->model, 10 * USEC_PER_SEC);
	crowd_assert_right(crowd);
	model_forget_answered(crowd->model);
	return crowd;
}

void crowd_close(struct crowd *crowd, unsigned begin, unsigned end)
{
	for (unsigned i = begin; i < end; i++)
		crowd->trees[i] = tree_unref(crowd->trees[i]);
}
